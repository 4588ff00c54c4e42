"""The network under mixed precision, as the trainer and the validation both call it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samlet.errors import InputError
from samlet.train.promptable import Promptable

LITE_MEAN, LITE_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """The autocast type: bfloat16 where the processor is fast at it ("auto"), or "bf16", "fp16", "fp32".

    Raises:
        InputError: The name is none of these.
    """
    if name == "auto":
        fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    known = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if name not in known:
        raise InputError(
            f"expected a precision (auto, {', '.join(known)}), got {name!r:.40}; name one of them"
        )
    return known[name]


def channels_last(network: nn.Module) -> None:
    """Lay out all convolution filters as NHWC, in place, the order the CPU kernels prefer."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Forward:
    """A network, where it runs, how precisely, and how it wants its pictures."""

    network: Promptable
    device: torch.device
    dtype: torch.dtype
    mean: tuple[float, float, float] = LITE_MEAN
    std: tuple[float, float, float] = LITE_STD

    def _amp(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def encode(self, pixels: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Tensor:
        """(B, H, W, 3) RGB and (B, H, W), False on padding (zero after normalisation) -> (B, 256, h, w)."""
        x, known = torch.from_numpy(pixels).to(self.device), torch.from_numpy(inside).to(self.device)
        mean, std = x.new_tensor(self.mean, dtype=torch.float32), x.new_tensor(self.std, dtype=torch.float32)
        x = ((x.float() - mean) / std * known.unsqueeze(-1)).permute(0, 3, 1, 2)
        with self._amp():
            out: Tensor = self.network.encoder(x.contiguous(memory_format=torch.channels_last))
        return out

    def decode(
        self, embedding: Tensor, coords: Tensor, labels: Tensor, previous: Tensor, has: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores (N, 4) and logits (N, 4, h, w) in float32; arguments as `Promptable.decode`."""
        with self._amp():
            iou, masks = self.network.decode(embedding, coords, labels, previous, has)
        return iou.float(), masks.float()
