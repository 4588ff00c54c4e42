"""What a prompt answers: N masks of one picture with scores, made at full size when somebody asks."""

from samlet.masks.logits import Masks
from samlet.masks.stored import StoredMasks

__all__ = ["Masks", "StoredMasks"]
