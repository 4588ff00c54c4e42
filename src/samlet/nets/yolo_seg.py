"""YOLOv8-seg with one class: FastSAM (Zhao et al. 2023, arXiv 2306.12156) and MobileSAMv2's box proposer.

Written from the description of the architecture; no code of any YOLO package was used. Official state-dict keys
`model.{i}.*`, where i counts the published layers; 10, 11, 13, 14, 17 and 20 are upsamplings and concatenations.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.errors import InputError
from samlet.nets.deploy import Recipe, fold_

STRIDES = (8, 16, 32)
COEFFICIENTS = 32


@dataclass(frozen=True)
class Size:
    """What differs between sizes."""

    channels: tuple[int, ...]  # at strides 2, 4, 8, 16 and 32
    depths: tuple[int, ...]  # bottlenecks in the four stages of the trunk
    head_depth: int  # bottlenecks in the four stages of the pyramid


SIZES = {
    "s": Size((32, 64, 128, 256, 512), (1, 2, 2, 1), 1),
    "x": Size((80, 160, 320, 640, 640), (3, 6, 6, 3), 3),
}


class Conv(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        y = self.conv(x)
        return F.silu(y if self.bn is None else self.bn(y))

    def deploy_(self) -> dict[str, Recipe]:
        """Fold the norm into the convolution, see `samlet.nets.deploy`."""
        if self.bn is None:
            return {}
        norm, self.bn = self.bn, None
        return fold_(self.conv, norm, names=("conv", "bn"))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, with a residual in the trunk and without one in the pyramid."""

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels, 3)
        self.cv2 = Conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """Half of the channels goes through bottlenecks, one after the other; all that comes up is merged."""

    def __init__(self, c_in: int, c_out: int, depth: int, *, shortcut: bool) -> None:
        super().__init__()
        half = c_out // 2
        self.cv1 = Conv(c_in, c_out)
        self.m = nn.ModuleList(Bottleneck(half, shortcut=shortcut) for _ in range(depth))
        self.cv2 = Conv((2 + depth) * half, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        y: Tensor = self.cv1(x)
        half = y.shape[1] // 2
        parts = [y[:, :half], y[:, half:]]  # slices, because the exporter makes a sequence of chunk()
        for block in self.m:
            parts.append(block(parts[-1]))
        y = self.cv2(torch.cat(parts, 1))
        return y


class Sppf(nn.Module):
    """Maxima over surroundings of 5, 9 and 13 pixels beside the features themselves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels // 2)
        self.cv2 = Conv(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, stride=1, padding=2))
        y: Tensor = self.cv2(torch.cat(parts, 1))
        return y


class Protos(nn.Module):
    """Prototype masks at stride 4 from the features at stride 8."""

    def __init__(self, c_in: int, hidden: int) -> None:
        super().__init__()
        self.cv1 = Conv(c_in, hidden, 3)
        self.upsample = nn.ConvTranspose2d(hidden, hidden, 2, 2)
        self.cv2 = Conv(hidden, hidden, 3)
        self.cv3 = Conv(hidden, COEFFICIENTS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, 32, 2H, 2W)."""
        y: Tensor = self.cv3(self.cv2(self.upsample(self.cv1(x))))
        return y


class Expectation(nn.Module):
    """The mean of a distribution over distances of 0 to reg_max - 1 cells; the distances are in the checkpoint."""

    def __init__(self, reg_max: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(reg_max, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data.copy_(torch.arange(float(reg_max)).reshape(1, -1, 1, 1))

    def forward(self, logits: Tensor) -> Tensor:
        """(B, 4 * reg_max, H, W), side by side -> (B, 4, H, W) distances in cells."""
        b, _, h, w = logits.shape
        # -1, so that an exported graph says reg_max nowhere but in the shapes of its weights.
        bins = logits.reshape(b, 4, -1, h * w).transpose(1, 2)  # (B, reg_max, 4, H * W)
        y: Tensor = self.conv(bins.softmax(1))  # (B, 1, 4, H * W)
        return y.reshape(b, 4, h, w)


class Head(nn.Module):
    """Three branches at each of three strides: box sides (`cv2`), score (`cv3`), mask coefficients (`cv4`).

    Args:
        channels: Of the features at strides 8, 16 and 32.
        reg_max: Number of distances that a box side may take; 16 in FastSAM-s, 26 in the others.
        protos: Hidden channels of the prototype branch; 0 leaves it out.
    """

    def __init__(self, channels: tuple[int, int, int], *, reg_max: int, protos: int) -> None:
        super().__init__()
        finest = channels[0]
        self.cv2 = _branch(channels, max(16, finest // 4, 4 * reg_max), 4 * reg_max)
        self.cv3 = _branch(channels, finest, 1)
        self.dfl = Expectation(reg_max)
        self.proto = Protos(finest, protos) if protos else None
        self.cv4 = _branch(channels, max(finest // 4, COEFFICIENTS), COEFFICIENTS)

    def forward(self, features: list[Tensor]) -> Tensor:
        """(B, C, H / s, W / s) for the strides s -> (B, 5 + 32, A), see `YoloSeg.forward`."""
        levels = []
        for i, (x, stride) in enumerate(zip(features, STRIDES, strict=True)):
            boxes = decode(self.dfl(self.cv2[i](x)), stride)
            levels.append(torch.cat([boxes, self.cv3[i](x).sigmoid(), self.cv4[i](x)], 1).flatten(2))
        return torch.cat(levels, 2)

    def raw(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What the three branches say at each stride, for training: nothing is decoded.

        Returns:
            For each stride (B, 4 * reg_max, h, w) logits of distances, (B, 1, h, w) logits of the score and
            (B, 32, h, w) mask coefficients.
        """
        return [(self.cv2[i](x), self.cv3[i](x), self.cv4[i](x)) for i, x in enumerate(features)]


def _branch(channels: tuple[int, ...], hidden: int, c_out: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(Conv(c_in, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, c_out, 1))
        for c_in in channels
    )


def decode(sides: Tensor, stride: int) -> Tensor:
    """Boxes from the distances between each cell's centre and the four sides.

    Args:
        sides: (B, 4, H, W) left, top, right, bottom, in cells.
        stride: Model pixels in a cell.

    Returns:
        (B, 4, H, W) centre x, centre y, width, height in model pixels.
    """
    h, w = sides.shape[-2:]
    low, high = sides[:, :2], sides[:, 2:]
    x = torch.arange(w, device=sides.device).to(sides.dtype) + 0.5
    y = torch.arange(h, device=sides.device).to(sides.dtype) + 0.5
    cells = torch.stack([x.expand(h, w), y[:, None].expand(h, w)])  # (2, H, W)
    return torch.cat([cells + (high - low) / 2, low + high], 1) * stride


class YoloSeg(nn.Module):
    """YOLOv8-seg for class-agnostic objects.

    Args:
        size: "s" (11.8 million parameters) or "x" (72.2 million).
        reg_max: See `Head`; a checkpoint's is the length of `model.22.dfl.conv.weight`.
        protos: False for the object-aware detector, whose masks nobody reads: boxes and coefficients only.
    """

    def __init__(self, size: str, reg_max: int = 16, protos: bool = True) -> None:
        super().__init__()
        spec = SIZES[size]
        c1, c2, c3, c4, c5 = spec.channels
        d2, d3, d4, d5 = spec.depths
        d = spec.head_depth
        layers: dict[int, nn.Module] = {
            0: Conv(3, c1, 3, 2),
            1: Conv(c1, c2, 3, 2), 2: C2f(c2, c2, d2, shortcut=True),
            3: Conv(c2, c3, 3, 2), 4: C2f(c3, c3, d3, shortcut=True),
            5: Conv(c3, c4, 3, 2), 6: C2f(c4, c4, d4, shortcut=True),
            7: Conv(c4, c5, 3, 2), 8: C2f(c5, c5, d5, shortcut=True),
            9: Sppf(c5),
            12: C2f(c5 + c4, c4, d, shortcut=False),
            15: C2f(c4 + c3, c3, d, shortcut=False),
            16: Conv(c3, c3, 3, 2), 18: C2f(c3 + c4, c4, d, shortcut=False),
            19: Conv(c4, c4, 3, 2), 21: C2f(c4 + c5, c5, d, shortcut=False),
            22: Head((c3, c4, c5), reg_max=reg_max, protos=c3 if protos else 0),
        }  # fmt: skip
        self.model = nn.ModuleDict({str(i): layer for i, layer in layers.items()})

    @property
    def head(self) -> Head:
        """The last layer."""
        return cast("Head", self.model["22"])

    def raw(self, image: Tensor) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
        """For training: what `Head.raw` gives for the picture, and the prototypes; image as in `forward`."""
        features = self.features(image)
        protos: Tensor = cast("Protos", self.head.proto)(features[0])
        return self.head.raw(features), protos

    def features(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the pyramid at strides 8, 16 and 32."""
        trunk: list[Tensor] = []
        x = image
        for i in range(10):
            x = self.model[str(i)](x)
            trunk.append(x)
        top = trunk[9]
        middle = self._merge(12, F.interpolate(top, scale_factor=2.0), trunk[6])
        fine = self._merge(15, F.interpolate(middle, scale_factor=2.0), trunk[4])
        middle = self._merge(18, self.model["16"](fine), middle)
        return [fine, middle, self._merge(21, self.model["19"](middle), top)]

    def _merge(self, layer: int, x: Tensor, y: Tensor) -> Tensor:
        merged: Tensor = self.model[str(layer)](torch.cat([x, y], 1))
        return merged

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Find candidates, one for each cell of three grids; nothing is suppressed yet.

        Args:
            image: (B, 3, H, W) float32, RGB in 0..1, sides multiples of 32, model pixels.

        Returns:
            candidates: (B, 5 + 32, A) with A the cells at strides 8, 16 and 32, in this order and row by row:
                centre x, centre y, width and height in model pixels, score in 0..1, 32 mask coefficients.
            protos: (B, 32, H / 4, W / 4); a candidate's mask logits are its coefficients times these. Not
                returned by the detector without them.

        Raises:
            InputError: The sides are not multiples of 32.
        """
        h, w = image.shape[-2:]
        if h % 32 or w % 32:
            raise InputError(f"expected sides that are multiples of 32, got {h} x {w}; pad the picture")
        features = self.features(image)
        head = self.head
        candidates: Tensor = head(features)
        return candidates if head.proto is None else (candidates, head.proto(features[0]))
