"""From raw bytes to numpy arrays: the kinds of numbers, and a view that cannot leave its buffer.

Whole numbers and truth values keep their kind; every kind of floating number becomes float32. Where bytes already
are what is wanted, the array is a read-only view of them and nothing is copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from samlet.checkpoint.refusal import RefusedError
from samlet.limits import ModelFileLimits

Array = NDArray[np.generic]

_LARGEST = 2**48


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of number.

    Attributes:
        name: As safetensors spells it.
        stored: Little-endian numpy dtype of the bytes; bfloat16 and truth values are stored as whole numbers.
    """

    name: str
    stored: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """Bytes of one number in the file."""
        return self.stored.itemsize

    @property
    def is_kept(self) -> bool:
        """Whether the stored bytes already are the array's."""
        return self.name not in ("F16", "BF16", "F64", "BOOL")


KINDS = {
    name: Kind(name, np.dtype(stored))
    for name, stored in {
        "F16": "<f2",
        "BF16": "<u2",
        "F32": "<f4",
        "F64": "<f8",
        "I8": "i1",
        "I16": "<i2",
        "I32": "<i4",
        "I64": "<i8",
        "U8": "u1",
        "BOOL": "u1",
    }.items()
}
"""The kinds that are read, by their name in safetensors."""


class Growth:
    """Counts what copies of a file's numbers take, so that a small file cannot ask for much memory."""

    def __init__(self, file_bytes: int, limits: ModelFileLimits) -> None:
        # The floor is for small files, whose tensors may share numbers more often than large ones' do.
        self._left = max(file_bytes * limits.max_growth, 2**20)

    def claim(self, count: int) -> None:
        """Take `count` bytes.

        Raises:
            RefusedError: They are more than the file may have.
        """
        self._left -= count
        if self._left < 0:
            raise RefusedError("its tensors would take many times its size in memory")


def check_counts(values: Sequence[object]) -> tuple[int, ...]:
    """Make sure that offsets or strides are whole numbers from zero on.

    Raises:
        RefusedError: They are not.
    """
    for value in values:
        # type() and not isinstance(): True is an int too.
        if type(value) is not int or not 0 <= value < _LARGEST:
            raise RefusedError("a tensor in it has a size or a place that is no whole number from zero on")
    return tuple(value for value in values if isinstance(value, int))


def check_shape(shape: Sequence[object], limits: ModelFileLimits) -> tuple[int, ...]:
    """Make sure that a shape consists of a few whole numbers from zero on.

    Raises:
        RefusedError: It does not, or its product is beyond any memory even without its zeros.
    """
    if len(shape) > limits.max_dims:
        raise RefusedError(f"a tensor in it has {len(shape)} axes, more than {limits.max_dims}")
    sides = check_counts(shape)
    if prod(max(side, 1) for side in sides) >= _LARGEST:
        raise RefusedError("a tensor in it claims more numbers than any computer holds")
    return sides


def span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Count the numbers from a tensor's first to its last, both included, as exact whole numbers."""
    if not prod(shape):
        return 0
    return 1 + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give the strides, in numbers, of a tensor whose last axis is contiguous."""
    strides, step = [], 1
    for side in reversed(shape):
        strides.append(step)
        step *= side
    return tuple(reversed(strides))


def view(
    buffer: memoryview, kind: Kind, shape: tuple[int, ...], strides: tuple[int, ...], growth: Growth
) -> Array:
    """Make an array of the numbers in a buffer.

    Args:
        buffer: Begins with the tensor's first number; numpy itself refuses to look beyond it.
        kind: What the numbers are.
        shape: Checked by `check_shape`.
        strides: Steps in numbers, from zero on.
        growth: Pays for copies.

    Returns:
        A C-contiguous, aligned array; a read-only view of the buffer where its bytes are what is wanted.

    Raises:
        RefusedError: The tensor does not lie within the buffer, or its copy would take too much memory.
    """
    count = prod(shape)
    if not count:
        return _converted(np.empty(shape, kind.stored), kind)
    if span(shape, strides) * kind.size > len(buffer):
        raise RefusedError("a tensor in it lies outside its storage")
    raw: Array = np.ndarray(shape, kind.stored, buffer, 0, tuple(kind.size * step for step in strides))
    if kind.is_kept and raw.flags.c_contiguous and raw.flags.aligned:
        return raw
    growth.claim(count * 4 if kind.stored.kind == "f" or kind.name == "BF16" else count * kind.size)
    return _converted(raw, kind)


def raw_bytes(array: Array, kind: Kind) -> memoryview:
    """Give an array's bytes as they go into a file: row-major, little-endian, copied only if they are not yet so."""
    return np.ascontiguousarray(array, kind.stored).reshape(-1).view(np.uint8).data


def _converted(raw: Array, kind: Kind) -> Array:
    if kind.name == "BOOL":
        return np.ascontiguousarray(raw != 0).reshape(raw.shape)
    if kind.name == "BF16":  # the upper half of a float32
        wide = np.left_shift(raw.astype(np.uint32, order="C"), 16, dtype=np.uint32)
        return np.asarray(wide).view(np.float32)
    if kind.stored.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinity, as everywhere
            return raw.astype(np.float32, order="C")
    return raw.astype(kind.stored, order="C")
