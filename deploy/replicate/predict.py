"""Predictor in the form that Replicate's cog runs; put the project beside this file as samlet/, then `cog predict`."""

import tempfile

from cog import BasePredictor, Input, Path

import samlet
from samlet import drawing


class Predictor(BasePredictor):
    """Loads the model once, and answers one picture at a time."""

    def setup(self) -> None:
        """Load the built-in model; nothing is downloaded."""
        self.model = samlet.load("nano")

    def predict(
        self,
        image: Path = Input(description="Photograph: JPEG, PNG, WebP, BMP or TIFF"),
        points: str = Input(
            default="",
            description="Clicks as x,y in pixels, separated by spaces; a minus before one: not this",
        ),
        box: str = Input(default="", description="A box round the object, as x0,y0,x1,y1 in pixels"),
        output: str = Input(
            default="cutout", choices=["cutout", "mask", "overlay"], description="What to give back"
        ),
    ) -> Path:
        """Cut out what the prompt points at; without one, find everything and draw it."""
        clicks = [[float(value) for value in point.lstrip("-").split(",")] for point in points.split()]
        labels = [0 if point.startswith("-") else 1 for point in points.split()]
        target = Path(tempfile.mkdtemp()) / "result.png"
        if not clicks and not box:
            self.model.everything(str(image)).draw(target)
            return target
        masks = self.model.segment(
            str(image),
            points=clicks or None,
            labels=labels or None,
            boxes=[float(value) for value in box.split(",")] if box else None,
        )
        if output == "overlay":
            masks.draw(target)
        elif output == "mask":
            masks.save(target)
        else:
            drawing.cutout(masks.image, masks.masks[0]).save(target)
        return target
