"""Train FastSAM: every instance of a picture in one pass, from sets that are only partly labelled.

    python -m samlet.train.recipes.all_instance --data PATH/train --out runs/all --steps 2000
    samlet everything PHOTO --model runs/all/model.safetensors

`--network nano` (the default) puts YOLOv8-seg's head on nano's frozen encoder, which runs once for each of `--views`
views; what it made is kept in `--cache`. `--network s` (or x) trains FastSAM's own network from pixels, and leaves
`model.pt` with the official names. With `--steps` a resumed run is bit-for-bit the unbroken one.
"""

import argparse
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor, nn

from samlet import checkpoint, drawing, registry, store
from samlet.backends.onnx import OnnxBackend
from samlet.errors import InputError, SamletError
from samlet.image import Image
from samlet.nets.nano import unpack
from samlet.nets.nano_all import NanoAll
from samlet.nets.yolo_seg import Head, YoloSeg
from samlet.session import Session
from samlet.train.cache_index import is_finished
from samlet.train.engine import Plan, Run, Shares
from samlet.train.finished import write_all_instance
from samlet.train.forward import channels_last, precision_of
from samlet.train.instance_cache import CANVASES, Order, Shelf, canvas_of, read_cache, write_cache
from samlet.train.instance_losses import Answers, Gains, all_instance_loss
from samlet.train.instance_recall import instance_recall, ranked
from samlet.train.instance_views import MOSAIC, STRIDE, WHOLE, ZOOMED, Album, Labels
from samlet.train.object_sets import PLAN, in_one_piece
from samlet.train.optim import WeightAverage, optimiser_of, scaled_groups
from samlet.train.pictures import read_sets
from samlet.train.recipes.objects import encoder_digest

KINDS = {WHOLE: 0.5, ZOOMED: 0.25, MOSAIC: 0.25}
"""How often each kind of view is drawn."""
LOOKED_AT = 80  # held-out pictures of a look
TRUNK = 0.5  # share of the learning rate for the grids, which come trained from nano's object head
_PRIOR = 0.01  # of a place to answer for something, when training begins


@dataclass(frozen=True)
class Recipe:
    """Every number of a run; saved beside its weights."""

    network: str = "nano"
    minutes: float = 0.0
    steps: int = 0
    seed: int = 1
    batch: int = 8
    views: int = 2600
    boxes: int = 32  # of nano's object head, most in a view, for what nobody labelled
    lr: float = 2e-3
    decay: float = 0.05
    warmup: int = 50
    clip: float = 10.0
    average: float = 0.998
    precision: str = "auto"


@dataclass(frozen=True)
class Place:
    """Where a run reads, writes and computes."""

    data: Path  # folder with <set>/images and <set>/masks
    out: Path  # made if missing
    cache: Path | None = None  # of the encoder's views; default `out`/cache; about 1.3 MB a view
    device: str = "cpu"
    every: float = 5.0  # minutes between saved states
    threads: int = 1


@dataclass
class Batch:
    """One step's views: nano's embeddings (B, 256, H/8, W/8) or pixels (B, H, W, 3), and what is in them."""

    inputs: NDArray[np.generic]
    labels: list[Labels]


class Loader(Protocol):
    """Makes batches; each depends on nothing but the seed and its number."""

    def make(self, step: int, part: int) -> Batch:
        """The batch of a part of a step, all of one canvas."""

    def held_out(self) -> list[tuple[NDArray[np.generic], Labels]]:
        """Held-out pictures, each as the network takes it."""


