"""Where model files lie on this computer: our own cache, the user's hand, the Hugging Face cache.

    <cache>/files/<digest>/<file name>   what samlet downloaded; the folder's name says what must be in it
    <cache>/by_hand/<file name>          what the user put there, on a machine without network
    <cache>/partial/<digest>.*           downloads that are not finished, and their locks
    <cache>/first_use.json               digests of files whose digest nobody published

All of it may be deleted at any time; what is needed again is downloaded again.
"""

import glob
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from samlet.card import CardFile
from samlet.errors import InputError, ModelError

_PLAIN_NAME = re.compile(r"\w[\w.+ -]{0,127}", re.ASCII)
_OFF = ("", "0", "false", "no", "off")


def cache_folder() -> Path:
    """Say where samlet keeps downloaded files: $SAMLET_CACHE, or the usual place of this system.

    Raises:
        InputError: There is neither a setting nor a home folder.
    """
    chosen = os.environ.get("SAMLET_CACHE", "").strip()
    try:
        return Path(chosen).expanduser() if chosen else _system_caches() / "samlet"
    except RuntimeError:
        raise InputError(
            "expected a home folder to keep model files in, but there is none; "
            "set SAMLET_CACHE to a folder you may write to"
        ) from None


def _system_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return _xdg_caches()


def _xdg_caches() -> Path:
    # The XDG specification tells us to ignore a path that is not absolute.
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    return Path(chosen) if os.path.isabs(chosen) else Path.home() / ".cache"


def is_offline() -> bool:
    """Whether the user forbade the network with SAMLET_OFFLINE."""
    return os.environ.get("SAMLET_OFFLINE", "").strip().lower() not in _OFF


def key(file: CardFile) -> str:
    """Name what a file must contain: its SHA-256, else "git-" and its git digest; "" if nobody published one."""
    return file.sha256 or (f"git-{file.git_sha1}" if file.git_sha1 else "")


def place(file: CardFile) -> Path:
    """Say where a downloaded file belongs in the cache; a file without a published digest belongs by hand.

    Raises:
        ModelError: The address does not end in a plain file name.
    """
    return cache_folder() / "files" / key(file) / plain_name(file) if key(file) else by_hand(file)


def by_hand(file: CardFile) -> Path:
    """Say where a user may put a file that samlet cannot or may not download.

    Raises:
        ModelError: The address does not end in a plain file name.
    """
    return cache_folder() / "by_hand" / plain_name(file)


def advice(file: CardFile) -> str:
    """Say how to get a file onto this computer by hand: what it is, from where, and where to put it."""
    size = f"{file.size:,} bytes" if file.size else ""
    digest = (
        f"sha256 {file.sha256}" if file.sha256 else f"git digest {file.git_sha1}" if file.git_sha1 else ""
    )
    facts = ", ".join(fact for fact in (size, digest) if fact) or "size and digest were not published"
    return f"download {file.url} ({facts}) elsewhere and put it at {by_hand(file)}"


def partial(file: CardFile, ending: str) -> Path:
    """Name a companion of a download that is not finished: "part", "json" or "lock"."""
    return cache_folder() / "partial" / f"{key(file)}.{ending}"


def plain_name(file: CardFile) -> str:
    """Give the file's own name, which comes from a card and must not lead anywhere else.

    Raises:
        ModelError: It is not a plain file name.
    """
    if not _PLAIN_NAME.fullmatch(file.file_name):
        raise ModelError(
            f"expected an address that ends in a plain file name, got {file.url!r:.200}; correct the card"
        )
    return file.file_name


def hub_copies(file: CardFile) -> Iterator[Path]:
    """Give the copies that other programs left in the Hugging Face cache, those with the right size.

    Their digest is not checked here.
    """
    if not file.repo or not key(file):
        return
    is_model = not file.repo.startswith(("spaces/", "datasets/"))
    repository = _hub_folder() / (f"models/{file.repo}" if is_model else file.repo).replace("/", "--")
    # Large files lie there under their SHA-256, so the first guess is nearly always right.
    found = [repository / "blobs" / file.sha256] if file.sha256 else []
    pattern = f"{glob.escape(str(repository))}/snapshots/*/**/{glob.escape(plain_name(file))}"
    found += [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    for path in found:
        if path.is_file() and file.size in (0, path.stat().st_size):
            yield path


def _hub_folder() -> Path:
    """Say where huggingface_hub keeps its files, by the same settings that it reads."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _xdg_caches() / "huggingface") / "hub"
