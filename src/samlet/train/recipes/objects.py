"""Train `nano`'s object head: boxes of whatever looks like an object, from sets that are only partly labelled.

    python -m samlet.train.recipes.objects --data PATH/train --out runs/objects --minutes 30

The encoder is frozen and runs once for each view of each picture; what it made is kept in `--cache`. Each step takes
some of the views; places on an object learn its box and how good that box is, places without a label are asked
for nothing, or with a small weight for quality 0. With `--steps` a resumed run is bit-for-bit the unbroken one.
"""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor

from samlet import checkpoint, registry, store
from samlet.backends.onnx import OnnxBackend
from samlet.errors import InputError, SamletError
from samlet.nets.objects import ObjectHead
from samlet.session import Session
from samlet.train.cache_index import is_finished
from samlet.train.engine import Plan, Run, Shares
from samlet.train.feature_cache import Shelf, read_cache, write_cache
from samlet.train.forward import channels_last, precision_of
from samlet.train.object_sets import PLAN, in_one_piece
from samlet.train.object_targets import Targets, make_targets, object_loss
from samlet.train.optim import WeightAverage, parameter_groups
from samlet.train.pictures import read_sets
from samlet.train.proposals import box_recall, scales_of


@dataclass(frozen=True)
class Recipe:
    """Every number of a run; saved beside its weights."""

    minutes: float = 0.0
    steps: int = 0
    seed: int = 1
    batch: int = 12
    lr: float = 3e-3
    decay: float = 0.05
    warmup: int = 100
    clip: float = 2.0
    background: float = 3.0  # weight of places without a label
    average: float = 0.998
    precision: str = "fp32"


@dataclass
class Batch:
    """One step's views: half-precision features (B, 512, H/16, W/16) and what they should be answered with."""

    features: NDArray[np.float16]
    targets: Targets


class Loader:
    """Makes batches; each depends on nothing but the seed and its number."""

    def __init__(self, shelves: list[Shelf], *, seed: int, batch: int) -> None:
        self.shelves, self.seed, self.batch = shelves, seed, batch
        weights = [np.array([PLAN[g].weight if g in PLAN else 1.0 for g in s.groups]) for s in shelves]
        self.rows = [w / w.sum() for w in weights]
        totals = np.array([w.sum() for w in weights])
        self.shelf = totals / totals.sum()

    def make(self, step: int, part: int = 0) -> Batch:
        """The batch of a part of a step, all of one canvas; depends on (seed, step, part) alone."""
        rng = np.random.default_rng((self.seed, step, part) if part else (self.seed, step))
        which = int(rng.choice(len(self.shelves), p=self.shelf))
        shelf = self.shelves[which]
        rows = np.sort(rng.choice(len(shelf), self.batch, p=self.rows[which]))
        trust = [PLAN[g].trust if g in PLAN else 0.0 for g in (shelf.groups[r] for r in rows)]
        targets = make_targets(shelf.ids[rows], [shelf.boxes[r] for r in rows], np.array(trust, np.float32))
        return Batch(np.asarray(shelf.features[rows]), targets)


