"""`ultralytics.models.sam`: SAM and its predictor."""

from samlet.compat.ultralytics.predictors import SAMPredictor as Predictor
from samlet.compat.ultralytics.sam import SAM

__all__ = ["SAM", "Predictor"]
