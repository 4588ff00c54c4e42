"""The files of cards: found, fetched if need be, and never handed out unverified.

Order of looking: the package; our cache; the folder for files put there by hand; a copy that another program
left in the Hugging Face cache (used where it lies: no second copy of gigabytes, and no link that would dangle
when the other program tidies up); the user's mirror; the card's address.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
from importlib.resources import files as package_files
from pathlib import Path

from samlet.atomic import flush_folder
from samlet.card import CardFile
from samlet.errors import ChecksumError, ModelError, OutputError
from samlet.store import layout
from samlet.store.first_use import record_first_use
from samlet.store.integrity import check_bytes, digest_of, fault_of
from samlet.store.lock import held
from samlet.store.progress import Report, shown

_log = logging.getLogger("samlet.store")


def locate(file: CardFile) -> Path:
    """Say where a card's file lies now, without network and without reading it.

    Returns:
        Its path. A path of the package is given even if nothing is there.

    Raises:
        ModelError: The file is not on this computer; the message says how to get it.
    """
    found = _ours(file) or next(layout.hub_copies(file), None)
    if found is None:
        raise ModelError(
            f"expected the model file {layout.plain_name(file)} on this computer, but it is not here; "
            f"fetch it with samlet fetch, or {layout.advice(file)}"
        )
    return found


def fetch(file: CardFile, *, progress: Report | None = None, verify: bool = False) -> Path:
    """Give the path of a card's file, and download it first if it is not on this computer.

    Any number of processes may ask for the same file at once; one downloads, the others wait.

    Args:
        file: What is wanted.
        progress: Called with the bytes here and the bytes in all; None shows a bar if a person is looking.
        verify: Whether to compare a file that is here already with its digest too; one that samlet downloaded
            and that is damaged is downloaded again. What is downloaded is always compared.

    Returns:
        The path.

    Raises:
        ModelError: The file cannot be had: no network, no such address, or nobody published its digest.
        ChecksumError: What an address gave, or what lies here, is not the file that the card names.
        InputError: A setting (SAMLET_MIRROR, HF_TOKEN) makes no sense.
        OutputError: The cache cannot be written.
    """
    found = _ours(file)
    if found is not None and not (verify and _is_damaged(file, found)):
        return found
    for copy in layout.hub_copies(file):
        if fault_of(file, copy) is None:
            return copy
    _check_may_download(file)
    from samlet.store.download import download  # late: most runs find their files and need no network code

    target = layout.place(file)
    name = layout.plain_name(file)

    def say_wait() -> None:
        _log.info("another process is downloading %s, waiting for it", name)

    with held(layout.partial(file, "lock"), on_wait=say_wait):
        if not target.is_file():  # nobody else was faster
            with contextlib.ExitStack() as stack:
                report = progress or stack.enter_context(shown(name, file.size))
                download(file, target, report)
    return target


def read_verified(file: CardFile, *, progress: Report | None = None) -> bytes:
    """Read one file of a card, and check its size and digest before anybody parses it.

    The bytes that were hashed are the bytes returned, so that swapping the file in between is of no use.

    Args:
        file: What is wanted; it is fetched if it is not here.
        progress: As in `fetch`.

    Returns:
        The whole content.

    Raises:
        ModelError: The file cannot be had or cannot be read.
        ChecksumError: The file is there, but is not the one the card names.
        InputError: A setting (SAMLET_MIRROR, HF_TOKEN) makes no sense.
        OutputError: The cache cannot be written.
    """
    path = _ours(file) or next(layout.hub_copies(file), None) or fetch(file, progress=progress)
    data = _read_bytes(path, at_most=file.size or -1)
    try:
        check_bytes(file, data, path=path, advice=_remedy(file, path))
    except ChecksumError:
        if _ours(file) is not None:
            raise
        # A damaged copy in another program's cache is not ours to complain about.
        path = fetch(file, progress=progress)
        data = _read_bytes(path, at_most=file.size or -1)
        check_bytes(file, data, path=path, advice=_remedy(file, path))
    if not file.sha256:
        record_first_use(path, hashlib.sha256(data).hexdigest())
    return data


def copy_to(file: CardFile, folder: Path, *, progress: Report | None = None) -> Path:
    """Put a verified copy of a card's file into a folder, for instance to carry it to another computer.

    Args:
        file: What is wanted; it is fetched if it is not here.
        folder: The folder; made if it is missing.
        progress: As in `fetch`.

    Returns:
        The copy, complete or not there at all; one that is there and right is left alone.

    Raises:
        ModelError: The file cannot be had, or is not the one the card names.
        OutputError: The folder cannot be written.
    """
    source = fetch(file, progress=progress)
    target = folder / layout.plain_name(file)
    temporary = folder / f".samlet-{secrets.token_hex(8)}.tmp"
    try:
        if target.is_file() and fault_of(file, target) is None:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        fault = fault_of(file, temporary)
        if fault is not None:
            raise ChecksumError(f"{fault} in {source}; the file is damaged, {_remedy(file, source)}")
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        flush_folder(folder)
    except OSError as error:
        raise OutputError(
            f"could not write {target} ({error.strerror or error}); free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return target


def describe(path: Path) -> tuple[CardFile, bytes]:
    """Read a user's own weights file, whose digest nobody published, and record its size and digest.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    data = _read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    return CardFile(role="weights", path=str(path.resolve()), url=None, sha256=digest, size=len(data)), data


