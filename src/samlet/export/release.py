"""Turn a training state into a model that samlet loads: averaged weights, float16, with a card.

    python -m samlet.export.release --state runs/mine/state.safetensors --out mine.safetensors --name mine
    samlet segment PHOTO --model mine.safetensors --point 280,200

`--ship` instead replaces the built-in weights and the `sha256` and `size` lines of its card, leaving the rest of the
card as a person wrote it. An object head and `nano-all` belong to the encoder they were trained on: a run that left the
built-in encoder alone (`--part decoder`) keeps them, a new encoder drops them; then

    python -m samlet.export.release --objects runs/objects/state.safetensors --ship

puts the head of a state of the recipe `objects` into the built-in model and touches nothing else in it, and
`--all-instance` likewise replaces what `nano-all` has beside nano's encoder. Equal weights give equal bytes.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, load_file, save

from samlet import registry
from samlet.atomic import atomic_write
from samlet.errors import CheckpointError, SamletError

PACKAGE = Path(__file__).parent.parent
WEIGHTS = Path("weights", "nano.safetensors")
OBJECTS, OBJECTS_GRAPH = "objects", "nano_objects.onnx"
ALL_INSTANCE_CARD = Path("cards", "nano_all.toml")
ALL_INSTANCE, ENCODER = Path("weights", "nano_all.safetensors"), "encoder."
COUNTER = "num_batches_tracked"  # of batch norms; nobody reads it once training is over


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
    base, weights = registry.resolve("nano"), shrink(load_file(state))
    head = head_of(weights, load_file(PACKAGE / WEIGHTS))
    card = replace(
        base,
        name=name,
        graphs={role: graph for role, graph in base.graphs.items() if head or role != OBJECTS},
        aliases=(),
        title=f"{name}: nano's networks, trained by you",
        weights_licence="Yours, as far as the pictures it was trained on allow",
        quality={},
        notes="Measure it: samlet evaluate.",
    )
    atomic_write(out, save(dict(sorted((weights | head).items())), {registry.CARD_KEY: card.to_json()}))


def head_of(
    weights: Mapping[str, NDArray[np.float16]], built_in: Mapping[str, NDArray[np.float16]]
) -> dict[str, NDArray[np.float16]]:
    """The built-in model's object head if `weights` have its encoder to the last bit, else nothing."""
    shared = [name for name in built_in if name.startswith(ENCODER)]
    if not all(name in weights and np.array_equal(weights[name], built_in[name]) for name in shared):
        return {}
    return {name: array for name, array in built_in.items() if name.startswith(f"{OBJECTS}.")}


def ship(state: Path, *, package: Path = PACKAGE) -> None:
    """Replace the built-in weights and the digest in their card; what was trained on another encoder goes."""
    weights, there = shrink(load_file(state)), package / WEIGHTS
    head = head_of(weights, load_file(there)) if there.exists() else {}
    _put(save(dict(sorted((weights | head).items()))), package, objects=bool(head))


def ship_objects(state: Path, *, package: Path = PACKAGE) -> None:
    """Put an object head into the built-in model, in place of an earlier one.

    Raises:
        CheckpointError: The state is not one of an object head.
    """
    head = {f"{OBJECTS}.{name}": array for name, array in shrink(load_file(state)).items()}
    expected = json.loads((package / "graphs" / OBJECTS_GRAPH).with_suffix(".json").read_text("utf-8"))
    shapes = {name: list(array.shape) for name, array in head.items()}
    if shapes != expected["checkpoint"]:
        raise CheckpointError(f"expected the state of an object head in {state}, got another network's")
    rest = load_file(package / WEIGHTS)
    kept = {name: array for name, array in rest.items() if not name.startswith(f"{OBJECTS}.")}
    _put(save(dict(sorted((kept | head).items()))), package, objects=True)