class CachedLoader:
    """Views that went through the encoder before."""

    def __init__(self, shelves: list[Shelf], held_out: list[Shelf], *, seed: int, batch: int) -> None:
        self.shelves, self.dev, self.seed, self.batch = shelves, held_out, seed, batch
        sizes = np.array([len(shelf) for shelf in shelves], np.float64)
        self.shares = sizes / sizes.sum()

    def make(self, step: int, part: int) -> Batch:
        """See `Loader.make`."""
        rng = np.random.default_rng((self.seed, step, part))
        shelf = self.shelves[int(rng.choice(len(self.shelves), p=self.shares))]
        rows = np.sort(rng.choice(len(shelf), self.batch, replace=len(shelf) < self.batch))
        return Batch(np.asarray(shelf.embeddings[rows]), [shelf.labels[row] for row in rows])

    def held_out(self) -> list[tuple[NDArray[np.generic], Labels]]:
        """See `Loader.held_out`."""
        return [
            (shelf.embeddings[row], labels) for shelf in self.dev for row, labels in enumerate(shelf.labels)
        ]


class PixelLoader:
    """Views that are cut when they are wanted, no two alike."""

    def __init__(self, album: Album, held_out: Album, *, seed: int, batch: int) -> None:
        self.album, self.dev, self.seed, self.batch = album, held_out, seed, batch
        weights = np.array([weight_of(picture.group) for picture in album.pictures])
        self.probability = weights / weights.sum()

    def make(self, step: int, part: int) -> Batch:
        """See `Loader.make`."""
        rng = np.random.default_rng((self.seed, step, part))
        kinds = [int(k) for k in rng.choice(list(KINDS), self.batch, p=list(KINDS.values()))]
        shapes = CANVASES[kinds[0]]
        hw = shapes[int(rng.integers(len(shapes)))]
        chosen = rng.choice(len(self.album), self.batch, p=self.probability)
        views = [self.album.view(int(i), kind, hw, rng) for i, kind in zip(chosen, kinds, strict=True)]
        return Batch(np.stack([view.pixels for view in views]), [view.labels for view in views])

    def held_out(self) -> list[tuple[NDArray[np.generic], Labels]]:
        """See `Loader.held_out`."""
        views = [
            self.dev.view(order.index, order.kind, order.hw, np.random.default_rng((self.seed, j)))
            for j, order in enumerate(whole_orders(self.dev))
        ]
        return [(view.pixels, view.labels) for view in views]


class AllInstanceTask:
    """The network, its optimiser, and what one step does; see `engine.Task`."""

    def __init__(
        self, recipe: Recipe, network: NanoAll | YoloSeg, device: torch.device, loader: Loader
    ) -> None:
        self.recipe, self.network, self.device, self.loader = recipe, network, device, loader
        self.dtype = precision_of(recipe.precision, device)
        named = [
            (name, parameter, TRUNK if name.startswith("objects.") else 1.0)
            for name, parameter in network.named_parameters()
        ]
        groups = scaled_groups(named, lr=recipe.lr, decay=recipe.decay)
        self.optimiser: torch.optim.Optimizer = optimiser_of("adamw", groups)
        self.average = WeightAverage(network, recipe.average)
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
        return len(batch.labels)

    def answers(self, inputs: NDArray[np.generic]) -> Answers:
        """What the network says of a batch."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            levels, protos = answer(self.network, inputs, self.device)
        return Answers.of(levels, protos)

    def loss(self, batch: Batch, step: int, part: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of a part of a step, and what it is made of."""
        del step, part
        losses = all_instance_loss(self.answers(batch.inputs), batch.labels, Gains())
        seen = ("iou", "mask_iou")
        loss = torch.stack([value for name, value in losses.items() if name not in seen]).sum()
        told = {k if k in seen else f"loss_{k}": float(v.detach()) for k, v in losses.items()}
        return loss, told

    def look(self) -> dict[str, float]:
        """Recall on held-out pictures."""
        return instance_recall(self.loader.held_out(), self.answers)

    @torch.no_grad()
    def sheet(self) -> PillowImage.Image | None:
        """The ten best instances of six held-out pictures, where their pixels are at hand."""
        if not isinstance(self.loader, PixelLoader):
            return None
        panels = []
        for pixels, _ in self.loader.held_out()[:6]:
            _, masks = ranked(self.answers(pixels[None]), 0, suppress=0.7)
            large = masks[:10].cpu().numpy().repeat(STRIDE, 1).repeat(STRIDE, 2)
            panels.append(drawing.overlay(Image(np.asarray(pixels, np.uint8)), list(large)))
        return drawing.contact_sheet(panels, 3, [""] * len(panels)) if panels else None


