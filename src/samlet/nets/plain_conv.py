"""A plain convolutional backbone in the manner of RepViT (Wang et al. 2024): mix places, then mix channels.

Each block is a depth-wise 3x3 convolution and a two-layer MLP of 1x1 convolutions, both residual. RepViT trains the
depth-wise part as three branches that it adds up afterwards, and weighs channels in every other block; this one is
trained in the form it runs in. Batch norms fold away at load.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from samlet.nets.tiny_vit import ConvNorm


@dataclass(frozen=True)
class PlainSize:
    """Channels and blocks of the four stages, at strides 4, 8, 16 and 32."""

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


SIZES = {
    "s": PlainSize((32, 64, 128, 192), (1, 2, 6, 1)),
    "m": PlainSize((48, 96, 192, 384), (2, 2, 14, 2)),  # about RepViT-M0.9
}


class PlainBlock(nn.Module):
    """Depth-wise 3x3 with a residual, then expand twice, GELU, project, with a residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.place = ConvNorm(dim, dim, 3, depthwise=True)
        self.expand = ConvNorm(dim, 2 * dim)
        self.project = ConvNorm(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = x + self.place(x)
        return x + self.project(F.gelu(self.expand(x)))


class PlainDown(nn.Module):
    """Half the map, new width: depth-wise 3x3 of stride 2, then 1x1."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.place = ConvNorm(c_in, c_in, 3, stride=2, depthwise=True)
        self.width = ConvNorm(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / 2, W / 2)."""
        return self.width(self.place(x))


class PlainConv(nn.Module):
    """Normalised picture -> features at strides 4, 8, 16 and 32."""

    def __init__(self, size: str | PlainSize = "s") -> None:
        """Build the trained form.

        Args:
            size: "s", "m" (about RepViT-M0.9), or the numbers of another one.
        """
        super().__init__()
        size = SIZES[size] if isinstance(size, str) else size
        dims = size.dims
        self.channels = dict(zip((4, 8, 16, 32), dims, strict=True))
        self.stem = nn.Sequential(
            ConvNorm(3, dims[0] // 2, 3, stride=2),
            nn.GELU(),
            ConvNorm(dims[0] // 2, dims[0], 3, stride=2),
        )
        stages = []
        for i, (dim, depth) in enumerate(zip(dims, size.depths, strict=True)):
            first = [PlainDown(dims[i - 1], dim)] if i else []
            stages.append(nn.Sequential(*first, *(PlainBlock(dim) for _ in range(depth))))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W), H and W multiples of 32 -> {stride: (B, C, H / stride, W / stride)}."""
        x = self.stem(x)
        features = {}
        for stride, stage in zip(self.channels, self.stages, strict=True):
            x = stage(x)
            features[stride] = x
        return features
