"""EfficientNet-Lite0 features (Tan & Le 2019; the "lite" variant without squeeze-and-excitation, ReLU6).

Batch norms are folded into the convolutions from the start: training at a handful of pictures a step would
not estimate their statistics, and their element-wise passes over memory cost a CPU time.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (expand ratio, kernel, stride of the first block, channels, repeats)
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
          (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))  # fmt: skip
FEATURE_CHANNELS = {4: 24, 8: 40, 16: 112, 32: 320}


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: for stride 2 the odd pixel goes to the bottom right."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        if self.groups > 1 and torch.is_autocast_enabled("cpu"):
            # The CPU's bfloat16 backward pass of depth-wise filters is up to 15 times slower than float32's.
            with torch.autocast("cpu", enabled=False):
                return self._convolve(x.float())
        return self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        k, s = self.kernel_size[0], self.stride[0]
        if s == 1:
            return F.conv2d(x, self.weight, self.bias, 1, k // 2, 1, self.groups)
        low, high = (k - s) // 2, (k - s + 1) // 2  # even input sizes only: canvases are multiples of 32
        return F.conv2d(F.pad(x, (low, high, low, high)), self.weight, self.bias, s, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """Expand 1x1, depth-wise, project 1x1; ReLU6 after the first two; residual when shapes agree."""

    def __init__(self, c_in: int, c_out: int, *, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = c_in * expand
        self.expand = SameConv(c_in, hidden, 1) if expand != 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv(hidden, c_out, 1)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """RGB scaled by (x - 127) / 128 -> features at strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        stages, c_in = [], 32
        for expand, kernel, stride, c_out, repeats in STAGES:
            blocks = []
            for i in range(repeats):
                blocks.append(
                    InvertedResidual(
                        c_in, c_out, expand=expand, kernel=kernel, stride=stride if i == 0 else 1
                    )
                )
                c_in = c_out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W), H and W multiples of 32 -> {stride: (B, C, H / stride, W / stride)}."""
        x = F.relu6(self.stem(x))
        out = {}
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in (1, 2, 4, 6):
                out[(4, 8, 0, 16, 0, 32)[i - 1]] = x
        return out

    def load_imagenet(self, tensors: Mapping[str, Tensor], eps: float = 1e-3) -> None:
        """Take the ImageNet weights of the `efficientnet_lite0` releases, in file order, folding batch norms.

        Names differ between ports; the order of convolution, then its batch norm, does not.
        """
        names = [
            k for k in tensors if not k.endswith("num_batches_tracked") and "head" not in k and "fc" not in k
        ]
        flat = iter([tensors[k].float() for k in names])
        with torch.no_grad():
            for conv in (m for m in self.modules() if isinstance(m, SameConv)):
                weight, gamma, beta, mean, var = (next(flat) for _ in range(5))
                if conv.bias is None or weight.shape != conv.weight.shape:
                    raise ValueError(
                        f"expected a {tuple(conv.weight.shape)} filter next, got {tuple(weight.shape)}"
                    )
                scale = gamma / (var + eps).sqrt()
                conv.weight.copy_(weight * scale[:, None, None, None])
                conv.bias.copy_(beta - mean * scale)
