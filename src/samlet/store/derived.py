"""Files that samlet works out from others, kept so that the next start is quick.

    <cache>/derived/<digest>/<name>          the content
    <cache>/derived/<digest>/<name>.sha256   its digest, as `sha256sum --check` reads it

The folder's name is the digest of everything the content follows from, so a file is never out of date. The second
file guards against damage, not against somebody who may write to the cache: that person could as well replace samlet.
All of it may be deleted at any time; what is needed again is worked out again.
"""

import contextlib
import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path

from samlet.atomic import atomic_write
from samlet.errors import InputError, OutputError
from samlet.store import layout
from samlet.store.integrity import digest_of

_log = logging.getLogger("samlet.store")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


def keep(digest: str, name: str, make: Callable[[], bytes | bytearray]) -> Path:
    """Give a derived file, and make it first if it is not there or damaged.

    Any number of processes may ask at once: they write the same content, each of them whole, so the worst that
    happens is that the work is done twice.

    Args:
        digest: SHA-256 (hex) of everything that the content follows from, the version of its layout included.
        name: Plain file name.
        make: Works the content out.

    Returns:
        Its path; the content was compared with its digest just now.

    Raises:
        OutputError: The cache cannot be written.
        InputError: The digest or the name is none, or there is no home folder to keep a cache in.

    Example:
        >>> import os, tempfile
        >>> os.environ["SAMLET_CACHE"] = tempfile.mkdtemp()
        >>> keep("0" * 64, "answer", lambda: b"42").read_bytes()
        b'42'
    """
    path = place(digest, name)
    if is_whole(path):
        return path
    if path.exists():
        _log.warning("%s is damaged and is made again", path)
    content = bytes(make())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"could not make the folder {path.parent} ({error.strerror or error}); "
            "set SAMLET_CACHE to a folder you may write to"
        ) from error
    atomic_write(path, content)
    atomic_write(_digest_file(path), f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    return path


def place(digest: str, name: str) -> Path:
    """Say where a derived file lies or would lie.

    Raises:
        InputError: The digest or the name is none, or there is no home folder to keep a cache in.
    """
    if not _DIGEST.fullmatch(digest) or not _NAME.fullmatch(name):
        raise InputError(
            f"expected a SHA-256 in hex and a plain file name, got {digest!r:.80} and {name!r:.80}; correct them"
        )
    return layout.cache_folder() / "derived" / digest / name


def is_whole(path: Path) -> bool:
    """Whether a derived file is there and has the digest that was written beside it."""
    with contextlib.suppress(OSError):
        found, _ = digest_of(path)
        return _digest_file(path).read_bytes() == f"{found}  {path.name}\n".encode()
    return False


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
