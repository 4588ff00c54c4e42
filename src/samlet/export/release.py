"""Turn a training state into a model that samlet loads: averaged weights, float16, with a card.

    python -m samlet.export.release --state runs/mine/state.safetensors --out mine.safetensors --name mine
    samlet segment PHOTO --model mine.safetensors --point 280,200

`--ship` instead replaces the built-in weights and the `sha256` and `size` lines of its card, leaving the rest of the
card as a person wrote it. Equal weights give equal bytes.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from samlet import registry
from samlet.atomic import atomic_write
from samlet.errors import CheckpointError, SamletError

PACKAGE = Path(__file__).parent.parent


def shrink(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    """Averaged weights of a training state as float16.

    Raises:
        CheckpointError: The state holds no average, or a number that float16 cannot hold.
    """
    found = {k.removeprefix("average."): v for k, v in sorted(tensors.items()) if k.startswith("average.")}
    if not found:
        raise CheckpointError(
            "expected averaged weights (average.*) in the state, found none; pass a state of the trainer"
        )
    for name, array in found.items():
        if not np.isfinite(array).all() or np.abs(array).max(initial=0) > np.finfo(np.float16).max:
            raise CheckpointError(
                f"expected numbers that float16 can hold in {name}; the run diverged, look at its curves"
            )
    return {k: np.ascontiguousarray(v.astype(np.float16)) for k, v in found.items()}


def write_model(state: Path, out: Path, *, name: str) -> None:
    """Write a file that `samlet.load(out)` takes: weights and, in its metadata, nano's card under another name."""
    card = replace(
        registry.resolve("nano"),
        name=name,
        aliases=(),
        title=f"{name}: nano's networks, trained by you",
        weights_licence="Yours, as far as the pictures it was trained on allow",
        quality={},
        notes="Measure it: samlet evaluate.",
    )
    atomic_write(out, save(shrink(load_file(state)), {registry.CARD_KEY: card.to_json()}))


def ship(state: Path, *, package: Path = PACKAGE) -> None:
    """Replace the built-in weights and the digest in their card."""
    data = save(shrink(load_file(state)))
    (package / "weights").mkdir(exist_ok=True)
    atomic_write(package / "weights" / "nano.safetensors", data)
    card = package / "cards" / "nano.toml"
    text = card.read_text("utf-8")
    text = re.sub(r'^sha256 = ".*"$', f'sha256 = "{hashlib.sha256(data).hexdigest()}"', text, flags=re.M)
    text = re.sub(r"^size = \d+$", f"size = {len(data)}", text, flags=re.M)
    atomic_write(card, text)


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="turn a training state into a model that samlet loads")
    parser.add_argument("--state", type=Path, required=True)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="the .safetensors file to write")
    where.add_argument("--ship", action="store_true", help="replace the built-in weights of this checkout")
    parser.add_argument("--name", default="mine")
    args = parser.parse_args()
    try:
        if args.ship:
            ship(args.state)
        else:
            write_model(args.state, args.out, name=args.name)
    except SamletError as error:
        print(f"samlet: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
