"""Label Studio's brushes: run lengths of its own kind, packed in bits (thi.ng's rle-pack), over four channels a pixel.

A header of 32 bits says how many values there are, 5 bits the size of a value less one, and four times 4 bits the
sizes of run lengths less one. Then come runs: a bit that says whether one value repeats, two bits that choose the size
of the length, the length less one, and the value. A mask is 255 in all four channels inside, and 0 outside.
"""

import numpy as np
from numpy.typing import NDArray

from samlet.rle import checked_mask

_CHANNELS = 4
_VALUE_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_LONGEST = 2 ** _LENGTH_BITS[-1]


def mask_to_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Code a mask as Label Studio's brush.

    Args:
        mask: (H, W); any dtype, non-zero is inside.

    Returns:
        Bytes, as a list of numbers that JSON can hold.

    Raises:
        InputError: The mask is not two-dimensional or has no pixels.

    Example:
        >>> mask_to_brush(np.zeros((1, 1), bool))
        [0, 0, 0, 4, 57, 27, 252, 96, 0]
    """
    flat = checked_mask(mask).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], changes))
    lengths = np.diff(np.concatenate((starts, [flat.size]))) * _CHANNELS
    values = np.where(flat[starts], 255, 0)
    # Runs that no length can hold are cut into pieces of the longest length, and what is left.
    whole, rest = np.divmod(lengths, _LONGEST)
    pieces = whole + (rest > 0)
    run_of = np.repeat(np.arange(len(lengths)), pieces)
    last = np.cumsum(pieces) - 1
    sizes = np.full(int(pieces.sum()), _LONGEST)
    sizes[last[rest > 0]] = rest[rest > 0]
    return _packed(flat.size * _CHANNELS, sizes, values[run_of])


def _packed(count: int, sizes: NDArray[np.int64], values: NDArray[np.int64]) -> list[int]:
    """Write the header and the runs, each as one number of a known width, as bits."""
    choice = np.searchsorted(2 ** np.array(_LENGTH_BITS), sizes)
    length_bits = np.array(_LENGTH_BITS)[choice]
    widths = 1 + 2 + length_bits + _VALUE_BITS
    codes = (((4 | choice) << length_bits | (sizes - 1)) << _VALUE_BITS) | values
    header = [(count, 32), (_VALUE_BITS - 1, 5), *((bits - 1, 4) for bits in _LENGTH_BITS)]
    all_codes = np.concatenate(([code for code, _ in header], codes)).astype(np.int64)
    all_widths = np.concatenate(([width for _, width in header], widths)).astype(np.int64)
    ends = np.cumsum(all_widths)
    # Which code each bit belongs to, and how far it stands from that code's end.
    owner = np.repeat(np.arange(len(all_codes)), all_widths)
    shift = ends[owner] - 1 - np.arange(ends[-1])
    bits = (all_codes[owner] >> shift) & 1
    # Readers want a zero byte or part of one after the last bit.
    spare = 8 - len(bits) % 8
    packed: list[int] = np.packbits(np.concatenate((bits, np.zeros(spare))).astype(np.uint8)).tolist()
    return packed
