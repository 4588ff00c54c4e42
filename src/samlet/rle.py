"""Run-length codes of masks, in COCO's two forms, without pycocotools.

A run-length code lists the lengths of the runs of a mask read column by column (top to bottom, then left to
right), beginning with a run of background that may be empty. The *plain* form keeps the lengths as integers,
the *compressed* form packs them into an ASCII string, byte for byte as pycocotools does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError, LimitError
from samlet.limits import DEFAULT_LIMITS, Limits

_MAX_DIGITS = 7  # 32-bit run lengths: a signed difference of 33 bits is at most seven digits of five bits
_FIRST_CHAR, _LAST_CHAR = 48, 48 + 63


class Rle(TypedDict):
    """One mask: `size` is [height, width], `counts` the run lengths (integers) or their compressed string."""

    size: list[int]
    counts: list[int] | str


def mask_to_rle(mask: NDArray[np.bool_]) -> Rle:
    """Code a mask as plain run lengths.

    Args:
        mask: (H, W); any dtype, non-zero is inside.

    Returns:
        `{"size": [H, W], "counts": [background, foreground, background, ...]}`.

    Raises:
        InputError: The mask is not two-dimensional or has no pixels.

    Example:
        >>> mask_to_rle(np.array([[0, 1], [1, 1]], bool))
        {'size': [2, 2], 'counts': [1, 3]}
    """
    height, width = checked_mask(mask).shape
    return {"size": [height, width], "counts": mask_runs(mask).tolist()}


def mask_to_compressed_rle(mask: NDArray[np.bool_]) -> Rle:
    """Code a mask as COCO's compressed run lengths, byte for byte what pycocotools' `encode` gives.

    Args:
        mask: (H, W); any dtype, non-zero is inside.

    Returns:
        `{"size": [H, W], "counts": ASCII string}`.

    Raises:
        InputError: The mask is not two-dimensional or has no pixels.

    Example:
        >>> mask_to_compressed_rle(np.array([[0, 1], [1, 1]], bool))
        {'size': [2, 2], 'counts': '13'}
    """
    height, width = checked_mask(mask).shape
    return {"size": [height, width], "counts": _pack(mask_runs(mask))}


def rle_to_mask(rle: Rle | Mapping[str, Any], *, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.bool_]:
    """Decode either form of run-length code.

    Args:
        rle: `size` and `counts`; outside input, everything in it is checked before memory is taken.
        limits: `max_pixels` bounds the mask.

    Returns:
        (H, W) bool.

    Raises:
        InputError: The code is malformed or its runs do not add up to the size.
        LimitError: The size is over `limits.max_pixels`.

    Example:
        >>> rle_to_mask({"size": [2, 2], "counts": [1, 3]}).astype(int).tolist()
        [[0, 1], [1, 1]]
    """
    height, width, runs = _parsed(rle)
    if height * width > limits.max_pixels:
        raise LimitError(
            f"expected a mask of at most {limits.max_pixels} pixels, got a run-length code of {height} x "
            f"{width}; "
            "send a smaller mask or raise Limits.max_pixels"
        )
    inside = np.zeros(len(runs), bool)
    inside[1::2] = True
    return np.ascontiguousarray(np.repeat(inside, runs).reshape(width, height).T)


def rle_to_string(rle: Rle | Mapping[str, Any]) -> str:
    """Compress the run lengths of a code into COCO's string.

    Args:
        rle: Either form; a compressed one is checked and comes back normalised.

    Returns:
        ASCII, identical to pycocotools' `counts`.

    Raises:
        InputError: The code is malformed or its runs do not add up to the size.

    Example:
        >>> rle_to_string({"size": [3, 4], "counts": [2, 1, 9]})
        '219'
    """
    return _pack(_parsed(rle)[2])


def string_to_rle(counts: str | bytes, size: Sequence[int]) -> Rle:
    """Expand COCO's compressed string into plain run lengths.

    Args:
        counts: The compressed string.
        size: (height, width) of the mask, which the string itself does not hold.

    Returns:
        The plain form.

    Raises:
        InputError: The string is malformed or its runs do not add up to the size.

    Example:
        >>> string_to_rle("219", (3, 4))
        {'size': [3, 4], 'counts': [2, 1, 9]}
    """
    height, width, runs = _parsed({"size": list(size), "counts": counts})
    return {"size": [height, width], "counts": runs.tolist()}


def rle_area(rle: Rle | Mapping[str, Any]) -> int:
    """Count the pixels inside a coded mask without decoding it.

    Args:
        rle: Either form.

    Returns:
        The area in pixels.

    Raises:
        InputError: The code is malformed or its runs do not add up to the size.

    Example:
        >>> rle_area({"size": [2, 2], "counts": [1, 3]})
        3
    """
    return int(_parsed(rle)[2][1::2].sum())


def rle_to_bbox(rle: Rle | Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Find COCO's bounding box of a coded mask without decoding it.

    Args:
        rle: Either form.

    Returns:
        (x, y, width, height) in pixels, COCO's `bbox`; all zeros for an empty mask.

    Raises:
        InputError: The code is malformed or its runs do not add up to the size.

    Example:
        >>> rle_to_bbox({"size": [3, 4], "counts": [4, 1, 7]})
        (1, 1, 1, 1)
    """
    return _extent(*_parsed(rle)[::2])


