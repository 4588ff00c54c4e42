"""EfficientViT-SAM's image encoder (Zhang et al. 2024, arXiv 2402.05008): convolutions, then linear attention.

Official state-dict keys without their prefix `image_encoder.`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.errors import InputError
from samlet.nets.deploy import Recipe, fold_
from samlet.nets.layers import LayerNorm2d

WIDTHS = (32, 64, 128, 256, 512)
# size: (blocks after the first one of each stage, blocks of the neck)
DEPTHS = {"l0": ((1, 1, 1, 4, 4), 4), "l1": ((1, 1, 1, 6, 6), 8), "l2": ((1, 2, 2, 8, 8), 12)}
EPS = 1e-6  # of batch norms and of the layer norm
HEAD_DIM = 32
DIM_OUT = 256


class Conv(nn.Module):
    """Convolution that keeps the size (or halves it), and what follows it: a batch norm, a bias, or nothing."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, then: str = "norm"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=then == "bias")
        self.norm = nn.BatchNorm2d(c_out, eps=EPS) if then == "norm" else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        y: Tensor = self.conv(x)
        return y if self.norm is None else self.norm(y)

    def deploy_(self) -> dict[str, Recipe]:
        """Fold the norm into the convolution, see `samlet.nets.deploy`."""
        if self.norm is None:
            return {}
        norm, self.norm = self.norm, None
        return fold_(self.conv, norm, names=("conv", "norm"))


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh approximation, as the released weights expect."""
    return F.gelu(x, approximate="tanh")


class ConvPair(nn.Module):
    """Two 3x3 convolutions with one activation between them (first stage)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels, 3)
        self.conv2 = Conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y: Tensor = self.conv2(gelu(self.conv1(x)))
        return y


