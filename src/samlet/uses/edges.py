"""An edge map out of masks: where any of them has its outline, and how sharply."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.masks import Masks, StoredMasks
from samlet.runs import Runs

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
    down = soft[:-2] + 2 * soft[1:-1] + soft[2:]
    across = soft[:, :-2] + 2 * soft[:, 1:-1] + soft[:, 2:]
    x, y = down[:, 2:] - down[:, :-2], across[2:] - across[:-2]
    steep = np.hypot(x, y)
    # Sobel's weights add up to 8 for a slope of one a pixel; half way between 0 and 1 lies the outline.
    steep[np.abs(soft[1:-1, 1:-1] - 0.5) > steep * (_NEAR / 8)] = 0
    turn = np.rint((np.arctan2(y, x) - _FROM) % np.pi * (_DIRECTIONS / np.pi))
    return steep, (turn % _DIRECTIONS).astype(np.uint8)


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