class ObjectTask:
    """The head, its optimiser, and what one step does; see `engine.Task`."""

    def __init__(
        self,
        recipe: Recipe,
        head: ObjectHead,
        device: torch.device,
        loader: Loader,
        held_out: list[Shelf],
    ) -> None:
        self.recipe, self.network, self.device = recipe, head, device
        self.loader, self.held_out = loader, held_out
        self.dtype = precision_of(recipe.precision, device)
        groups = parameter_groups(head.parameters(), (), lr_fast=recipe.lr, lr_slow=0.0, decay=recipe.decay)
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self.average = WeightAverage(head, recipe.average)
        self.shares = Shares()

    @property
    def size_words(self) -> str:
        """What to lower if memory runs out."""
        return f"--batch (now {self.recipe.batch})"

    def batch(self, step: int, part: int, progress: float) -> Batch:
        """The views of a part of a step."""
        del progress
        return self.loader.make(step, part)

    def pictures(self, batch: Batch) -> int:
        """How many views there are."""
        return len(batch.features)

    def loss(self, batch: Batch, step: int, part: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of a part of a step, and what it is made of."""
        del step, part
        tokens, detail = scales_of(batch.features, self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            answers = self.network.levels(
                tokens.contiguous(memory_format=torch.channels_last),
                detail.contiguous(memory_format=torch.channels_last),
            )
        targets = Targets(**{k: v.to(self.device) for k, v in vars(batch.targets).items()})
        losses = object_loss([a.float() for a in answers], targets, background=self.recipe.background)
        loss = torch.stack([v for k, v in losses.items() if k != "iou"]).sum()
        return loss, {k if k == "iou" else f"loss_{k}": float(v.detach()) for k, v in losses.items()}

    def look(self) -> dict[str, float]:
        """Box recall."""
        return box_recall(self.network, self.held_out, self.device)

    def sheet(self) -> PillowImage.Image | None:
        """Nothing: the views' pixels are not kept."""
        return None


@dataclass(frozen=True)
class Place:
    """Where a run reads, writes and computes."""

    data: Path  # folder with <set>/images and <set>/masks
    out: Path  # made if missing
    cache: Path | None = None  # features; default `out`/cache; about 5 GB for 6,500 views
    device: str = "cpu"
    every: float = 5.0  # minutes between saved states
    threads: int = 1  # of the head; it is so small that on a busy machine one thread was the fastest


def encoder_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 (hex) of the encoder's weights: features of another encoder are of no use."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        if name.startswith("encoder."):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name], np.float16).tobytes())
    return digest.hexdigest()


def features(place: Place, *, seed: int) -> tuple[list[Shelf], list[Shelf]]:
    """The cached features of the training and of the held-out part; what is missing is made.

    Raises:
        InputError: There are no pictures, or the cache was made by another encoder.
    """
    folder = place.cache or place.out / "cache"
    card = registry.resolve("nano")
    digest = encoder_digest(checkpoint.parse(store.read_verified(card.files[0]), origin=card.name).arrays)
    found = []
    for part in ("train", "dev"):
        if not is_finished(folder / part):
            dev = part == "dev"
            pictures = [p for p in read_sets(place.data, dev=dev, max_side=512) if dev or in_one_piece(p)]
            views = {group: plan.views for group, plan in PLAN.items()}
            if not any(p.group in PLAN for p in pictures):  # sets of the user's own
                views = {p.group: 1 for p in pictures}
            session = Session(card, OnnxBackend(), threads=place.threads)
            write_cache(
                folder / part, session, pictures, views=None if dev else views, seed=seed, digest=digest
            )
        found.append(read_cache(folder / part, digest=digest))
    if not found[0]:
        raise InputError(f"expected pictures to train on below {place.data}, found none; pass the data root")
    return found[0], found[1]


def run(recipe: Recipe, place: Place, *, resume: bool = False, stop: int | None = None) -> None:
    """Train and leave `metrics.jsonl`, `state.safetensors` and `recipe.json` in `place.out`.

    Args:
        recipe: The numbers.
        place: Folders and device.
        resume: Go on from the state in `place.out` if there is one.
        stop: Save and return after so many steps although the plan goes on (to resume later).

    Raises:
        InputError: There are no pictures.
        CheckpointError: The state to resume from belongs to something else.
    """
    torch.set_num_threads(place.threads)
    device = torch.device(place.device)
    shelves, held_out = features(place, seed=recipe.seed)
    torch.manual_seed(recipe.seed)
    head = ObjectHead().to(device)
    channels_last(head)
    loader = Loader(shelves, seed=recipe.seed, batch=recipe.batch)
    task = ObjectTask(recipe, head, device, loader, held_out)
    plan = Plan(
        steps=recipe.steps, minutes=recipe.minutes, seed=recipe.seed, warmup=recipe.warmup, clip=recipe.clip,
        half=recipe.precision == "fp16", save_minutes=place.every, ahead=4,
    )  # fmt: skip
    facts = {**asdict(recipe), "plan": {group: asdict(each) for group, each in PLAN.items()}}
    now = Run(task, plan, place.out, facts, resume=resume)
    print(f"{sum(map(len, shelves))} views to train on, {sum(map(len, held_out))} held out", flush=True)
    now.go(stop=stop)


def main() -> int:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with <set>/images and <set>/masks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder of the encoder's features (default: OUT/cache)")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=float, default=5.0, help="minutes between saved states")
    parser.add_argument("--threads", type=int, default=1)
    for name in ("minutes", "lr", "decay", "background", "average"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Recipe(), name))
    for name in ("steps", "seed", "batch"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe(), name))
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="fp32")
    args = parser.parse_args()
    names = ("minutes", "steps", "seed", "batch", "lr", "decay", "background", "average", "precision")
    recipe = Recipe(**{name: getattr(args, name) for name in names})
    if bool(recipe.minutes) == bool(recipe.steps):
        parser.error("give either --minutes or --steps")
    try:
        place = Place(args.data, args.out, args.cache, args.device, args.every, args.threads)
        run(recipe, place, resume=args.resume)
    except SamletError as error:
        print(f"samlet: error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
