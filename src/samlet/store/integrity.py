"""Whether bytes are the ones a card names: their number first, then their digest."""

import hashlib
from pathlib import Path

from samlet.card import CardFile
from samlet.errors import ChecksumError, ModelError

_BLOCK = 2**20


def check_bytes(file: CardFile, data: bytes, *, path: Path, advice: str) -> None:
    """Compare bytes in memory with what the card says of them; a size of 0 is not compared.

    Args:
        file: What is expected.
        data: The whole content, or more than `file.size` bytes of it if it is too long.
        path: Where it came from, for messages.
        advice: What the user should do if it is wrong.

    Raises:
        ChecksumError: It is another content.
    """
    if file.size and len(data) != file.size:
        found = "more" if len(data) > file.size else f"{len(data):,}"
        raise ChecksumError(
            f"expected {file.size:,} bytes in the model file {path}, found {found}; "
            f"the file is damaged or another one, {advice}"
        )
    kind, expected = expected_digest(file)
    found = _hasher(file, len(data), data).hexdigest()
    if expected and found != expected:
        raise ChecksumError(
            f"expected {kind} {expected[:12]}... for the model file {path}, found {found[:12]}...; "
            f"the file is damaged or another one, {advice}"
        )


def fault_of(file: CardFile, path: Path) -> str | None:
    """Compare a file on the disk with what the card says of it, without reading it whole into memory.

    Returns:
        None if it is the right one, else "expected ..., found ...".

    Raises:
        ModelError: It cannot be read.
    """
    kind, expected = expected_digest(file)
    try:
        size = path.stat().st_size
        if file.size and size != file.size:
            return f"expected {file.size:,} bytes, found {size:,}"
        hasher = _hasher(file, size)
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                hasher.update(block)
    except OSError as error:
        raise ModelError(
            f"expected a model file at {path}, but it cannot be read ({error.strerror or error}); "
            "check its permissions or delete it"
        ) from None
    if not expected or hasher.hexdigest() == expected:
        return None
    return f"expected {kind} {expected}, found {hasher.hexdigest()}"


def digest_of(path: Path) -> tuple[str, int]:
    """Give the SHA-256 of a file as it lies there now, in hex, and the number of bytes it was taken of.

    Raises:
        OSError: It cannot be read.
    """
    hasher, size, block = hashlib.sha256(), 0, bytearray(_BLOCK)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(block):
            hasher.update(memoryview(block)[:count])
            size += count
    return hasher.hexdigest(), size


def expected_digest(file: CardFile) -> tuple[str, str]:
    """Give the kind and the value of the digest that a file must have; the value is "" if none was published."""
    return ("sha256", file.sha256) if file.sha256 or not file.git_sha1 else ("git digest", file.git_sha1)


def _hasher(file: CardFile, size: int, data: bytes = b"") -> "hashlib._Hash":
    if file.sha256 or not file.git_sha1:
        return hashlib.sha256(data)
    # Git's own digest, where nobody published a better one: enough against damage and against a stranger who
    # wants to imitate this very file, not against the file's own author.
    hasher = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    hasher.update(data)
    return hasher
