"""Strictness: every weight that a network needs, each of the right shape, and none besides."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from samlet.checkpoint.elements import Array
from samlet.errors import CheckpointError

_SHOWN = 4


def check_keys(
    arrays: Mapping[str, Array],
    expected: Mapping[str, Sequence[int]],
    *,
    optional: Collection[str] = (),
    origin: str,
) -> None:
    """Make sure that arrays are exactly what a network needs.

    Args:
        arrays: With canonical names.
        expected: Shapes by name.
        optional: Names of `expected` that may be absent, such as a classifier that is never used.
        origin: What to call the file in a message.

    Raises:
        CheckpointError: Weights are missing, are too many, or have other shapes; the message lists all three.

    Example:
        >>> import numpy as np
        >>> check_keys({"a": np.zeros(2)}, {"a": (2,)}, origin="x")
    """
    missing = [name for name in expected if name not in arrays and name not in optional]
    surplus = [name for name in arrays if name not in expected]
    other = [
        f"{name} {_text(array.shape)} instead of {_text(expected[name])}"
        for name, array in arrays.items()
        if name in expected and array.shape != tuple(expected[name])
    ]
    lists = [
        f"{title} {len(names):,}: {_first(names)}"
        for title, names in (("missing", missing), ("unexpected", surplus), ("of another shape", other))
        if names
    ]
    if lists:
        raise CheckpointError(
            f"expected the {len(expected):,} weights of the network in {origin}, got {len(arrays):,} arrays "
            f"({'; '.join(lists)}); give a file of the same network"
        )


def _first(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(f"{name:.120}" for name in names[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def _text(shape: Iterable[int]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"
