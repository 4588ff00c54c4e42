"""`ultralytics.models.fastsam`: FastSAM and its predictor."""

from samlet.compat.ultralytics.fast_sam import FastSAM
from samlet.compat.ultralytics.predictors import FastSAMPredictor

__all__ = ["FastSAM", "FastSAMPredictor"]
