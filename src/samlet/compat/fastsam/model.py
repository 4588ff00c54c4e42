"""`FastSAM(weights)(picture)`: everything in a picture in one pass."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import samlet
from samlet.card import Card
from samlet.compat.fastsam.results import Results, picture_of
from samlet.errors import InputError
from samlet.families import fastsam
from samlet.image import Image
from samlet.instances import InstanceRules, rules_of
from samlet.model import Model

_STRIDE = 32
_MAX_SIDE = 8192


class FastSAM:
    """FastSAM's model, called as in its own package.

    Example:
        >>> model = FastSAM("FastSAM-x.pt")  # doctest: +SKIP
        >>> results = model("dogs.jpg", retina_masks=True, imgsz=1024, conf=0.4, iou=0.9)  # doctest: +SKIP
        >>> results[0].masks.data.shape  # doctest: +SKIP
        (83, 533, 800)
    """

    def __init__(self, model: str | Path | Model = "FastSAM-x.pt") -> None:
        """Load a model.

        Args:
            model: Path of FastSAM's weights, a name that `samlet.load` knows, or what `samlet.load` gave, for
                instance with another backend. Nothing in the file is executed.

        Raises:
            ModelError: There is no such model, or its file is missing, damaged or of another kind.
            InputError: The model is not of FastSAM's family.
        """
        self.model = model if isinstance(model, Model) else samlet.load(model)
        if self.model.card.family != "fastsam":
            raise InputError(
                f"expected FastSAM's weights, got {self.model.card.name} of the family {self.model.card.family}; "
                "give FastSAM-s.pt or FastSAM-x.pt"
            )

    def __call__(  # noqa: PLR0913, PLR0917  the reference's own arguments
        self,
        source: Any,
        device: Any = None,
        retina_masks: bool = True,
        imgsz: int = 1024,
        conf: float = 0.4,
        iou: float = 0.9,
        max_det: int = 300,
        agnostic_nms: bool = False,
        verbose: bool = False,
    ) -> list[Results]:
        """Find everything in one or several pictures.

        Args:
            source: A path, a Pillow image, an array (H, W, 3) in BGR order, or a list of those.
            device: Not looked at; the backend of the model decides.
            retina_masks: Whether masks are made at the size of the picture. False makes them at the network's
                size, which is coarser, and brings them to the picture's size afterwards.
            imgsz: Longest side of the picture inside the network, rounded up to a multiple of 32.
            conf: Scores must lie above this, at least 0.001.
            iou: Of two boxes that overlap by more than this the better one stays.
            max_det: Most instances a picture.
            agnostic_nms: Not looked at: there is one class.
            verbose: Not looked at: nothing is printed.

        Returns:
            One `Results` for each picture, in order, also where nothing was found.

        Raises:
            InputError: A number is out of range.
            ImageError: A picture is missing or broken.
            LimitError: A picture is too large.
            BackendError: The runtime failed.
        """
        card = replace(self.model.card, side=_side(imgsz))
        rules = rules_of(card, conf=conf, iou=iou, max_det=max_det, retina=retina_masks)
        sources = source if isinstance(source, list | tuple) else [source]
        return [self._found(picture_of(one), card, rules) for one in sources]

    predict = __call__

    def _found(self, image: Image, card: Card, rules: InstanceRules) -> Results:
        feeds, frame = fastsam.feed(image, card)
        embedding = replace(self.model.session.encode(feeds, frame), image=image)
        return Results(fastsam.instances(embedding, card, rules), image)


def _side(imgsz: Any) -> int:
    if isinstance(imgsz, Sequence) and len(imgsz) and not isinstance(imgsz, str):
        imgsz = max(imgsz)
    if not isinstance(imgsz, int) or not 1 <= imgsz <= _MAX_SIDE:
        raise InputError(
            f"expected imgsz as a whole number from 1 to {_MAX_SIDE}, got {imgsz!r:.80}; 1024 is usual"
        )
    return -(-imgsz // _STRIDE) * _STRIDE
