"""Where the object of a first frame is in a later one: its own pixels are looked for, not the mask answered last.

An answer's errors would be handed on from frame to frame until the mask has run over everything; the pixels of the
first frame do not change. They are compared on a sketch of at most 128 cells a side, moved and scaled, but not turned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SIDE = 128  # cells of a sketch's longer side
_CELLS = 128  # compared at once; more say little more
_REACH, _STRIDE = 16, 2  # how far a frame is looked through around the last place, in cells
_LEANING = 0.1  # of the way to where an answer is
_SCALES, _LEAST, _MOST = (1.0, 0.98, 1.02), 1 / 3, 3.0
_INSIDE, _INSIDE_TO_SCALE = 0.25, 0.75  # least share inside the frame of what is compared
_SHIFT_PRICE, _SCALE_PRICE = 0.02, 0.5  # in levels of colour: nothing moves without a reason


@dataclass(frozen=True, slots=True)
class Place:
    """A similarity from the cells of the first frame to those of another: `scale * (p - centre) + centre + shift`.

    Attributes:
        scale: How much larger the object is.
        shift: (x, y) in cells.
        centre: (x, y) of the object in the first frame, in cells.
    """

    scale: float
    shift: tuple[float, float]
    centre: tuple[float, float]

    @property
    def middle(self) -> NDArray[np.float64]:
        """Give (x, y) of the object's centre in this frame."""
        middle: NDArray[np.float64] = np.array(self.centre) + np.array(self.shift)
        return middle

    def moved(self, x: float, y: float) -> "Place":
        """Shift it by some cells."""
        return Place(self.scale, (self.shift[0] + float(x), self.shift[1] + float(y)), self.centre)

    def of(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (N, 2) points of the first frame's sketch to this frame's.

        Example:
            >>> Place(2.0, (1.0, 0.0), (4.0, 4.0)).of(np.array([[5.0, 4.0]])).tolist()
            [[7.0, 4.0]]
        """
        centre = np.array(self.centre)
        moved: NDArray[np.float64] = self.scale * (points - centre) + centre + np.array(self.shift)
        return moved

    def back(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (N, 2) points of this frame's sketch to the first frame's.

        Example:
            >>> Place(2.0, (1.0, 0.0), (4.0, 4.0)).back(np.array([[7.0, 4.0]])).tolist()
            [[5.0, 4.0]]
        """
        centre = np.array(self.centre)
        moved: NDArray[np.float64] = (points - centre - np.array(self.shift)) / self.scale + centre
        return moved


class Placing:
    """An object of a first frame, looked for in others.

    Attributes:
        place: Where it is now.
    """

    def __init__(self, pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
        """Begin.

        Args:
            pixels: (H, W, 3) of the first frame.
            mask: (H, W), not empty.
        """
        self._first = self._last = sketch(pixels)
        inside = shrunk_mask(mask, self._first.shape[:2])
        rows, columns = np.nonzero(_widened(inside))
        every = -(-len(rows) // _CELLS)
        self._cells: NDArray[np.float64] = np.stack([columns, rows], axis=1)[::every].astype(np.float64) + 0.5
        self._colours = sample(self._first, self._cells)
        rows, columns = np.nonzero(inside)
        self.place = Place(1.0, (0.0, 0.0), (float(columns.mean()) + 0.5, float(rows.mean()) + 0.5))

    def follow(self, pixels: NDArray[np.uint8]) -> Place:
        """Find it in the next frame.

        Args:
            pixels: (H, W, 3), of the first frame's size.

        Returns:
            Where it is; where it was, if too little of it is inside the frame.
        """
        now = sketch(pixels)
        near = self.place.of(self._cells)
        steps = np.arange(-_REACH, _REACH + 1.0, _STRIDE)
        self._best(now, sample(self._last, near), steps, (1.0,), read=nearest)  # roughly, by the last frame
        self._best(now, self._colours, np.arange(-2.0, 3.0), _SCALES)  # exactly, by the first one
        self._best(now, self._colours, np.arange(-2.0, 3.0) / 4, (1.0,))
        self._last = now
        return self.place

    def lean(self, way: NDArray[np.float64], *, wholly: bool) -> None:
        """Let the next search begin a little nearer to where the object was found.

        Args:
            way: (2,) from where it was placed to where it was found, in cells.
            wholly: Go all the way.
        """
        share = 1.0 if wholly else _LEANING
        self.place = self.place.moved(share * way[0], share * way[1])

    def _best(
        self,
        now: NDArray[np.float64],
        colours: NDArray[np.float64],
        steps: NDArray[np.float64],
        scales: tuple[float, ...],
        read: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]] | None = None,
    ) -> None:
        old, best, least = self.place, self.place, np.inf
        height, width = now.shape[:2]
        shifts = np.array([(x, y) for y in steps for x in steps], np.float64)
        for factor in scales:
            scale = min(_MOST, max(_LEAST, old.scale * factor))
            points = Place(scale, old.shift, old.centre).of(self._cells)[None] + shifts[:, None]
            inside = ((points >= 0) & (points < (width, height))).all(axis=2)
            apart = np.abs((read or sample)(now, points) - colours).mean(axis=2)
            count = inside.sum(axis=1)
            price = _SHIFT_PRICE * np.abs(shifts).sum(axis=1) + _SCALE_PRICE * (factor != 1)
            cost = (apart * inside).sum(axis=1) / np.maximum(count, 1) + price
            least_inside = _INSIDE if factor == 1 else _INSIDE_TO_SCALE
            cost[count < least_inside * len(self._cells)] = np.inf
            chosen = int(cost.argmin())
            if cost[chosen] < least:
                least = float(cost[chosen])
                best = Place(scale, old.shift, old.centre).moved(*shifts[chosen])
        self.place = best


def sketch(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Average a frame over cells, at most 128 along its longer side.

    Args:
        pixels: (H, W, 3).

    Returns:
        (h, w, 3), 0 to 255.

    Example:
        >>> sketch(np.zeros((480, 640, 3), np.uint8)).shape
        (96, 128, 3)
    """
    return _means(pixels, sketch_size(pixels.shape[:2]))


def sketch_size(hw: tuple[int, ...]) -> tuple[int, int]:
    """Give the size of a sketch; a frame is never enlarged.

    Example:
        >>> sketch_size((480, 640)), sketch_size((9, 12))
        ((96, 128), (9, 12))
    """
    scale = min(1.0, _SIDE / max(hw))
    height, width = (max(1, int(side * scale + 0.5)) for side in hw)
    return height, width


def shrunk_mask(mask: NDArray[np.bool_], hw: tuple[int, ...]) -> NDArray[np.bool_]:
    """Say which cells of a sketch lie in a mask by half at least; of a smaller mask the cell with most of it.

    Example:
        >>> shrunk_mask(np.array([[1, 1, 0, 1]], bool), (1, 2)).tolist()
        [[True, True]]
    """
    shares = _means(mask[..., None], hw)[..., 0]
    return shares >= min(0.5, max(float(shares.max()), 1e-9))


def sample(cells: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read a sketch between the middles of its cells.

    Args:
        cells: (h, w, C).
        points: (..., 2) x, y; the middle of the first cell is (0.5, 0.5).

    Returns:
        (..., C); beyond the border as at the border.

    Example:
        >>> sample(np.array([[[0.0], [4.0]]]), np.array([1.0, 0.5])).tolist()
        [2.0]
    """
    height, width = cells.shape[:2]
    x = np.clip(points[..., 0] - 0.5, 0, width - 1)
    y = np.clip(points[..., 1] - 0.5, 0, height - 1)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, down = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, along = (x - left)[..., None], (y - top)[..., None]
    above = cells[top, left] * (1 - across) + cells[top, right] * across
    below = cells[down, left] * (1 - across) + cells[down, right] * across
    read: NDArray[np.float64] = above * (1 - along) + below * along
    return read


def nearest(cells: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read a sketch at the cells in which points lie; the same as `sample`, quicker and rougher.

    Example:
        >>> nearest(np.array([[[0.0], [4.0]]]), np.array([1.2, 0.5])).tolist()
        [4.0]
    """
    height, width = cells.shape[:2]
    columns = np.clip(points[..., 0].astype(np.int64), 0, width - 1)
    rows = np.clip(points[..., 1].astype(np.int64), 0, height - 1)
    read: NDArray[np.float64] = cells.reshape(height * width, -1)[rows * width + columns]
    return read


def carried(
    grid: NDArray[np.float64], covered: tuple[float, ...], hw: tuple[int, ...], *, before: Place, now: Place
) -> NDArray[np.float64]:
    """Move a map along with the object.

    Args:
        grid: (h, w) such as logits; what comes from beyond it has its lowest value.
        covered: The part (h, w) of it, in cells, over which the frame lies.
        hw: Size of the sketches in which the places are.
        before: Where the object is in the map.
        now: Where it shall be.

    Returns:
        (h, w).

    Example:
        >>> stay, right = (Place(1.0, (x, 0.0), (0.0, 0.0)) for x in (0.0, 1.0))
        >>> carried(np.array([[0.0, 5.0, 0.0]]), (1, 3), (1, 3), before=stay, now=right).tolist()
        [[0.0, 0.0, 5.0]]
    """
    rows, columns = (np.arange(side) + 0.5 for side in grid.shape)
    per_cell = np.array([covered[1] / hw[1], covered[0] / hw[0]])
    points = np.stack(np.meshgrid(columns, rows), axis=2) / per_cell
    points = before.of(now.back(points.reshape(-1, 2))) * per_cell
    inside = ((points >= 0) & (points < grid.shape[::-1])).all(axis=1)
    read = np.where(inside, sample(grid[..., None], points)[:, 0], grid.min())
    return read.reshape(grid.shape)


def _means(values: NDArray[np.uint8] | NDArray[np.bool_], hw: tuple[int, ...]) -> NDArray[np.float64]:
    rows, columns = (np.arange(hw[axis] + 1) * values.shape[axis] // hw[axis] for axis in (0, 1))
    sums = np.add.reduceat(values, rows[:-1], axis=0, dtype=np.uint32)
    sums = np.add.reduceat(sums, columns[:-1], axis=1, dtype=np.uint32)
    means: NDArray[np.float64] = sums / (np.diff(rows)[:, None] * np.diff(columns))[..., None]
    return means


def _widened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take the neighbouring cells along: what is plain inside is known by its edge."""
    padded = np.pad(mask, 1)
    parts = [padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)]
    wide: NDArray[np.bool_] = np.logical_or.reduce(parts)
    return wide
