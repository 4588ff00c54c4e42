"""A lock between processes that the operating system drops when its holder dies."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from samlet.errors import OutputError

_POLL = 0.1
_SAY_AFTER = 1.0
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextlib.contextmanager
def held(path: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock while the block runs; wait as long as another process or thread holds it.

    The lock is the operating system's, not the file's existence: a holder that is killed leaves nothing that
    anybody would have to clean up. The file itself stays.

    Args:
        path: The lock file; its folder is made.
        on_wait: Called once if the wait takes longer than a second.

    Raises:
        OutputError: The file cannot be made, or the file system knows no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path, on_wait)
    except OSError as error:
        raise OutputError(
            f"expected to lock {path}, but it failed ({error.strerror or error}); "
            "set SAMLET_CACHE to a folder on a local disk that you may write to"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _unlock(descriptor)
        os.close(descriptor)


def _acquire(path: Path, on_wait: Callable[[], None]) -> int:
    start, said = time.monotonic(), False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Polling instead of a blocking call: on some systems Ctrl-C does not interrupt the latter.
            if _try(descriptor) and _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not said and time.monotonic() - start > _SAY_AFTER:
            said = True
            on_wait()
        time.sleep(_POLL)


def _try(descriptor: int) -> bool:
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the locked file is the one at the path, not one that somebody deleted meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
