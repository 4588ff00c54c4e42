"""A numpy array that also answers to what people call on a tensor, so that their code runs without torch."""

from collections.abc import Iterator
from typing import Any, Self, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

_NO_DTYPE = ("cpu", "cuda", "mps", "xpu", "npu")


class HostArray(np.ndarray[Any, Any]):
    """A numpy array with a tensor's small change: `.cpu()`, `.numpy()`, `.to()`, `.detach()`, `.float()`, ...

    It always lies in the computer's own memory, whatever device it is "sent" to. One element, a row's number
    for instance, stays an array without axes, so that `boxes.conf[0].item()` and `float(boxes.conf[0])` both
    work. Everything else is numpy's: `axis=` instead of `dim=`, and `.size` is a number, not a function.

    Example:
        >>> host(np.array([[1.0, 2.0]]))[0, 1].cpu().numpy().item()
        2.0
    """

    device = "cpu"
    requires_grad = False

    def __getitem__(self, index: Any) -> Any:
        """Take a part; a single element stays an array, as in torch."""
        return host(super().__getitem__(index))

    def __iter__(self) -> Iterator[Any]:
        """Go along the first axis."""
        return (self[row] for row in range(len(self)))

    def __round__(self, digits: Any = 0) -> Any:
        """Round each number; a single one becomes a plain number."""
        return round(self.item(), digits) if self.ndim == 0 else self.round(digits)

    def numpy(self) -> NDArray[Any]:
        """Give the plain numpy array, which shares the memory."""
        return self.view(np.ndarray)

    def to(self, *targets: Any, **options: Any) -> Self:
        """Convert to another dtype, if one is named; devices change nothing.

        Args:
            *targets: Names of devices, dtypes that numpy knows, or other arrays; torch's own dtypes count by
                their names.
            **options: `dtype` as above; the others are a matter of devices.

        Returns:
            A converted copy, or the array itself.
        """
        wanted = [*targets, options.get("dtype")]
        dtypes = [dtype for target in wanted if (dtype := _dtype_of(target)) is not None]
        return self._as(dtypes[0]) if dtypes else self

    def cpu(self) -> Self:
        """Give itself."""
        return self

    def cuda(self, *_: Any, **__: Any) -> Self:
        """Give itself: there is no other device."""
        return self

    def detach(self) -> Self:
        """Give itself: there is no gradient."""
        return self

    def contiguous(self) -> Self:
        """Give itself, or a copy whose elements lie in order."""
        return np.ascontiguousarray(self).reshape(self.shape).view(type(self))

    def clone(self) -> Self:
        """Give a copy."""
        return self.copy()

    def float(self) -> Self:
        """Convert to float32."""
        return self._as(np.float32)

    def double(self) -> Self:
        """Convert to float64."""
        return self._as(np.float64)

    def int(self) -> Self:
        """Convert to int32."""
        return self._as(np.int32)

    def long(self) -> Self:
        """Convert to int64."""
        return self._as(np.int64)

    def bool(self) -> Self:
        """Convert to bool."""
        return self._as(np.bool_)

    def byte(self) -> Self:
        """Convert to uint8."""
        return self._as(np.uint8)

    def dim(self) -> Any:
        """Count the axes."""
        return self.ndim

    def numel(self) -> Any:
        """Count the elements."""
        return super().size

    def unsqueeze(self, axis: Any) -> Self:
        """Add an axis of length 1."""
        return cast(Self, np.expand_dims(self, axis))

    def _as(self, dtype: DTypeLike) -> Self:
        return cast(Self, self.astype(dtype, copy=False))


def host(array: Any) -> HostArray:
    """Give an array the tensor's small change, without copying it.

    Example:
        >>> host(np.arange(3)).float().dtype
        dtype('float32')
    """
    return np.asarray(array).view(HostArray)


def _dtype_of(target: Any) -> DTypeLike | None:
    """Find the dtype that a target of `to` names; None for a device."""
    if target is None or isinstance(target, bool | int):
        return None
    text = str(target)  # "torch.float32", or a name of numpy's
    if isinstance(target, np.ndarray):
        return cast(DTypeLike, target.dtype)
    if text.split(":", 1)[0] in _NO_DTYPE or type(target).__name__ == "device":
        return None
    return np.dtype(text.removeprefix("torch.") if text.startswith("torch.") else target)