def ship_all_instance(state: Path, *, package: Path = PACKAGE) -> None:
    """Replace the weights of `nano-all`, all but the encoder, which it shares with the built-in model.

    Raises:
        CheckpointError: The state is not one of the recipe `all_instance` on nano, or its encoder is not that of the
            built-in model.
    """
    weights = {name: array for name, array in shrink(load_file(state)).items() if not name.endswith(COUNTER)}
    contract = json.loads((package / "graphs" / "nano_all.json").read_text("utf-8"))
    expected = {name: shape for name, shape in contract["checkpoint"].items() if not name.endswith(COUNTER)}
    built_in = (package / WEIGHTS).read_bytes()
    shared = {name: array for name, array in load(built_in).items() if name.startswith(ENCODER)}
    shapes = {name: list(array.shape) for name, array in weights.items()}
    if shapes != expected or not all(np.array_equal(weights[k], shared[k]) for k in shared):
        raise CheckpointError(
            f"expected the state of nano-all on the built-in encoder in {state}, got another network's; train again"
        )
    data = save({name: array for name, array in weights.items() if not name.startswith(ENCODER)})
    atomic_write(package / ALL_INSTANCE, data)
    card = package / ALL_INSTANCE_CARD
    text = card.read_text("utf-8")
    for content, role in ((data, "weights"), (built_in, "encoder")):
        text = _with_digest(text, role, content)
    atomic_write(card, text)


def _with_digest(card: str, role: str, content: bytes) -> str:
    """Correct what a card's text says of the file with this role."""
    lines = rf'(role = "{role}"\npath = ".*"\n)sha256 = ".*"\nsize = \d+\n'
    digest = hashlib.sha256(content).hexdigest()
    return re.sub(lines, rf'\g<1>sha256 = "{digest}"\nsize = {len(content)}\n', card)


def _put(data: bytes, package: Path, *, objects: bool) -> None:
    """Write the built-in weights, and in their card what follows from them."""
    (package / WEIGHTS).parent.mkdir(exist_ok=True)
    atomic_write(package / WEIGHTS, data)
    card = package / "cards" / "nano.toml"
    text = card.read_text("utf-8")
    text = re.sub(r'^sha256 = ".*"$', f'sha256 = "{hashlib.sha256(data).hexdigest()}"', text, flags=re.M)
    text = re.sub(r"^size = \d+$", f"size = {len(data)}", text, flags=re.M)
    text = re.sub(rf"^{OBJECTS} = .*\n", "", text, flags=re.M)
    if objects:
        text = re.sub(r"^(decoder = .*\n)", rf'\1{OBJECTS} = "{OBJECTS_GRAPH}"\n', text, flags=re.M)
    atomic_write(card, text)
    other = package / ALL_INSTANCE_CARD
    if objects and other.exists():  # the same encoder in another file
        atomic_write(other, _with_digest(other.read_text("utf-8"), "encoder", data))
    elif other.exists():
        other.unlink()
        (package / ALL_INSTANCE).unlink(missing_ok=True)


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="turn a training state into a model that samlet loads")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--state", type=Path, help="state of the recipe `prompts`")
    what.add_argument("--objects", type=Path, help="state of the recipe `objects`; only with --ship")
    what.add_argument("--all-instance", type=Path, help="state of `all_instance`; only with --ship")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="the .safetensors file to write")
    where.add_argument("--ship", action="store_true", help="replace the built-in weights of this checkout")
    parser.add_argument("--name", default="mine")
    args = parser.parse_args()
    if args.objects and not args.ship:
        parser.error("--objects goes with --ship: an object head is a part of the built-in model")
    if args.all_instance and not args.ship:
        parser.error("--all-instance goes with --ship: a run leaves model.safetensors for all other uses")
    try:
        if args.all_instance:
            ship_all_instance(args.all_instance)
            return 0
        if args.objects:
            ship_objects(args.objects)
        elif args.ship:
            ship(args.state)
        else:
            write_model(args.state, args.out, name=args.name)
    except SamletError as error:
        print(f"samlet: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
