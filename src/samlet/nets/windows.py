"""Cutting a map of tokens into square windows, and back."""

from torch import Tensor
from torch.nn import functional as F


def to_windows(x: Tensor, size: int) -> Tensor:
    """Pad a map with zeros on the right and below, then cut it into windows, row by row.

    There is no shortcut for maps that need no padding: a branch on the size could not be exported.

    Args:
        x: (B, H, W, C).
        size: Side of a window in tokens.

    Returns:
        (B * rows * columns, size * size, C), where rows = ceil(H / size) and columns = ceil(W / size).
    """
    b, h, w, c = x.shape
    rows, columns = _grid(h, size), _grid(w, size)
    x = F.pad(x, (0, 0, 0, columns * size - w, 0, rows * size - h))
    x = x.reshape(b, rows, size, columns, size, c).transpose(2, 3)
    return x.reshape(b * rows * columns, size * size, c)


def from_windows(x: Tensor, size: int, hw: tuple[int, int]) -> Tensor:
    """The inverse of `to_windows`, without the padding: -> (B, H, W, C)."""
    h, w = hw
    rows, columns, c = _grid(h, size), _grid(w, size), x.shape[-1]
    x = x.reshape(-1, rows, columns, size, size, c).transpose(2, 3)
    return x.reshape(-1, rows * size, columns * size, c)[:, :h, :w]


def _grid(length: int, size: int) -> int:
    return (length + size - 1) // size
