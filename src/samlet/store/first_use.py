"""Digests of files whose digest nobody published, as they were when first used."""

import json
import logging
from pathlib import Path

from samlet.atomic import atomic_write
from samlet.errors import SamletError
from samlet.store import layout
from samlet.store.lock import held

_log = logging.getLogger("samlet.store")
_MOST = 1000


def record_first_use(path: Path, digest: str) -> bool:
    """Remember the digest that a file has on its first use, and say whether it has changed since.

    A change is logged as a warning once, and the new digest is remembered. A cache that cannot be written is
    no reason not to use a model: then nothing is remembered.

    Args:
        path: The file; its absolute path is what it is remembered by.
        digest: Its SHA-256 now, in hexadecimal digits.

    Returns:
        True if it was used before with another content.
    """
    name = str(path.resolve())
    try:
        record = layout.cache_folder() / "first_use.json"
        known = _read(record)
        if known.get(name) == digest:
            return False
        with held(layout.cache_folder() / "partial" / "first_use.lock"):
            known = _read(record)
            before = known.pop(name, None)
            known[name] = digest
            kept = dict(list(known.items())[-_MOST:])
            atomic_write(record, json.dumps(kept, indent=1) + "\n")
    except (SamletError, OSError) as error:
        _log.debug("the digest of %s is not remembered: %s", name, error)
        return False
    changed = before not in (None, digest)
    if changed:
        _log.warning(
            "%s is not the file it was when it was first used (sha256 %s..., now %s...); "
            "if you did not replace it, find out who did",
            name, str(before)[:12], digest[:12],
        )  # fmt: skip
    return changed


def _read(record: Path) -> dict[str, str]:
    """Read the record; a missing or broken one is empty, since it only serves to warn."""
    try:
        known = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {str(name): digest for name, digest in known.items() if isinstance(digest, str)}
