"""An edge map out of masks: where any of them has its outline, and how sharply."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.geometry import Frame
from samlet.masks import Masks, StoredMasks
from samlet.runs import Runs
from samlet.upscale import enlarge

_DIRECTIONS = 256  # steps of half a turn: an edge has no front and back
_FROM = (
    37 * np.pi / _DIRECTIONS
)  # the half turn begins where few outlines run, and holds 0, 45 and 90 degrees
_FAINT = 0.01  # lower probabilities have no slope worth looking at
_NEAR = 2.0  # pixels from the outline, as the slope tells: further away a mask is only unsure of its inside
_AT_ONCE = 2**18  # pixels thinned at a time
_TIE = 1e-6

Window = tuple[slice, slice]


def edge_map(masks: Masks, *, thin: bool = True) -> NDArray[np.float32]:
    """Draw the edges that masks have in common with the picture, as SAM's and FastSAM's papers do.

    The slope (Sobel) of each mask's probability, the largest of all masks at each pixel, divided by the largest of
    all, and thinned: a pixel stays only where the slope is largest along its own direction. Masks with logits have
    probabilities, so that sure outlines are strong and vague ones weak; slopes away from the outline do not count.
    Masks stored as run lengths are blurred by one pixel, and all their outlines are about equally strong. The border
    of the picture is no edge.

    Kirillov et al., "Segment Anything" (2023), section 7.2; Zhao et al., "Fast Segment Anything" (2023).

    Args:
        masks: One mask a prompt.
        thin: Whether to thin the edges to about one pixel.

    Returns:
        (H, W) float32, 0 (no edge) to 1.

    Raises:
        InputError: The prompts still have several candidates.

    Example:
        >>> masks = StoredMasks.of([{"size": [1, 6], "counts": [3, 3]}], [1.0], (1, 6))
        >>> edge_map(masks).tolist()
        [[0.0, 0.0, 0.0, 1.0, 0.0, 0.0]]
    """
    strength = np.zeros(masks.frame.image_hw, np.float32)
    direction = np.zeros(masks.frame.image_hw, np.uint8)
    for soft, window in _soft_masks(masks):
        slope, turn = _slopes(soft)
        stronger = slope > strength[window]
        strength[window][stronger] = slope[stronger]
        direction[window][stronger] = turn[stronger]
    peak = float(strength.max())
    if peak > 0:
        strength /= peak
    return _thinned(strength, direction) if thin else strength


def _soft_masks(masks: Masks) -> Iterator[tuple[NDArray[np.float32], Window]]:
    """Give each mask's probabilities where they change, with a rim of one pixel, and the window inside the rim."""
    if masks.is_multimask:
        raise InputError(
            "expected one mask a prompt for edges, got several candidates each; call best() first"
        )
    if isinstance(masks, StoredMasks):
        for rle in masks.rles:
            runs = Runs.of(rle)
            if len(runs):
                soft, (x0, y0, x1, y1) = runs.soft(3)
                yield np.pad(soft, 1, mode="edge"), (slice(y0, y1), slice(x0, x1))
        return
    for index in range(len(masks)):
        probability = _probability(masks.full_logits(index) - np.float32(masks.threshold))
        rows, columns = (np.flatnonzero((probability > _FAINT).any(axis=axis)) for axis in (1, 0))
        if len(rows):
            window = (
                slice(max(0, rows[0] - 1), rows[-1] + 2),
                slice(max(0, columns[0] - 1), columns[-1] + 2),
            )
            yield np.pad(probability[window], 1, mode="edge"), window


def _probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logistic function, in place and without overflow."""
    np.clip(logits, -30, 30, out=logits)
    np.exp(-logits, out=logits)
    logits += 1
    return np.reciprocal(logits, out=logits)


def _slopes(soft: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Sobel's slope near the outline, of each pixel inside the rim, and its direction in steps of the half turn."""
    x, y = _sobel(soft)
    steep = np.hypot(x, y)
    # Sobel's weights add up to 8 for a slope of one a pixel; half way between 0 and 1 lies the outline.
    steep[np.abs(soft[1:-1, 1:-1] - 0.5) > steep * (_NEAR / 8)] = 0
    turn = np.rint((np.arctan2(y, x) - _FROM) % np.pi * (_DIRECTIONS / np.pi))
    return steep, (turn % _DIRECTIONS).astype(np.uint8)


