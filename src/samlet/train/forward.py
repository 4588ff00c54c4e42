"""The network under mixed precision, as the trainer and the validation both call it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samlet.nets.nano import Nano

MEAN, STD = 127.0, 128.0
Scales = tuple[Tensor, Tensor, Tensor]
"""Tokens, stride-8 detail and stride-4 detail of a batch of pictures."""


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """The autocast type: bfloat16 where the processor is fast at it ("auto"), or "bf16", "fp32"."""
    if name == "auto":
        fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[name]


def channels_last(network: nn.Module) -> None:
    """Lay out all convolution filters as NHWC, in place, the order the CPU kernels prefer."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Forward:
    """A network, where it runs and how precisely."""

    network: Nano
    device: torch.device
    dtype: torch.dtype

    def _amp(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def encode(self, pixels: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Scales:
        """(B, H, W, 3) RGB and (B, H, W), False on padding (zero after normalisation) -> three scales."""
        x, known = torch.from_numpy(pixels).to(self.device), torch.from_numpy(inside).to(self.device)
        x = ((x.float() - MEAN) / STD * known.unsqueeze(-1)).permute(0, 3, 1, 2)
        with self._amp():
            return self.network.encoder.scales(x.contiguous(memory_format=torch.channels_last))

    def decode(
        self, scales: Scales, coords: Tensor, labels: Tensor, previous: Tensor, has: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores (N, 4) and logits (N, 4, h, w) in float32; arguments as `NanoDecoder.decode`."""
        with self._amp():
            iou, masks = self.network.decoder.decode(scales, coords, labels, previous, has)
        return iou.float(), masks.float()
