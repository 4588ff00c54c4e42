"""Full-size masks of many logits of one picture: only where a mask can be, and a few rows at a time.

Bilinear resizing is a product with one matrix for each axis, and so are SAM's two steps after each other. The
matrices are made once for a picture. A mask is made from the rows and columns of its logits that rise above the
threshold, so that a small object costs little, and no full-size array of floats ever exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from samlet.geometry import Frame
from samlet.rle import window_runs
from samlet.upscale import Upscale, region_of

_BLOCK = 64  # rows made at a time, at most: 64 x 4,000 floats are 1 MiB and stay in the cache
_FEW = (
    2**18
)  # products in a block: above this OpenBLAS wakes its threads, which took ten times the time of the work
_Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A part of a mask beyond which the mask is empty.

    Attributes:
        inside: (h, w), a view of the picture-sized mask cut out; may have no pixels.
        top: First row in the picture.
        left: First column in the picture.
        inner: Pixels above the threshold plus the offset.
        outer: Pixels above the threshold less the offset.
    """

    inside: NDArray[np.bool_]
    top: int
    left: int
    inner: int = 0
    outer: int = 0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """First and last column and row inside, x0, y0, x1, y1 with *inclusive* ends; zeros if it is empty."""
        rows, columns = np.flatnonzero(self.inside.any(axis=1)), np.flatnonzero(self.inside.any(axis=0))
        if not len(rows):
            return (0, 0, 0, 0)
        x, y = self.left, self.top
        return (x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]), y + int(rows[-1]))

    def runs(self, image_hw: tuple[int, int], *, shift_xy: tuple[int, int] = (0, 0)) -> NDArray[np.int64]:
        """List the run lengths of the mask at the size of a picture, as `samlet.rle.mask_runs` does.

        Args:
            image_hw: Size of the picture.
            shift_xy: Where the window's own picture begins in this one.
        """
        return window_runs(self.inside, image_hw, top=self.top + shift_xy[1], left=self.left + shift_xy[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """How the pixels of one axis are mixed from cells.

    Attributes:
        weights: (pixels, cells), each row adds up to one.
        first: (pixels,) first cell that counts.
        last: (pixels,) last cell that counts.
    """

    weights: _Floats
    first: NDArray[np.int64] = field(init=False)
    last: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        counts = self.weights != 0
        object.__setattr__(self, "first", counts.argmax(axis=1))
        object.__setattr__(self, "last", counts.shape[1] - 1 - counts[:, ::-1].argmax(axis=1))

    @classmethod
    def fast(cls, pixels: int, region: float, cells: int) -> Self:
        """One bilinear step from a region of the cells."""
        return cls(_bilinear(pixels, region, cells))

    @classmethod
    def exact(cls, pixels: int, scaled: int, canvas: int, cells: int) -> Self:
        """SAM's two: from the cells to the canvas, of which the picture's part is cut out and resized."""
        to_canvas = _bilinear(canvas, cells, cells)
        lower, upper, share = _taps(pixels, scaled, scaled)
        return cls(to_canvas[lower] * (1 - share[:, None]) + to_canvas[upper] * share[:, None])

    def touched(self, cells: NDArray[np.int64]) -> tuple[int, int]:
        """First pixel that one of the cells, in order, has a part in, and the pixel after the last."""
        return (
            int(np.searchsorted(self.last, cells[0], "left")),
            int(np.searchsorted(self.first, cells[-1], "right")),
        )

    def blocks(self, start: int, stop: int, times: int) -> Iterator[tuple[slice, slice, _Floats]]:
        """Split pixels into blocks: the pixels, the cells that they need, and the weights between them.

        Each block is used `times` times, which says how large it may be.
        """
        pixels, cells = self.weights.shape
        step = _BLOCK
        while step > 4 and step * (step * cells / pixels + 2) * times > _FEW:
            step //= 2
        for low in range(start, stop, step):
            high = min(low + step, stop)
            span = slice(int(self.first[low]), int(self.last[high - 1]) + 1)
            yield slice(low - start, high - start), span, self.weights[low:high, span]


class Enlarger:
    """Makes full-size masks of one picture's logits.

    Example:
        >>> enlarger = Enlarger(Frame.fit((6, 8), 4), (4, 4), "fast")
        >>> enlarger.cut(np.ones((4, 4), np.float32), 0.0).inside.shape
        (6, 8)
    """

    def __init__(self, frame: Frame, grid_hw: tuple[int, int], upscale: Upscale) -> None:
        """Prepare for one frame.

        Args:
            frame: How the picture lies in the network's input.
            grid_hw: Size of the logits.
            upscale: "fast" for one bilinear step, "exact" for SAM's two.
        """
        self._rows, self._columns = (
            _Axis.fast(frame.image_hw[axis], region_of(frame, grid_hw)[axis], grid_hw[axis])
            if upscale == "fast"
            else _Axis.exact(
                frame.image_hw[axis], frame.scaled_hw[axis], frame.canvas_hw[axis], grid_hw[axis]
            )
            for axis in (0, 1)
        )

    @property
    def needed_hw(self) -> tuple[int, int]:
        """How many rows and columns of the logits, from the top-left corner, the picture's masks depend on."""
        return int(self._rows.last.max()) + 1, int(self._columns.last.max()) + 1

    def cut(self, logits: _Floats, threshold: float, *, offset: float | None = None) -> Window:
        """Make one mask, and count for its stability score.

        Args:
            logits: (h, w), or what is left of them when cut to `needed_hw`.
            threshold: Logits above it are inside.
            offset: How far the threshold is moved for the counts; None counts nothing.
        """
        lowest = threshold - (offset or 0.0)
        above = logits > lowest
        rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
        if not len(rows):
            return _nothing()
        (y0, y1), (x0, x1) = self._rows.touched(rows), self._columns.touched(columns)
        if y0 >= y1 or x0 >= x1:  # only in the padding, or between the pixels of a tiny picture
            return _nothing()
        wide = np.empty((len(logits), x1 - x0), np.float32)
        needed = slice(int(self._rows.first[y0]), int(self._rows.last[y1 - 1]) + 1)
        for pixels, cells, weights in self._columns.blocks(x0, x1, needed.stop - needed.start):
            np.matmul(logits[needed, cells], weights.T, out=wide[needed, pixels])
        inside = np.empty((y1 - y0, x1 - x0), np.bool_)
        inner = outer = 0
        for pixels, cells, weights in self._rows.blocks(y0, y1, x1 - x0):
            part = weights @ wide[cells]
            np.greater(part, threshold, out=inside[pixels])
            if offset is not None:
                inner += int(np.count_nonzero(part > threshold + offset))
                outer += int(np.count_nonzero(part > lowest))
        return Window(inside, y0, x0, inner, outer)


def _nothing() -> Window:
    return Window(np.zeros((0, 0), np.bool_), 0, 0)


def _bilinear(pixels: int, region: float, cells: int) -> _Floats:
    """Weights (pixels, cells) of a resize with two taps, pixel centres at one half and repeated edges."""
    lower, upper, share = _taps(pixels, region, cells)
    weights = np.zeros((pixels, cells), np.float32)
    weights[np.arange(pixels), upper] = share
    weights[np.arange(pixels), lower] += 1 - share
    return weights


def _taps(pixels: int, region: float, cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64], _Floats]:
    """For each pixel of an axis the lower cell, the upper one, and the share (0 to 1) of the upper one."""
    where = np.clip((np.arange(pixels) + 0.5) * (region / pixels) - 0.5, 0, cells - 1)
    lower = where.astype(np.int64)
    return lower, np.minimum(lower + 1, cells - 1), (where - lower).astype(np.float32)