def _sobel(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sobel's slopes along x and y of each pixel inside the rim."""
    down = values[:-2] + 2 * values[1:-1] + values[2:]
    across = values[:, :-2] + 2 * values[:, 1:-1] + values[:, 2:]
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def _thinned(strength: NDArray[np.float32], direction: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Keep the pixels that are strongest along their direction, by interpolating the neighbours one pixel away.

    Of two equal neighbours, which a sharp mask has along all of its outline, the one that lies further back in the
    direction stays.
    """
    thin = np.zeros_like(strength)
    angles = _FROM + np.arange(_DIRECTIONS) * (np.pi / _DIRECTIONS)
    places = np.flatnonzero(strength)
    for start in range(0, len(places), _AT_ONCE):
        place = places[start : start + _AT_ONCE]
        y, x = np.divmod(place, strength.shape[1])
        own, angle = strength.ravel()[place], angles[direction.ravel()[place]]
        back = _between(strength, y - np.sin(angle), x - np.cos(angle))
        ahead = _between(strength, y + np.sin(angle), x + np.cos(angle))
        best = place[(own > back + _TIE) & (own >= ahead - _TIE)]
        thin.ravel()[best] = strength.ravel()[best]
    return thin


def _between(
    values: NDArray[np.float32], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate values at points; beyond the border there is nothing."""
    height, width = values.shape
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    total = np.zeros(len(y))
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at_y, at_x = top + row, left + column
        weight = (1 - np.abs(y - at_y)) * (1 - np.abs(x - at_x))
        weight *= (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
        total += weight * values[np.clip(at_y, 0, height - 1), np.clip(at_x, 0, width - 1)]
    return total


class EdgeVotes:
    """Edges by the votes of many masks: where many sure masks of one picture change, there is an edge.

    Slopes of the masks' probabilities are added up, not compared as by `edge_map`, each weighted by the square of the
    mask's score. An outline on which many prompts agree wins over a sharp one that a single mask has; so it pays to
    ask about the whole picture (clicks on a grid, three masks each). Masks are looked at on the network's own grid
    and not kept.

    Example:
        >>> votes = EdgeVotes()
        >>> votes.add(model.segment(view, points=grid, labels=ones, multimask=True))  # doctest: +SKIP
        >>> thin_ridges(votes.strength()).max()  # doctest: +SKIP
        1.0
    """

    def __init__(self) -> None:
        """Begin without a vote."""
        self._frame: Frame | None = None
        self._sum: NDArray[np.float32] = np.zeros((0, 0), np.float32)  # (h, w)

    def __bool__(self) -> bool:
        """Tell whether anybody has voted."""
        return self._frame is not None

    def add(self, masks: Masks) -> None:
        """Let masks vote.

        Args:
            masks: With logits, one or three a prompt; all of one picture.

        Raises:
            InputError: The masks have no logits, or those before were of another picture or grid.
        """
        if isinstance(masks, StoredMasks):
            raise InputError(
                "expected masks with logits to vote on edges, got run lengths; segment with points or boxes"
            )
        grid_hw = (masks.logits.shape[-2], masks.logits.shape[-1])
        if self._frame is None:
            self._frame, self._sum = masks.frame, np.zeros(grid_hw, np.float32)
        if self._frame != masks.frame or self._sum.shape != grid_hw:
            raise InputError(
                f"expected masks of one picture, got {masks.frame.image_hw} after {self._frame.image_hw}; make new "
                "votes for each picture"
            )
        scores = np.clip(masks.scores, 0, None).reshape(-1) ** 2
        for logits, weight in zip(masks.logits.reshape(-1, *grid_hw), scores.tolist(), strict=True):
            probability = _probability(logits - np.float32(masks.threshold))
            self._sum += weight * np.hypot(*_sobel(np.pad(probability, 1, mode="edge")))

    def strength(self) -> NDArray[np.float32]:
        """Give the sum of all votes at the picture's size.

        Returns:
            (H, W) float32, 0 or more, lines several pixels wide; see `thin_ridges`.

        Raises:
            InputError: Nobody has voted.
        """
        if self._frame is None:
            raise InputError("expected masks to have voted, got none; add some first")
        return enlarge(self._sum, self._frame, "fast")


def thin_ridges(strength: NDArray[np.floating], *, blur: float = 1.0) -> NDArray[np.float32]:
    """Thin broad lines of strength to their ridges.

    A pixel stays where the strength is largest across the line; the direction across is that of the strongest downward
    bend (the eigenvector of the Hessian's least eigenvalue) of the strength blurred by twice as much.

    Args:
        strength: 0 or more, (H, W).
        blur: Standard deviation of a Gaussian, pixels, so that a line has one ridge.

    Returns:
        (H, W) float32, 0 to 1, one pixel thin; the square root of the strength over its largest value, since
        strengths of sums crowd near 0.

    Raises:
        InputError: The blur is negative or the strength is not (H, W).

    Example:
        >>> ramp = np.tile(np.array([0, 1, 4, 1, 0], np.float32), (5, 1))
        >>> thin_ridges(ramp)[2].round(1).tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    if np.ndim(strength) != 2 or not blur >= 0:
        raise InputError(
            f"expected strengths (H, W) and a blur of 0 or more, got {np.shape(strength)} and {blur}; correct them"
        )
    smooth = blurred(strength, blur)
    dy, dx = np.gradient(blurred(smooth, blur * np.sqrt(3)))  # twice the blur in all
    (yy, yx), (_, xx) = np.gradient(dy), np.gradient(dx)
    across = 0.5 * np.arctan2(2 * yx, xx - yy) + np.pi / 2
    turn = np.rint((across - _FROM) % np.pi * (_DIRECTIONS / np.pi)) % _DIRECTIONS
    peak = max(float(smooth.max(initial=0.0)), 1e-12)
    return np.sqrt(_thinned(smooth / np.float32(peak), turn.astype(np.uint8)))


def blurred(values: NDArray[np.floating], sigma: float) -> NDArray[np.float32]:
    """Blur (H, W) or (H, W, C) by a Gaussian of a standard deviation in pixels; the border's values go on beyond it."""
    found = np.asarray(values, np.float32)
    if sigma <= 0:
        return found
    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        widths = [(0, 0)] * found.ndim
        widths[axis] = (reach, reach)
        padded = np.pad(found, widths, mode="edge")
        total = np.zeros_like(found)
        for step, weight in enumerate(weights.tolist()):
            part = [slice(None)] * found.ndim
            part[axis] = slice(step, step + found.shape[axis])
            total += np.float32(weight) * padded[tuple(part)]
        found = total
    return found