class FusedMBConv(nn.Module):
    """Expand by a 3x3 convolution, project by a 1x1."""

    def __init__(self, c_in: int, c_out: int, *, expand: int, stride: int = 1) -> None:
        super().__init__()
        self.spatial_conv = Conv(c_in, c_in * expand, 3, stride=stride)
        self.point_conv = Conv(c_in * expand, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        y: Tensor = self.point_conv(gelu(self.spatial_conv(x)))
        return y


class MBConv(nn.Module):
    """Expand by a 1x1 convolution, filter each channel by a 3x3, project by a 1x1; only the last has a norm."""

    def __init__(self, c_in: int, c_out: int, *, expand: int, stride: int = 1) -> None:
        super().__init__()
        hidden = c_in * expand
        self.inverted_conv = Conv(c_in, hidden, then="bias")
        self.depth_conv = Conv(hidden, hidden, 3, stride=stride, groups=hidden, then="bias")
        self.point_conv = Conv(hidden, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        y: Tensor = self.point_conv(gelu(self.depth_conv(gelu(self.inverted_conv(x)))))
        return y


class LiteMLA(nn.Module):
    """Linear attention with a ReLU kernel at two scales: of the pixels, and of their 5x5 surroundings."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        heads, wide = channels // HEAD_DIM, 3 * channels
        self.qkv = Conv(channels, wide, then="nothing")
        scale = nn.Sequential(
            nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False),
            nn.Conv2d(wide, wide, 1, groups=3 * heads, bias=False),
        )
        self.aggreg = nn.ModuleList([scale])
        self.proj = Conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        fine = self.qkv(x)
        qkv = torch.cat([fine, self.aggreg[0](fine)], 1)
        if torch.is_autocast_enabled(x.device.type):
            # Sums over all pixels, and their quotient, need the range of float32.
            with torch.autocast(x.device.type, enabled=False):
                y = attend(qkv.float())
        else:
            y = attend(qkv)
        out: Tensor = self.proj(y)
        return out


def attend(qkv: Tensor) -> Tensor:
    """Linear attention, linear in the number of pixels because keys meet values first.

    Args:
        qkv: (B, heads * 3 * 32, H, W) float32; each head has its queries, keys and values side by side.

    Returns:
        (B, heads * 32, H, W).
    """
    _, wide, h, w = qkv.shape
    heads = qkv.reshape(-1, wide // (3 * HEAD_DIM), 3 * HEAD_DIM, h * w)
    # Slices, because the exporter makes a sequence of chunk(); (B, heads, 32, H * W) each.
    q, k = heads[:, :, :HEAD_DIM].relu(), heads[:, :, HEAD_DIM : 2 * HEAD_DIM].relu()
    v = heads[:, :, 2 * HEAD_DIM :]
    key_values = v @ k.transpose(-1, -2)  # (B, heads, 32 of v, 32 of k)
    weight = k.sum(-1, keepdim=True).transpose(-1, -2)  # (B, heads, 1, 32)
    y = (key_values @ q) / (weight @ q + 1e-15)
    return y.reshape(-1, wide // 3, h, w)


class Residual(nn.Module):
    """`main`, and its input added where it is not the block that changes the shape."""

    def __init__(self, main: nn.Module, *, shortcut: bool = True) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        y: Tensor = self.main(x)
        return x + y if self.shortcut else y


class EfficientViTBlock(nn.Module):
    """Attention for the context, then an inverted bottleneck for the detail."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.context_module = Residual(LiteMLA(channels))
        self.local_module = Residual(MBConv(channels, channels, expand=6))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y: Tensor = self.local_module(self.context_module(x))
        return y


class OpList(nn.Module):
    """Modules one after the other; keys `op_list.{i}`."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Through all of them."""
        for module in self.op_list:
            x = module(x)
        return x


class Backbone(nn.Module):
    """EfficientViT-L (Cai et al. 2023, arXiv 2205.14756): five stages, each halves the picture."""

    def __init__(self, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_stage(i, depth) for i, depth in enumerate(depths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, 32, H / 2, W / 2), ..., (B, 512, H / 32, W / 32), sizes rounded up."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _stage(index: int, depth: int) -> OpList:
    c_out = WIDTHS[index]
    if index == 0:
        return OpList(_Stem(c_out), *(Residual(ConvPair(c_out)) for _ in range(depth)))
    c_in = WIDTHS[index - 1]
    if index == 4:
        first: nn.Module = MBConv(c_in, c_out, expand=24, stride=2)
        rest: list[nn.Module] = [EfficientViTBlock(c_out) for _ in range(depth)]
    else:
        block = MBConv if index == 3 else FusedMBConv
        first = block(c_in, c_out, expand=16, stride=2)
        rest = [Residual(block(c_out, c_out, expand=4)) for _ in range(depth)]
    return OpList(Residual(first, shortcut=False), *rest)


class _Stem(Conv):
    def __init__(self, c_out: int) -> None:
        super().__init__(3, c_out, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C_out, H / 2, W / 2)."""
        return gelu(super().forward(x))


class Neck(nn.Module):
    """The last three stages at one size, summed and refined."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.input_ops = nn.ModuleList(OpList(Conv(width, DIM_OUT)) for width in reversed(WIDTHS[2:]))
        self.middle = OpList(*(Residual(FusedMBConv(DIM_OUT, DIM_OUT, expand=1)) for _ in range(depth)))
        self.output_ops = nn.ModuleList([OpList(Conv(DIM_OUT, DIM_OUT, then="bias"))])

    def forward(self, features: list[Tensor]) -> Tensor:
        """The backbone's features -> (B, 256, H / 8, W / 8), H and W of the backbone's input."""
        *coarse, y = (op(x) for op, x in zip(self.input_ops, reversed(features[2:]), strict=True))
        for x in coarse:
            y = y + resize(x, y.shape[-2], y.shape[-1])
        out: Tensor = self.output_ops[0](self.middle(y))
        return out


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resampling as torch has it, in two matrix products: ONNX Runtime's `Resize` takes ten times as long.

    Args:
        x: (B, C, H, W).
        height: Of the result.
        width: Of the result.

    Returns:
        (B, C, height, width).
    """
    rows, columns = _taps(x, x.shape[-2], height), _taps(x, x.shape[-1], width)
    return rows @ x @ columns.T


def _taps(like: Tensor, count: int, wanted: int) -> Tensor:
    """(wanted, count): each result's weights of the four samples around it (Keys's kernel, a = -3/4)."""
    exact = torch.promote_types(
        like.dtype, torch.float32
    )  # bfloat16 cannot tell the places of a large map apart
    place = (torch.arange(wanted, device=like.device).to(exact) + 0.5) * (count / wanted) - 0.5
    index = place.floor()[:, None] + torch.arange(-1.0, 3.0, device=like.device, dtype=exact)  # (wanted, 4)
    d = (place[:, None] - index).abs()
    near, far = (1.25 * d - 2.25) * d * d + 1, ((3.75 - 0.75 * d) * d - 6) * d + 3
    weights = torch.where(d < 1, near, far)
    samples = torch.arange(count, device=like.device).to(exact)
    # Beyond the border the outermost sample repeats. (A clamp with bounds leaves casts that the runtime warns of.)
    hits = index.relu().minimum(samples[-1])[:, :, None] == samples  # (wanted, 4, count)
    return (weights[:, :, None] * hits).sum(1).to(like.dtype)


class EfficientViTSam(nn.Module):
    """SAM's image encoder on EfficientViT-L; 30.7, 43.6 and 57.3 million parameters.

    The published network takes SAM's padded 1024 x 1024 canvas and first makes it 512 x 512. So does this one: it
    averages each 2 x 2 pixels, which is what bilinear resampling to half the size computes.

    Args:
        size: "l0", "l1" or "l2".
    """

    def __init__(self, size: str) -> None:
        super().__init__()
        depths, neck = DEPTHS[size]
        self.backbone = Backbone(depths)
        self.neck = Neck(neck)
        self.norm = LayerNorm2d(DIM_OUT, eps=EPS)

    def forward(self, image: Tensor) -> Tensor:
        """Encode.

        Args:
            image: (B, 3, H, W) float32, normalised and padded, model pixels. 1024 x 1024 is the published size;
                others must be multiples of 32, and of 64 for the coarsest stage to lie exactly under the others.

        Returns:
            (B, 256, H / 16, W / 16) image embedding.

        Raises:
            InputError: The sides are not multiples of 32.
        """
        h, w = image.shape[-2:]
        if h % 32 or w % 32:
            raise InputError(f"expected sides that are multiples of 32, got {h} x {w}; pad the picture")
        y: Tensor = self.norm(self.neck(self.backbone(F.avg_pool2d(image, 2))))
        return y