def rle_to_bbox_and_area(rle: Rle | Mapping[str, Any]) -> tuple[tuple[int, int, int, int], int]:
    """Do as `rle_to_bbox` and `rle_area`, reading the code once.

    Raises:
        InputError: The code is malformed or its runs do not add up to the size.

    Example:
        >>> rle_to_bbox_and_area({"size": [3, 4], "counts": [4, 1, 7]})
        ((1, 1, 1, 1), 1)
    """
    height, _, runs = _parsed(rle)
    return _extent(height, runs), int(runs[1::2].sum())


def _extent(height: int, runs: NDArray[np.int64]) -> tuple[int, int, int, int]:
    ends = np.cumsum(runs)[1::2]
    lengths = runs[1::2]
    ends, lengths = ends[lengths > 0], lengths[lengths > 0]
    if not len(ends):
        return (0, 0, 0, 0)
    first, last = ends - lengths, ends - 1
    x0, x1 = int(first[0] // height), int(last[-1] // height) + 1
    # A run that reaches into the next column touches the bottom of one and the top of the other.
    if bool(np.any(first // height != last // height)):
        y0, y1 = 0, height
    else:
        y0, y1 = int((first % height).min()), int((last % height).max()) + 1
    return (x0, y0, x1 - x0, y1 - y0)


def checked_mask(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask as bool (H, W) without copying a bool array.

    Args:
        mask: (H, W); any dtype, non-zero is inside.

    Returns:
        (H, W) bool.

    Raises:
        InputError: The mask is not two-dimensional or has no pixels.

    Example:
        >>> checked_mask(np.eye(2)).dtype
        dtype('bool')
    """
    array = np.asarray(mask)
    if array.ndim != 2 or not array.size:
        raise InputError(
            f"expected one mask of shape (height, width), got shape {array.shape}; index one mask first"
        )
    return array if array.dtype == np.bool_ else array != 0


def mask_runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """List the run lengths of a mask as an array, the fast inner form of `mask_to_rle`.

    Args:
        mask: (H, W); any dtype, non-zero is inside.

    Returns:
        Background and foreground lengths in turn, background first.

    Raises:
        InputError: The mask is not two-dimensional or has no pixels.

    Example:
        >>> mask_runs(np.ones((2, 3), bool)).tolist()
        [0, 6]
    """
    flat = checked_mask(mask).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    leading = [0, 0] if flat[0] else [0]
    return np.diff(np.concatenate((leading, changes, [flat.size]))).astype(np.int64, copy=False)


def window_runs(
    inside: NDArray[np.bool_], image_hw: tuple[int, int], *, top: int = 0, left: int = 0
) -> NDArray[np.int64]:
    """List the run lengths of a mask of which only a window is not empty; the work grows with the window alone.

    Args:
        inside: (h, w) the window's pixels; may have none.
        image_hw: Size (H, W) of the mask.
        top: The mask's row where the window begins.
        left: Its column.

    Returns:
        What `mask_runs` gives for the whole mask.

    Example:
        >>> window_runs(np.ones((1, 2), bool), (2, 3), top=1, left=1).tolist()
        [3, 1, 1, 1]
    """
    height, width = image_hw
    rows, columns = inside.shape
    # A row of background under each column ends every run where its column ends.
    flat = np.zeros(columns * (rows + 1) + 1, np.bool_)
    flat[1:].reshape(columns, rows + 1)[:, :rows] = inside.T
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), rows + 1)
    at = (column + left) * height + row + top
    # Runs that touch across two columns are one.
    start, stop = at[::2], at[1::2]
    apart = start[1:] != stop[:-1]
    between = np.stack((stop[:-1][apart], start[1:][apart]), axis=1).ravel()
    bounds = np.concatenate(([0], start[:1], between, stop[-1:], [height * width])).astype(np.int64)
    counts = bounds[1:] - bounds[:-1]
    return counts[:-1] if counts[-1] == 0 else counts


def _pack(runs: NDArray[np.int64]) -> str:
    # cocoapi maskApi.c rleToString: from the fourth on, each length is the difference to the one before last,
    # written in digits of five bits, lowest first, bit 5 = "more follow", bit 4 of the last digit = sign.
    rest = runs.copy()
    rest[3:] -= runs[1:-2]
    digits = np.empty((_MAX_DIGITS, len(rest)), np.uint8)
    used = np.zeros((_MAX_DIGITS, len(rest)), bool)
    alive = np.arange(len(rest))
    for place in range(_MAX_DIGITS):
        low = rest & 0x1F
        rest = rest >> 5
        more = np.where(low & 0x10, rest != -1, rest != 0)
        digits[place, alive] = low + (more << 5) + _FIRST_CHAR
        used[place, alive] = True
        alive, rest = alive[more], rest[more]
        if not len(alive):
            break
    return digits.T[used.T].tobytes().decode("ascii")


def _unpack(text: bytes) -> NDArray[np.int64]:
    chars = np.frombuffer(text, np.uint8).astype(np.int64)
    if len(chars) and (chars.min() < _FIRST_CHAR or chars.max() > _LAST_CHAR):
        raise InputError(
            "expected COCO's compressed run lengths, got characters outside '0'..'o'; send `counts` unchanged"
        )
    chars -= _FIRST_CHAR
    ends = np.flatnonzero((chars & 0x20) == 0)
    if not len(chars) or not len(ends) or ends[-1] != len(chars) - 1:
        raise InputError(
            "expected COCO's compressed run lengths, got a string that stops in a number; send `counts` whole"
        )
    starts = np.concatenate(([0], ends[:-1] + 1))
    widths = ends - starts + 1
    if widths.max() > _MAX_DIGITS:
        raise InputError(
            "expected run lengths below 2**32, got a longer number in `counts`; send `counts` unchanged"
        )
    places = np.arange(len(chars)) - np.repeat(starts, widths)
    values = np.add.reduceat((chars & 0x1F) << (5 * places), starts)
    values -= np.where(chars[ends] & 0x10, np.int64(1) << (5 * widths), 0)
    # Undo the differences: odd places form one running sum, even places from the third on another.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _parsed(rle: Rle | Mapping[str, Any]) -> tuple[int, int, NDArray[np.int64]]:
    try:
        size, counts = rle["size"], rle["counts"]
        height, width = (int(side) for side in size)
    except (KeyError, TypeError, ValueError, OverflowError):  # the last: an infinite side
        raise InputError(
            "expected a run-length code {'size': [height, width], 'counts': ...}, got something else; see "
            "COCO's format"
        ) from None
    if height < 1 or width < 1:
        raise InputError(
            f"expected a run-length code of at least 1 x 1 pixel, got size {[height, width]}; check `size`"
        )
    runs = _unpack(_ascii(counts)) if isinstance(counts, str | bytes) else _plain(counts)
    total = int(runs.sum()) if bool(np.all((runs >= 0) & (runs <= height * width))) else -1
    if total != height * width:
        raise InputError(
            f"expected run lengths that are not negative and add up to {height} x {width} = "
            f"{height * width} pixels, "
            f"got {'a length out of range' if total < 0 else f'a sum of {total}'}; check `size` and `counts`"
        )
    return height, width, runs


def _ascii(counts: str | bytes) -> bytes:
    try:
        return counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError:
        raise InputError(
            "expected COCO's compressed run lengths, got characters that are not ASCII; send `counts` "
            "unchanged"
        ) from None


def _plain(counts: Any) -> NDArray[np.int64]:
    try:
        runs = np.asarray(counts)
    except ValueError:
        runs = np.empty(0)
    if runs.ndim != 1 or runs.dtype.kind not in "iu" or not len(runs):
        raise InputError("expected run lengths as a list of integers, got something else; check `counts`")
    if runs.dtype == np.uint64 and runs.max() > np.iinfo(np.int64).max:
        raise InputError(
            "expected run lengths below 2**32, got a longer number in `counts`; send `counts` unchanged"
        )
    return runs.astype(np.int64)
