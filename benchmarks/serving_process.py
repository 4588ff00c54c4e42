"""A server in a process of its own, on the fake backend or on a real model, for the load and hostility scripts."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samlet.backends.fake import FakeBackend, decoded
from samlet.model import Model
from samlet.registry import resolve
from samlet.session import Session

SIDE = 128  # a small canvas: the fake decoder then takes a fraction of a millisecond


def fake_model(decode_ms: float = 0.0) -> Model:
    """Nano's card on the fake backend with a small canvas; a decoder may take time, as a real one does."""
    card = replace(resolve("nano"), side=SIDE, mask_grid=SIDE // 2)

    def decoder(feeds):
        if decode_ms:
            time.sleep(decode_ms / 1000)
        return decoded(feeds, 8)

    return Model(Session(card, FakeBackend({"decoder": decoder})))


def picture(seed: int, hw: tuple[int, int] = (96, 128)) -> bytes:
    """A PNG whose colours depend on the seed."""
    import io

    from PIL import Image

    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    Image.fromarray(
        rng.integers(0, 255, (*hw, 3), np.uint8) // 8 + rng.integers(0, 200, 3).astype(np.uint8)
    ).save(stream, "PNG")
    return stream.getvalue()


@dataclass
class Served:
    """A running server."""

    port: int
    pid: int

    def rss(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Processor time so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextmanager
def served(*options: str) -> Iterator[Served]:
    """Start a server with the options of `main`, and stop it gently."""
    command = [sys.executable, "-m", "benchmarks.serving_process", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Served(int(process.stdout.readline()), process.pid)
    finally:
        process.terminate()
        code = process.wait(timeout=60)
        process.stdout.close()
        print(f"server stopped with exit code {code}", file=sys.stderr)


def main() -> None:
    from samlet.model import load
    from samlet.server.app import create_app
    from samlet.server.serving import bind, server
    from samlet.server.settings import Settings

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a real model; the fake one if left out")
    parser.add_argument("--decode-ms", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of the runtime, for one run")
    parser.add_argument("--cache-mib", type=int, default=512)
    args = parser.parse_args()
    settings = Settings(workers=args.workers, cache_bytes=args.cache_mib * 2**20)
    model = load(args.model, threads=args.threads) if args.model else fake_model(args.decode_ms)
    listening = bind("127.0.0.1", 0)
    print(listening.getsockname()[1], flush=True)
    with listening:
        server(create_app({"nano": model}, settings), settings).run(sockets=[listening])


if __name__ == "__main__":
    main()
