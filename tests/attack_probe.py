"""Give each hostile file to the reader, in a process of its own: what came out, in how much time and memory.

Run by test_attacks.py as `python -m tests.attack_probe [control]` in an empty folder; prints one JSON object a file.
"""

import io
import json
import sys
import time
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

from attacks import ATTACKS, CANARY, Attack

from samlet.checkpoint import parse
from samlet.errors import CheckpointError

if sys.platform == "linux":
    import resource

ROOM = 200 * 2**20
"""Memory that a reader may take for one file, in bytes."""


def main() -> None:
    control = sys.argv[1:] == ["control"]
    for attack in ATTACKS:
        if not control or attack.fires:
            print(json.dumps({"name": attack.name, **(unguarded(attack) if control else guarded(attack))}))


def guarded(attack: Attack) -> dict[str, Any]:
    """Let samlet read the file."""
    data = attack.make()
    known = set(sys.modules)
    before = start_measuring()
    started = time.process_time()
    try:
        parse(data, origin=attack.name)
        outcome = "read it"
    except CheckpointError as error:
        outcome = f"CheckpointError: {error}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - started
    return {
        "outcome": outcome,
        "seconds": seconds,
        "bytes": stop_measuring() - before,
        "canary": Path(CANARY).exists(),
        "modules": sorted(set(sys.modules) - known),
    }


def unguarded(attack: Attack) -> dict[str, Any]:
    """Let Python's own reader of pickles read the file: the canary must appear, or the attack proves nothing."""
    pickle: Any = import_module("pickle")

    class Reader(pickle.Unpickler):
        def persistent_load(self, named: Any) -> Any:
            return named

        def find_class(self, module: str, name: str) -> Any:
            return _nothing if module.startswith("torch") else super().find_class(module, name)

    data = attack.make()
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read("archive/data.pkl")
    stream = io.BytesIO(data)
    Path(CANARY).unlink(missing_ok=True)
    while not Path(CANARY).exists() and stream.tell() < len(data):
        try:
            Reader(stream).load()
        except Exception:  # after it ran, anything may happen
            break
    fired = Path(CANARY).exists()
    Path(CANARY).unlink(missing_ok=True)
    return {"canary": fired}


def _nothing(*arguments: Any) -> None:
    """Stand for torch's functions."""


def start_measuring() -> int:
    """Forbid more memory than `ROOM` from here on; give the present peak in bytes."""
    if sys.platform != "linux":
        return 0
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    limit = _status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    return _status("VmHWM")


def stop_measuring() -> int:
    if sys.platform != "linux":
        return 0
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
