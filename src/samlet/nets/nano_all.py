"""`nano_all`: every instance of a picture in one pass, FastSAM's way, from nano's features.

The encoder is nano's, the three grids are laid out as its object head's, and the head is YOLOv8-seg's
(samlet.nets.yolo_seg) with the same outputs, so that everything that reads FastSAM's answers reads these.
Prototypes are mixed at stride 4, from the detail that nano's own masks are made of.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.errors import InputError
from samlet.nets.nano import DETAIL4, DETAIL8, NanoEncoder
from samlet.nets.objects import WIDTHS, ObjectGrids
from samlet.nets.yolo_seg import COEFFICIENTS, Conv, Head

REG_MAX = 16


class FineProtos(nn.Module):
    """Prototype masks at stride 4: what the fine grid knows of objects, and where the edges are."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.mix8 = Conv(WIDTHS[0] + DETAIL8, hidden, 3)
        self.up4 = nn.ConvTranspose2d(hidden, DETAIL4, 2, 2)
        self.mix4 = Conv(2 * DETAIL4, hidden, 3)
        self.last = nn.Conv2d(hidden, COEFFICIENTS, 1)

    def forward(self, fine: Tensor, detail8: Tensor, detail4: Tensor) -> Tensor:
        """(B, 48, H/8, W/8), (B, 64, H/8, W/8), (B, 32, H/4, W/4) -> (B, 32, H/4, W/4)."""
        y = self.up4(self.mix8(torch.cat([fine, detail8], 1)))
        out: Tensor = self.last(self.mix4(torch.cat([y, detail4], 1)))
        return out


class NanoAll(nn.Module):
    """Normalised picture -> the candidates and prototypes of `YoloSeg`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = NanoEncoder()
        self.objects = ObjectGrids()
        self.protos = FineProtos()
        self.model = nn.ModuleDict({"22": Head(WIDTHS, reg_max=REG_MAX, protos=0)})

    @property
    def head(self) -> Head:
        """YOLOv8-seg's head, under the number that it has there."""
        return cast("Head", self.model["22"])

    def _features(self, scales: tuple[Tensor, Tensor, Tensor]) -> tuple[list[Tensor], Tensor]:
        tokens, detail8, detail4 = scales
        grids = self.objects.grids(tokens, detail8)
        features = [F.relu(norm(x)) for norm, x in zip(self.objects.norms, grids, strict=True)]
        return features, self.protos(features[0], detail8, detail4)

    def raw(self, image: Tensor) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
        """For training: what `Head.raw` gives for the picture, and the prototypes; image as in `forward`."""
        return self.raw_of(self.encoder.scales(image))

    def raw_of(
        self, scales: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
        """The same from what the encoder made of it, see `NanoEncoder.scales`."""
        features, protos = self._features(scales)
        return self.head.raw(features), protos

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Find candidates, one for each cell of three grids; nothing is suppressed yet.

        Args:
            image: (B, 3, H, W) float32, RGB as (x - 127) / 128, sides multiples of 32, model pixels.

        Returns:
            candidates (B, 5 + 32, A) and protos (B, 32, H / 4, W / 4), see `YoloSeg.forward`.

        Raises:
            InputError: The sides are not multiples of 32.
        """
        h, w = image.shape[-2:]
        if h % 32 or w % 32:
            raise InputError(f"expected sides that are multiples of 32, got {h} x {w}; pad the picture")
        features, protos = self._features(self.encoder.scales(image))
        candidates: Tensor = self.head(features)
        return candidates, protos
