"""The object head of `nano`: boxes of whatever looks like an object, read off the embedding that is there anyway.

Anchor-free as FCOS (Tian et al. 2019): each place of three grids gives the distances to the four sides of its
object. Scored by localisation quality as OLN (Kim et al. 2021): how central the place is, and how well its box fits;
there are no classes.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.nets.layers import LayerNorm2d
from samlet.nets.nano import DETAIL8, TOKEN_DIM, unpack

STRIDES = (8, 16, 32)
WIDTHS = (48, 96, 128)  # channels at these strides: what is costly is the fine grid
FIT = 0.8  # share of the IoU in the score's exponents, centre-ness has the rest; chosen on held-out pictures
_LONGEST = 4.0  # exp of it, in strides, is the farthest a side can be


class Mix(nn.Module):
    """A 3x3 convolution with a skip: local detail."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = LayerNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + F.relu(self.norm(self.conv(x)))


class Wide(nn.Module):
    """A 7x7 depth-wise convolution and two linear layers with a skip (ConvNeXt's block): far neighbours, cheaply."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.far = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.narrow = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.narrow(F.relu(self.widen(self.norm(self.far(x)))))


class ObjectGrids(nn.Module):
    """Scales of nano's embedding -> features on three grids, fine to coarse: what finders of objects share."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.lateral8 = nn.Conv2d(DETAIL8, fine, 1)
        self.lateral16 = nn.Conv2d(TOKEN_DIM, middle, 1)
        self.local16 = Mix(middle)
        self.down = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.wide32 = nn.Sequential(Wide(coarse), Wide(coarse), Wide(coarse))
        self.up16 = nn.Conv2d(coarse, middle, 1)
        self.mix16 = nn.Sequential(Mix(middle), Wide(middle))
        self.up8 = nn.Conv2d(middle, fine, 1)
        self.mix8 = nn.Sequential(Mix(fine), Mix(fine))
        self.norms = nn.ModuleList(LayerNorm2d(width) for width in WIDTHS)

    def grids(self, tokens: Tensor, detail8: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mix the scales; `norms` come after.

        Args:
            tokens: (B, 256, H/16, W/16).
            detail8: (B, 64, H/8, W/8).

        Returns:
            (B, C, H/s, W/s) for s of `STRIDES` with the C of `WIDTHS`.
        """
        x16 = self.local16(F.relu(self.lateral16(tokens)))
        x32 = self.wide32(F.relu(self.down(x16)))
        x16 = self.mix16(x16 + F.interpolate(self.up16(x32), scale_factor=2.0, mode="nearest"))
        up = F.interpolate(self.up8(x16), scale_factor=2.0, mode="nearest")
        return self.mix8(F.relu(self.lateral8(detail8)) + up), x16, x32


class ObjectHead(ObjectGrids):
    """Packed embedding -> boxes and their quality, one for each place of the three grids."""

    def __init__(self) -> None:
        super().__init__()
        heads = [nn.Conv2d(width, 6, 1) for width in WIDTHS]
        for head in heads:
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, head.bias))
        self.heads = nn.ModuleList(heads)

    def levels(self, tokens: Tensor, detail8: Tensor) -> list[Tensor]:
        """Raw answers of each grid, fine to coarse.

        Args:
            tokens: (B, 256, H/16, W/16).
            detail8: (B, 64, H/8, W/8).

        Returns:
            (B, 6, H/s, W/s) for s of `STRIDES`: logarithms of the distances to the left, upper, right and lower
            side in strides, then the logits of centre-ness and of the box's IoU.
        """
        grids = self.grids(tokens, detail8)
        return [head(F.relu(norm(x))) for head, norm, x in zip(self.heads, self.norms, grids, strict=True)]

    def propose(self, tokens: Tensor, detail8: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, A, 4) in canvas pixels, clipped to the canvas, and scores (B, A) in 0..1; see `forward`."""
        answers = self.levels(tokens, detail8)
        boxes = torch.cat([decode(a, s) for a, s in zip(answers, STRIDES, strict=True)], dim=1)
        quality = torch.cat([a[:, 4:].flatten(2) for a in answers], dim=2).sigmoid()
        height, width = tokens.shape[2:]
        x = boxes[..., 0::2].clamp(min=0).clamp(max=16 * width)  # (B, A, 2)
        y = boxes[..., 1::2].clamp(min=0).clamp(max=16 * height)
        central, fit = quality.unbind(1)
        return torch.stack([x, y], dim=-1).flatten(2), central.pow(1 - FIT) * fit.pow(FIT)

    def forward(self, image_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 256, H/8, W/8) -> boxes (1, A, 4) in canvas pixels, on the canvas, and scores (1, A) in 0..1.

        The score is a geometric mean of centre-ness and IoU, see `FIT`.
        A = H W (1/64 + 1/256 + 1/1024), fine grid first.
        """
        tokens, detail8, _ = unpack(image_embeddings)
        return self.propose(tokens, detail8)


def centres(h: int, w: int, stride: int, like: Tensor) -> Tensor:
    """Middles of the cells of a grid, canvas pixels: (h w, 2) x, y, row by row."""
    y = (torch.arange(h, device=like.device, dtype=torch.float32) + 0.5) * stride
    x = (torch.arange(w, device=like.device, dtype=torch.float32) + 0.5) * stride
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)], dim=-1).reshape(-1, 2)


def decode(answer: Tensor, stride: int) -> Tensor:
    """Raw answer of one grid (B, 6, h, w) -> boxes (B, h w, 4) x0, y0, x1, y1 in canvas pixels, not clipped."""
    h, w = answer.shape[2:]
    reach = answer[:, :4].flatten(2).transpose(1, 2).clamp(max=_LONGEST).exp() * stride  # (B, h w, 4)
    middle = centres(h, w, stride, answer)
    return torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=-1)