def answer(
    network: NanoAll | YoloSeg, inputs: NDArray[np.generic], device: torch.device
) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
    """Give what the head says, see `Head.raw`, and the prototypes.

    Args:
        network: In training or in evaluation mode.
        inputs: nano's embeddings (B, 256, H/8, W/8), or pixels (B, H, W, 3) for another network.
        device: Where the network is.
    """
    x = torch.from_numpy(np.asarray(inputs, np.float32)).to(device)
    if isinstance(network, YoloSeg):
        return network.raw((x / 255).permute(0, 3, 1, 2))
    tokens, detail8, detail4 = (scale.contiguous(memory_format=torch.channels_last) for scale in unpack(x))
    return network.raw_of((tokens, detail8, detail4))


def weight_of(group: str) -> float:
    """How often a picture of a set is drawn; sets that nobody planned for count like any other."""
    return PLAN[group].weight if group in PLAN else 1.0


def orders_of(album: Album, *, views: int, seed: int) -> list[Order]:
    """Choose views without repetition, by the weight of their set and kind; depends on the arguments alone."""
    every = [(i, kind) for i in range(len(album)) for kind in KINDS]
    weights = np.array([weight_of(album.pictures[i].group) * KINDS[kind] for i, kind in every])
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(every), min(views, len(every)), replace=False, p=weights / weights.sum())
    return [
        Order(i, kind, canvas_of(kind, album.pictures[i].pixels.shape[:2]))
        for i, kind in (every[c] for c in chosen)
    ]


def whole_orders(album: Album) -> list[Order]:
    """All pictures of an album as they are."""
    shapes = [picture.pixels.shape[:2] for picture in album.pictures]
    return [Order(i, WHOLE, canvas_of(WHOLE, hw)) for i, hw in enumerate(shapes)]


def album_of(data: Path, *, dev: bool) -> Album:
    """Read the pictures to train on, or those to look at: the held-out part, evenly thinned.

    Raises:
        InputError: There are no pictures.
    """
    trust = {group: plan.trust for group, plan in PLAN.items()}
    if dev:
        return Album(read_sets(data, dev=True, max_side=512, limit=LOOKED_AT), trust)
    pictures = [p for p in read_sets(data, dev=False, max_side=512) if in_one_piece(p)]
    if not pictures:
        raise InputError(f"expected pictures to train on below {data}, found none; pass the data root")
    return Album([p for p in pictures if p.group in PLAN] or pictures, trust)  # or sets of the user's own


def cached(recipe: Recipe, place: Place) -> CachedLoader:
    """Open the cache of nano's embeddings, and make first what is missing.

    Raises:
        InputError: There are no pictures, or the cache was made by another encoder.
    """
    folder = place.cache or place.out / "cache"
    card = registry.resolve("nano")
    digest = encoder_digest(checkpoint.parse(store.read_verified(card.files[0]), origin=card.name).arrays)
    digest = f"{digest} seed {recipe.seed} views {recipe.views} boxes {recipe.boxes}"
    found = []
    for part in ("train", "dev"):
        if not is_finished(folder / part):
            dev = part == "dev"
            album = album_of(place.data, dev=dev)
            orders = whole_orders(album) if dev else orders_of(album, views=recipe.views, seed=recipe.seed)
            write_cache(
                folder / part, Session(card, OnnxBackend(), threads=place.threads), album, orders,
                boxes=0 if dev else recipe.boxes, seed=recipe.seed, digest=digest,
            )  # fmt: skip
        found.append(read_cache(folder / part, digest=digest))
    return CachedLoader(*found, seed=recipe.seed, batch=recipe.batch)


