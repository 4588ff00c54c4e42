"""`ultralytics.engine.results`: what a call gives."""

from samlet.compat.ultralytics.parts import Boxes, Masks
from samlet.compat.ultralytics.results import Results

__all__ = ["Boxes", "Masks", "Results"]
