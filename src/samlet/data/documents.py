"""JSON and XML from outside, read with bounds and refused in one sentence."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from samlet.errors import InputError, LimitError

MAX_DOCUMENT = 4 * 2**30  # COCO's and LVIS's largest have 1.1 GB
MAX_XML = 16 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, or is no JSON object.
        LimitError: It is too large.
    """
    return parse_json(_bytes(path, MAX_DOCUMENT), str(path))


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: The document.
        name: For messages.

    Raises:
        InputError: It is none.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "" if isinstance(error, UnicodeDecodeError) else f" ({error!s:.80})"
        raise InputError(f"expected JSON at {name}, got something else{reason}; export it again") from None
    if not isinstance(found, dict):
        raise InputError(f"expected a JSON object at {name}, got {type(found).__name__}; export it again")
    return found


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML document without a document type, which annotations never have and attacks do.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, or is no such document.
        LimitError: It is too large.
    """
    data = _bytes(path, MAX_XML)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:  # NULs: UTF-16 could hide one
        raise InputError(f"expected plain XML at {path}, got one with a document type; remove it")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise InputError(f"expected XML at {path}, got something else ({error}); write it again") from None


def read_lines(path: Path, limit: int = MAX_XML) -> list[str]:
    """Read a text file.

    Args:
        path: The file.
        limit: Most bytes.

    Raises:
        InputError: It cannot be read, or is no text.
        LimitError: It is too large.
    """
    try:
        return _bytes(path, limit).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"expected text in UTF-8 at {path}, got other bytes; write it again") from None


def _bytes(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise LimitError(f"expected at most {limit:,} bytes, but {path} has {size:,}; split it")
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"expected a readable file at {path}, but reading it failed ({error.strerror or error}); check the path"
        ) from None
