"""The HTTP API: pictures are sent once, then prompted by id. It needs the extra `server`.

`create_app` makes the application, `samlet.server.serving` runs it as `samlet serve` does.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samlet.server.app import create_app
    from samlet.server.settings import Settings

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> object:
    """Import late: a web framework is not what everybody who imports samlet wants."""
    if name == "create_app":
        from samlet.server.app import create_app

        return create_app
    if name == "Settings":
        from samlet.server.settings import Settings

        return Settings
    raise AttributeError(f"module 'samlet.server' has no attribute {name!r}")
