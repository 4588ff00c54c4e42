"""onnxruntime-web, which lets the page make masks in the visitor's browser: three files from the npm package.

They are not part of samlet's wheel, since the WebAssembly module alone has 14 MB (docs/adr/0008). This module brings
them into samlet's cache, once:

    python -m samlet.server.web_runtime                 asks npm for the package
    python -m samlet.server.web_runtime FOLDER-OR-TGZ   takes an installed or packed one, without network

Only files with the digests below are accepted. Without them the page works, too: the server makes its masks.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path

from samlet.atomic import atomic_write
from samlet.errors import CheckpointError, ChecksumError, ModelError, OutputError, SamletError
from samlet.store import cache_folder

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
MODULE = "ort.wasm.min.mjs"
"""What the page imports; it fetches the other two from beside it."""

FILES: Mapping[str, str] = {
    MODULE: "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""SHA-256 by name, of the files in the package's folder `dist`."""

LICENCE = "onnxruntime-web.LICENSE.txt"
_MOST_BYTES = 64 * 2**20  # of one file; the largest has 14 MB
_NPM_SECONDS = 300


def folder() -> Path:
    """Say where the files lie once they are there.

    Raises:
        InputError: There is no place for a cache.
    """
    return cache_folder() / "web" / f"{PACKAGE}-{VERSION}"


def installed() -> Path | None:
    """Give the folder if all files are there and are the right ones, else None."""
    place = folder()
    try:
        whole = all(_digest((place / name).read_bytes()) == digest for name, digest in FILES.items())
    except OSError:
        return None
    return place if whole else None


def facts() -> bytes:
    """Give `runtime/runtime.json`, from which the page learns whether it can make masks itself."""
    found = {"module": f"{VERSION}/{MODULE}"} if installed() is not None else {}
    return json.dumps(found).encode()


def install(source: Path) -> Path:
    """Copy the runtime into samlet's cache, with its licence.

    Args:
        source: The package as npm installed it (`node_modules/onnxruntime-web`, or a folder with `node_modules` in it),
            or as `npm pack` packed it (.tgz). Nothing in it is executed.

    Returns:
        The folder with the files.

    Raises:
        ModelError: There is no such package.
        ChecksumError: It is another version, or its files are damaged; nothing is written.
        OutputError: The cache cannot be written.
    """
    read = _packed(source) if source.is_file() else _unpacked(source)
    contents = {name: _checked(name, read(name)) for name in FILES}
    licence = package_files("samlet.server").joinpath(LICENCE).read_bytes()
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected a folder {place} to write to, but it cannot be made ({error.strerror}); "
            "set SAMLET_CACHE to a folder you may write to"
        ) from None
    atomic_write(place / LICENCE, licence)
    for name, data in contents.items():
        atomic_write(place / name, data)
    return place


def fetch() -> Path:
    """Let npm fetch the package, from whatever registry it is set up for, and install it.

    Raises:
        ModelError: There is no npm, or it failed.
        ChecksumError: What came is not what was pinned.
        OutputError: The cache cannot be written.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ModelError(
            f"expected npm on this computer to fetch {PACKAGE} {VERSION}, found none; install Node.js, or fetch the "
            "package elsewhere and give its folder or .tgz"
        )
    with tempfile.TemporaryDirectory(prefix="samlet-web-") as scratch:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", scratch]
        try:
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=_NPM_SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            raise ModelError(
                f"expected npm to fetch {PACKAGE} {VERSION}, but it failed ({_reason(error)}); check the network and "
                "npm's settings, or give the package's folder or .tgz"
            ) from None
        return install(Path(scratch) / f"{PACKAGE}-{VERSION}.tgz")


def _unpacked(source: Path) -> Callable[[str], bytes]:
    for place in (source, source / PACKAGE, source / "node_modules" / PACKAGE):
        if (place / "dist" / MODULE).is_file():
            return lambda name: _limited(place / "dist" / name)
    raise ModelError(
        f"expected the npm package {PACKAGE} in {source}, found no dist/{MODULE} there; "
        f"run npm install {PACKAGE}@{VERSION} and give its folder"
    )


def _limited(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    except OSError as error:
        raise ModelError(
            f"expected the file {path}, but it cannot be read ({error.strerror}); install {PACKAGE} again"
        ) from None


def _packed(source: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            with tarfile.open(source, "r:gz") as archive:
                member = archive.extractfile(f"package/dist/{name}")
                if member is None:
                    raise KeyError(name)
                return member.read(_MOST_BYTES)
        except (tarfile.TarError, KeyError, OSError, EOFError) as error:
            raise CheckpointError(
                f"expected the npm package {PACKAGE} in {source}, but {name} cannot be read from it "
                f"({type(error).__name__}); run npm pack {PACKAGE}@{VERSION} again"
            ) from None

    return read


def _checked(name: str, data: bytes) -> bytes:
    if _digest(data) != FILES[name]:
        raise ChecksumError(
            f"expected {name} of {PACKAGE} {VERSION}, got a file with other content; "
            f"take exactly that version: npm pack {PACKAGE}@{VERSION}"
        )
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _reason(error: Exception) -> str:
    told = getattr(error, "stderr", None) or b""
    lines = told.decode("utf-8", "replace").strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]


def main(argv: Sequence[str] | None = None) -> int:
    """Install the runtime; see the module's description."""
    parser = argparse.ArgumentParser(
        prog="python -m samlet.server.web_runtime",
        description=f"Bring {PACKAGE} {VERSION} into samlet's cache, so that the page of samlet serve makes masks in "
        "the browser.",
    )
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        help="the package's folder or .tgz; without it, npm fetches the package",
    )
    source: Path | None = parser.parse_args(argv).source
    try:
        place = fetch() if source is None else install(source)
    except SamletError as error:
        print(f"samlet: {error}", file=sys.stderr)
        return error.exit_code
    print(place)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
