"""Ultralytics' way of calling SAM, MobileSAM and FastSAM, on samlet: no torch, and an import to change.

    from samlet.compat.ultralytics import SAM      # was: from ultralytics import SAM

    model = SAM("mobile_sam.pt")
    results = model("dogs.jpg", points=[[520, 360]], labels=[1])
    results[0].masks.xy, results[0].boxes.conf, results[0].plot()

It was written from the public documentation of that interface; no code of Ultralytics was used. What differs
is told in docs/how-to/from-ultralytics.md.
"""

from samlet.compat.ultralytics.caller import MissingCallError
from samlet.compat.ultralytics.fast_sam import FastSAM
from samlet.compat.ultralytics.parts import Boxes, Masks
from samlet.compat.ultralytics.predictors import FastSAMPredictor, SAMPredictor
from samlet.compat.ultralytics.results import Results
from samlet.compat.ultralytics.sam import SAM

__all__ = [
    "SAM",
    "Boxes",
    "FastSAM",
    "FastSAMPredictor",
    "Masks",
    "MissingCallError",
    "Results",
    "SAMPredictor",
]