def name_by_content(path: Path) -> CardFile:
    """Say what `describe` says of a user's own weights file, without holding the file in memory.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    try:
        digest, size = digest_of(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    return CardFile(role="weights", path=str(path.resolve()), url=None, sha256=digest, size=size)


def read_graph(name: str) -> tuple[bytes, bytes]:
    """Read a network structure of the package: the .onnx file and the .json beside it that describes it.

    Args:
        name: Plain file name as in `Card.graphs`, for instance "nano_encoder.onnx".

    Raises:
        ModelError: The package has no such graph.
    """
    path = Path(str(package_files("samlet"))) / "graphs" / name
    return _read_bytes(path), _read_bytes(path.with_suffix(".json"))


def _ours(file: CardFile) -> Path | None:
    """Find a file in the package, in the cache or where the user put it; relative paths are inside the package."""
    if file.path is not None:
        return Path(str(package_files("samlet"))) / file.path
    return next((path for path in (layout.place(file), layout.by_hand(file)) if path.is_file()), None)


def _is_damaged(file: CardFile, path: Path) -> bool:
    """Compare a file that is here; delete it if it is ours to delete and wrong, and complain if it is not."""
    fault = fault_of(file, path)
    if fault is None:
        return False
    if path != layout.place(file) or not layout.key(file):
        raise ChecksumError(f"{fault} in {path}; the file is damaged or another one, {_remedy(file, path)}")
    _log.warning("%s is damaged (%s) and is downloaded again", path, fault)
    path.unlink(missing_ok=True)
    return True


def _remedy(file: CardFile, path: Path) -> str:
    if file.path is not None:
        return "install it again"
    if path == layout.by_hand(file):
        return f"download {file.url} again and put it there"
    return "delete it to have it downloaded again"


def _check_may_download(file: CardFile) -> None:
    name = layout.plain_name(file)
    if not layout.key(file):
        raise ModelError(
            f"expected the model file {name}, but samlet does not download it because nobody published its digest; "
            f"download {file.url} by hand and give its path as the model, or put it at {layout.by_hand(file)}"
        )
    if layout.is_offline():
        raise ModelError(
            f"expected the model file {name} on this computer, but it is not here and SAMLET_OFFLINE is set; "
            f"{layout.advice(file)}"
        )


def _read_bytes(path: Path, *, at_most: int = -1) -> bytes:
    """Read a file; with `at_most`, one byte beyond it at the most, enough to see that it is too long."""
    try:
        with path.open("rb") as stream:
            return stream.read(at_most + 1 if at_most >= 0 else -1)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(
        f"expected a model file at {path}, but it cannot be read ({error.strerror or error}); "
        "install samlet again or correct the path"
    )
