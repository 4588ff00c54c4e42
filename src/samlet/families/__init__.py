"""Model families: pure functions between the nouns and a network's arrays. One module here is one family."""

from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from samlet.errors import ModelError
from samlet.families.base import Family


def family(name: str) -> Family:
    """Give the family of that name: the module of this package that is called so.

    Args:
        name: From a card, which may come from outside: it is looked up among the modules here, never imported
            by its text.

    Raises:
        ModelError: This version of samlet does not know it.

    Example:
        >>> family("sam").ROLES
        ('encoder', 'decoder')
    """
    known = sorted(module.name for module in iter_modules(__path__) if module.name != "base")
    if name not in known:
        raise ModelError(
            f"expected a model family that this version knows ({', '.join(known)}), got {name!r:.80}; "
            "update samlet"
        )
    return cast(Family, import_module(f"{__name__}.{known[known.index(name)]}"))
