"""Turn a training state into the weights that ship: averaged, float16, with the card's digest updated.

    python -m samlet.export.release --state runs/nano/state.safetensors

The file is written so that equal weights give equal bytes; the card is TOML text whose `sha256` and `size` lines
are replaced, everything else is left as a person wrote it.
"""

import argparse
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from samlet.atomic import atomic_write
from samlet.errors import CheckpointError

PACKAGE = Path(__file__).parent.parent


def shrink(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    """Averaged weights of a state as float16.

    Raises:
        CheckpointError: the state holds no average, or a number that float16 cannot hold.
    """
    found = {k.removeprefix("average."): v for k, v in sorted(tensors.items()) if k.startswith("average.")}
    if not found:
        raise CheckpointError(
            "expected averaged weights (average.*) in the state, found none; pass a training state"
        )
    for name, array in found.items():
        if not np.isfinite(array).all() or np.abs(array).max(initial=0) > np.finfo(np.float16).max:
            raise CheckpointError(
                f"expected numbers that float16 can hold in {name}; look at the run's curves"
            )
    return {k: np.ascontiguousarray(v.astype(np.float16)) for k, v in found.items()}


def main() -> int:
    """Write the weights and update the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=PACKAGE / "weights" / "nano.safetensors")
    parser.add_argument("--card", type=Path, default=PACKAGE / "cards" / "nano.toml")
    args = parser.parse_args()
    data = save(shrink(load_file(args.state)))
    args.weights.parent.mkdir(exist_ok=True)
    atomic_write(args.weights, data)
    text = args.card.read_text()
    text = re.sub(r'^sha256 = ".*"$', f'sha256 = "{hashlib.sha256(data).hexdigest()}"', text, flags=re.M)
    text = re.sub(r"^size = \d+$", f"size = {len(data)}", text, flags=re.M)
    atomic_write(args.card, text)
    print(f"{args.weights.name}: {len(data) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
