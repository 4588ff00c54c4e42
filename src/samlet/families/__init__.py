"""Model families: pure functions between the nouns and a network's arrays."""

from samlet.errors import ModelError
from samlet.families.base import Family


def family(name: str) -> Family:
    """Give the family of that name.

    Raises:
        ModelError: This version of samlet does not know it.

    Example:
        >>> family("sam").__name__
        'samlet.families.sam'
    """
    if name == "sam":
        from samlet.families import sam

        return sam
    raise ModelError(
        f"expected a model family that this version knows (sam), got {name!r:.80}; update samlet"
    )
