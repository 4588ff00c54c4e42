"""How far a download is, for whoever watches."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger("samlet.store")

Report = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there will be (0 if unknown)."""


@contextmanager
def shown(name: str, size: int) -> Iterator[Report]:
    """Show a bar on standard error if a person is looking, else log one line.

    Args:
        name: The file.
        size: Its size in bytes; 0 if unknown.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        _log.info("downloading %s (%s)", name, readable(size))
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    )
    with bar:
        task = bar.add_task(escape(name), total=size or None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def readable(size: int) -> str:
    """Write a size for people.

    Args:
        size: Bytes; 0 if unknown.

    Example:
        >>> readable(40_728_226), readable(2_564_550_879), readable(0)
        ('40.7 MB', '2.56 GB', 'size unknown')
    """
    if not size:
        return "size unknown"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
