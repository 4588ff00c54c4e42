"""The web page beside an exported model: a folder that any static host serves, and that needs no server of ours.

A browser that opened it once keeps it whole and opens it again without network: its service worker gets the list of all
files, and a version that is their digest.
"""

import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files as package_files
from importlib.resources.abc import Traversable
from pathlib import Path

from samlet.atomic import atomic_write
from samlet.errors import ModelError, OutputError
from samlet.server import web_runtime
from samlet.server.settings import PAGE_POLICY

_ENTRY = "index.html"
_ENGINE = '<meta name="samlet-engine" content="{}">'
_POLICY = f'<meta http-equiv="Content-Security-Policy" content="{PAGE_POLICY}">'
_WORKER = "service-worker.js"
_VERSION, _FILES = 'const VERSION = "";', "const FILES = [];"


def write_static(folder: Path) -> list[Path]:
    """Put the page and onnxruntime-web beside an exported model, so that any static host can serve the folder.

    Args:
        folder: What the export's format "web" wrote: `manifest.json` and the networks.

    Returns:
        The files written.

    Raises:
        ModelError: There is no exported model in the folder, or onnxruntime-web is not installed.
        OutputError: The folder cannot be written to.
    """
    if not (folder / "manifest.json").is_file():
        raise ModelError(
            f"expected an exported model in {folder}, found no manifest.json; export with the format web first"
        )
    runtime = web_runtime.installed()
    if runtime is None:
        raise ModelError(
            f"expected {web_runtime.PACKAGE} {web_runtime.VERSION} in samlet's cache for a page without a server; "
            "run python -m samlet.server.web_runtime"
        )
    contents = dict(_page_files(package_files("samlet.server") / "web"))
    contents[_ENTRY] = _filled_in(
        contents[_ENTRY], {_ENGINE.format("server"): f"{_POLICY}\n  {_ENGINE.format('browser')}"}
    )
    contents["runtime/runtime.json"] = web_runtime.facts()
    for name in (*web_runtime.FILES, web_runtime.LICENCE):
        contents[f"runtime/{web_runtime.VERSION}/{name}"] = (runtime / name).read_bytes()
    contents[_WORKER] = _kept(contents, folder)
    written = []
    for name, data in contents.items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"expected a folder {target.parent} to write to, but it cannot be made ({error.strerror}); "
                "choose another folder"
            ) from None
        written.append(atomic_write(target, data))
    return written


def _kept(contents: dict[str, bytes], folder: Path) -> bytes:
    """Fill in the service worker: all files by name, and a version that changes with any of them."""
    manifest = (folder / "manifest.json").read_bytes()
    model = sorted(json.loads(manifest).get("files", {}))  # each by its digest in the manifest
    names = sorted({*contents, *model, "manifest.json"} - {_WORKER})
    digest = hashlib.sha256(manifest)
    for name in sorted(contents):
        digest.update(hashlib.sha256(name.encode() + b"\0" + contents[name]).digest())
    filled = {
        _VERSION: f'const VERSION = "{digest.hexdigest()[:16]}";',
        _FILES: f"const FILES = {json.dumps(names)};",
    }
    return _filled_in(contents[_WORKER], filled)


def _filled_in(text: bytes, parts: dict[str, str]) -> bytes:
    for blank, part in parts.items():
        if text.count(blank.encode()) != 1:
            raise ModelError(f"expected the page's {blank!r} once, found another page; install samlet again")
        text = text.replace(blank.encode(), part.encode())
    return text


def _page_files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _page_files(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry.read_bytes()
