"""TinyViT (Wu et al. 2022) with SAM's neck: the image encoder of MobileSAM (Zhang et al. 2023).

Two stages of a SAM-sized map come at strides 4 and 8, two at stride 16: the last merging does not shrink the map.
Parameters carry MobileSAM's names, so its files load as they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.errors import InputError
from samlet.nets.deploy import Recipe, fold_, window_bias
from samlet.nets.layers import attend
from samlet.nets.vit import neck
from samlet.nets.windows import from_windows, to_windows

HEAD_DIM = 32
STRIDES = (2, 2, 1)  # of the three mergings; ImageNet's TinyViT has a 2 in the last place


@dataclass(frozen=True)
class TinyViTSize:
    """Width, depth and window of each of the four stages; the first has convolutions and thus no window."""

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)


SIZES = {
    "5m": TinyViTSize((64, 128, 160, 320)),
    "11m": TinyViTSize((64, 128, 256, 448)),
    "21m": TinyViTSize((96, 192, 384, 576)),
}


class ConvNorm(nn.Module):
    """A convolution without bias and a batch norm; one convolution in the deploy form. Keys `c` and `bn`."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, *, stride: int = 1, depthwise: bool = False
    ) -> None:
        super().__init__()
        groups = c_out if depthwise else 1
        self.c = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        x = self.c(x)
        return x if self.bn is None else self.bn(x)

    def deploy_(self) -> dict[str, Recipe]:
        """Fold the norm away."""
        if self.bn is None:
            return {}
        recipes = fold_(self.c, self.bn, names=("c", "bn"))
        self.bn = None
        return recipes


class MBConv(nn.Module):
    """Expand four times, depth-wise, project; the last GELU comes after the residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, 4 * dim)
        self.conv2 = ConvNorm(4 * dim, 4 * dim, 3, depthwise=True)
        self.conv3 = ConvNorm(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(x + self.conv3(y))


class Merging(nn.Module):
    """Between two stages: new width, and half the map if `stride` is 2."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(c_in, c_out)
        self.conv2 = ConvNorm(c_out, c_out, 3, stride=stride, depthwise=True)
        self.conv3 = ConvNorm(c_out, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Attention inside windows, with a learned bias for each absolute distance.

    The norm comes after the zero padding: padded tokens are keys and values like any other, namely the norm's
    bias. Trained weights count on that.
    """

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, dim // HEAD_DIM
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)  # rows head by head: 32 of q, 32 of k, 32 of v
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(self.heads, window * window))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        h, w = x.shape[1:3]
        x = self.norm(to_windows(x, self.window))  # (windows, tokens, C)
        qkv = self.qkv(x).unflatten(-1, (self.heads, 3, HEAD_DIM))
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)  # (windows, heads, tokens, 32)
        x = attend(q * HEAD_DIM**-0.5, k, v, self._bias()).transpose(1, 2).flatten(2)
        # Projecting after the cut spares the padding.
        return self.proj(from_windows(x, self.window, (h, w)))

    def _bias(self) -> Tensor:  # (heads, tokens, tokens)
        if hasattr(self, "bias"):
            return self.bias
        # Never cached: a cache made before the weights were loaded would be a bias of zero.
        return window_bias(self.attention_biases, self.window)

    def deploy_(self) -> dict[str, Recipe]:
        """Spread the bias over all pairs of tokens."""
        if hasattr(self, "bias"):
            return {}
        self.bias = nn.Parameter(window_bias(self.attention_biases.detach(), self.window))
        del self.attention_biases
        return {"bias": {"op": "window_bias", "from": "attention_biases", "size": self.window}}


class MLP(nn.Module):
    """Norm, expand four times, GELU, project."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the same shape."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    """Attention, a 3x3 depth-wise convolution that is not residual, and an MLP."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, window)
        self.mlp = MLP(dim)
        self.local_conv = ConvNorm(dim, dim, 3, depthwise=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.attn(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)


class Stage(nn.Module):
    """Blocks and, except after the last stage, a merging; keys `blocks` and `downsample`."""

    def __init__(self, blocks: Iterable[nn.Module], downsample: Merging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the next stage's (B, C', H / stride, W / stride)."""
        tokens_last = isinstance(self.blocks[0], Block)
        x = x.permute(0, 2, 3, 1) if tokens_last else x
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2) if tokens_last else x
        return x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Two 3x3 convolutions of stride 2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, dim // 2, 3, stride=2), nn.GELU(), ConvNorm(dim // 2, dim, 3, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 4, W / 4)."""
        return self.seq(x)


class TinyViT(nn.Module):
    """Normalised picture (B, 3, H, W), sides multiples of 16 -> (B, 256, H/16, W/16).

    The trained form holds a classifier (`norm_head`, `head`) because the official files do; nothing reads it
    and the deploy form is without it.
    """

    def __init__(self, size: str | TinyViTSize = "5m") -> None:
        """Build the trained form.

        Args:
            size: "5m" (MobileSAM's), "11m", "21m", or the numbers of another one.
        """
        super().__init__()
        size = SIZES[size] if isinstance(size, str) else size
        dims = size.dims
        self.patch_embed = PatchEmbed(dims[0])
        mergings = [Merging(a, b, stride) for (a, b), stride in zip(pairwise(dims), STRIDES, strict=True)]
        stages = []
        for i, (dim, depth, window) in enumerate(zip(dims, size.depths, size.windows, strict=True)):
            blocks = [MBConv(dim) if i == 0 else Block(dim, window) for _ in range(depth)]
            stages.append(Stage(blocks, mergings[i] if i < len(mergings) else None))
        self.layers = nn.ModuleList(stages)
        self.norm_head = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], 1000)
        self.neck = neck(dims[-1])

    def forward(self, image: Tensor) -> Tensor:
        """Encode a picture.

        Args:
            image: (B, 3, H, W) float32, normalised; H and W multiples of 16.

        Returns:
            (B, 256, H/16, W/16) image embedding.

        Raises:
            InputError: The sides are not multiples of 16.
        """
        h, w = image.shape[-2:]
        if h % 16 or w % 16:
            raise InputError(f"expected sides that are multiples of 16, got {h} x {w}; pad the picture")
        x = self.patch_embed(image)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)

    def deploy_(self) -> dict[str, Recipe]:
        """Drop the classifier; the parts do the rest."""
        if hasattr(self, "head"):
            del self.norm_head, self.head
        return {}
