"""Small layers that several networks share."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of each pixel of an NCHW map (SAM's neck and decoder).

    Computed through the native NHWC layer norm: one fused kernel in torch and one `LayerNormalization`
    node in ONNX, instead of five element-wise passes.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention with a term added to the scores; queries come scaled.

    Eager and compiled PyTorch get its fused kernel. Exported graphs keep the plain products, for which ONNX Runtime and
    OpenVINO have fused kernels of their own.

    Args:
        q: (..., T, d).
        k: (..., S, d).
        v: (..., S, d).
        bias: Broadcasts to (..., T, S).

    Returns:
        (..., T, d).
    """
    if torch.compiler.is_exporting():
        return (q @ k.transpose(-1, -2) + bias).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)


class MLP(nn.Module):
    """`depth` linear layers with ReLU between them; keys `layers.{i}` as in SAM's heads."""

    def __init__(self, dim_in: int, dim_hidden: int, dim_out: int, depth: int) -> None:
        super().__init__()
        dims = [dim_in] + [dim_hidden] * (depth - 1) + [dim_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim_in) -> (..., dim_out)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        out: Tensor = last(x)
        return out


def sub_pixels(x: Tensor, conv: nn.ConvTranspose2d) -> Tensor:
    """A stride-2, kernel-2 transposed convolution on NHWC as one matrix product, its four outputs side by side.

    Exact: with stride equal to the kernel no outputs overlap. Keeps SAM's (in, out, 2, 2) weight layout.

    Args:
        x: (..., C_in).
        conv: Holds the parameters: weight (C_in, C_out, 2, 2) and bias (C_out,).

    Returns:
        (..., 2, 2, C_out): rows, then columns of the sub-pixels.
    """
    weight = conv.weight.permute(0, 2, 3, 1).reshape(conv.in_channels, -1)
    rows, bias = x.reshape(-1, conv.in_channels), conv.bias
    # As a product of two axes a runtime does it together with the bias.
    y = rows @ weight if bias is None else torch.addmm(bias.repeat(4), rows, weight)
    return y.reshape(*x.shape[:-1], 2, 2, conv.out_channels)


def upscale_2x(x: Tensor, conv: nn.ConvTranspose2d) -> Tensor:
    """`sub_pixels` with the sub-pixels in their places: (B, H, W, C_in) -> (B, 2H, 2W, C_out)."""
    b, h, w, _ = x.shape
    return sub_pixels(x, conv).transpose(2, 3).reshape(b, 2 * h, 2 * w, conv.out_channels)
