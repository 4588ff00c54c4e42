"""Encoders that are made to be distilled: a backbone with features at strides 4 to 32, and one of two necks.

The neck decides whose decoder reads the embedding: `SamStudent` gives SAM's map at stride 16, `NanoStudent` the
packed one of `nano`. A new backbone is one more line in `BACKBONES`.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from samlet.nets.efficientnet_lite import FEATURE_CHANNELS, EfficientNetLite0
from samlet.nets.layers import LayerNorm2d
from samlet.nets.nano import Neck, pack
from samlet.nets.plain_conv import PlainConv

BACKBONES: dict[str, tuple[Callable[[], nn.Module], dict[int, int]]] = {
    "lite0": (EfficientNetLite0, FEATURE_CHANNELS),
    "plain_s": (lambda: PlainConv("s"), PlainConv("s").channels),
    "plain_m": (lambda: PlainConv("m"), PlainConv("m").channels),
}
"""How to build a backbone, and the channels of its features by stride."""


class SamStudent(nn.Module):
    """Normalised picture (B, 3, H, W), sides multiples of 32 -> (B, 256, H/16, W/16), as SAM's encoder gives it."""

    def __init__(self, backbone: str, width: int = 256) -> None:
        """Build it with a backbone of `BACKBONES`."""
        super().__init__()
        build, c = BACKBONES[backbone]
        self.backbone = build()
        self.deep = nn.Conv2d(c[32], width, 1)
        self.lateral16 = nn.Conv2d(c[16], width, 1)
        self.lateral8 = nn.Conv2d(c[8], width, 2, 2)  # stride 8 in steps of two: no pixel is left out
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, 256, 3, padding=1, bias=False)
        self.norm = LayerNorm2d(256)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> the embedding."""
        features = self.backbone(image)
        up = F.interpolate(self.deep(features[32]), scale_factor=2.0, mode="nearest")
        x = F.relu(self.lateral16(features[16]) + self.lateral8(features[8]) + up)
        x = x + F.relu(self.mix(x))
        out: Tensor = self.norm(self.out(x))
        return out


class NanoStudent(nn.Module):
    """Normalised picture (B, 3, H, W), sides multiples of 32 -> (B, 256, H/8, W/8), packed as nano's."""

    def __init__(self, backbone: str, width: int = 96) -> None:
        """Build it with a backbone of `BACKBONES`; nano's own neck has a width of 192."""
        super().__init__()
        build, channels = BACKBONES[backbone]
        self.backbone = build()
        self.neck = Neck(width, channels)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> the packed embedding."""
        return pack(*self.neck(self.backbone(image)))