def network_of(recipe: Recipe) -> NanoAll | YoloSeg:
    """Build the network: on nano's weights, or from random ones.

    Raises:
        InputError: There is no such network.
    """
    torch.manual_seed(recipe.seed)
    if recipe.network in ("s", "x"):
        yolo = YoloSeg(recipe.network, 26 if recipe.network == "x" else 16)
        _start(yolo.head)
        return yolo
    if recipe.network != "nano":
        raise InputError(f"expected a network (nano, s, x), got {recipe.network!r:.40}; name one of them")
    network = NanoAll()
    _start(network.head)
    card = registry.resolve("nano")
    arrays = checkpoint.parse(store.read_verified(card.files[0]), origin=card.name).arrays
    own = {
        k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in arrays.items() if k in network.state_dict()
    }
    lacking = [
        k
        for k in network.load_state_dict(own, strict=False).missing_keys
        if k.startswith(("encoder.", "objects."))
    ]
    if lacking:
        raise InputError(f"expected nano with an encoder and an object head, but it lacks {lacking[0]}")
    network.encoder.requires_grad_(False)
    return network


def _start(head: Head) -> None:
    """Let scores begin low: nearly all places answer for nothing."""
    for branch in head.cv3:
        last = cast("nn.Conv2d", cast("nn.Sequential", branch)[-1])
        nn.init.constant_(cast(Tensor, last.bias), -math.log((1 - _PRIOR) / _PRIOR))


def run(recipe: Recipe, place: Place, *, resume: bool = False, stop: int | None = None) -> Path | None:
    """Train and leave `metrics.jsonl`, `curves.png`, `state.safetensors`, `recipe.json` and the model in `place.out`.

    Args:
        recipe: The numbers.
        place: Folders and device.
        resume: Go on from the state in `place.out` if there is one.
        stop: Save and return after so many steps although the plan goes on (to resume later).

    Returns:
        The model's file; None if the run was stopped.

    Raises:
        InputError: There are no pictures, or no such network.
        CheckpointError: The state to resume from belongs to something else.
    """
    torch.set_num_threads(place.threads)
    device = torch.device(place.device)
    network = network_of(recipe).to(device)
    channels_last(network)
    loader: Loader
    if isinstance(network, NanoAll):
        loader = cached(recipe, place)
    else:
        parts = [album_of(place.data, dev=dev) for dev in (False, True)]
        loader = PixelLoader(*parts, seed=recipe.seed, batch=recipe.batch)
    task = AllInstanceTask(recipe, network, device, loader)
    plan = Plan(
        steps=recipe.steps, minutes=recipe.minutes, seed=recipe.seed, warmup=recipe.warmup, clip=recipe.clip,
        half=recipe.precision == "fp16", save_minutes=place.every, ahead=4,
    )  # fmt: skip
    facts = {
        **asdict(recipe),
        "gains": asdict(Gains()),
        "plan": {g: asdict(each) for g, each in PLAN.items()},
    }
    now = Run(task, plan, place.out, facts, resume=resume)
    now.go(stop=stop)
    if now.progress < 1:
        return None
    with task.average.in_place():
        return write_all_instance(network, place.out)


def main() -> int:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with <set>/images and <set>/masks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", choices=("nano", "s", "x"), default="nano")
    parser.add_argument("--cache", type=Path, help="folder of nano's embeddings (default: OUT/cache)")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=float, default=5.0, help="minutes between saved states")
    parser.add_argument("--threads", type=int, default=1)
    for name in ("minutes", "lr", "decay", "average"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Recipe(), name))
    for name in ("steps", "seed", "batch", "views", "boxes"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe(), name))
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    args = parser.parse_args()
    names = (
        "network", "minutes", "steps", "seed", "batch", "views", "boxes", "lr", "decay", "average", "precision",
    )  # fmt: skip
    recipe = Recipe(**{name: getattr(args, name) for name in names})
    if bool(recipe.minutes) == bool(recipe.steps):
        parser.error("give either --minutes or --steps")
    try:
        place = Place(args.data, args.out, args.cache, args.device, args.every, args.threads)
        path = run(recipe, place, resume=args.resume)
    except SamletError as error:
        print(f"samlet: error: {error}")
        return error.exit_code
    print(f"the model is {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
