"""Train a promptable mask model from pictures with masks: SAM's training, sized for a CPU.

    python -m samlet.train.recipes.prompts --data PATH/train --init lite0.pth --out runs/nano --minutes 90

Per step a few pictures, five prompts each. Two thirds of the prompts are first prompts (boxes, clicks); for the
others the model first answers and is corrected by one to four clicks on its largest mistake, without gradient,
and the last answer is trained. Mask 0 is trained on every prompt; of masks 1 to 3 the best one on single clicks.
With `--steps` a resumed run is bit-for-bit the unbroken one on a CPU; with `--minutes` the plan follows the clock.
"""

import argparse
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image as PillowImage
from torch import Tensor

from samlet import registry
from samlet.errors import InputError, SamletError
from samlet.evaluate.datasets import Broken
from samlet.nets.nano import Nano, NanoDecoder, NanoEncoder
from samlet.train.engine import Plan, Run, Shares
from samlet.train.forward import Forward, channels_last, precision_of
from samlet.train.losses import grid_iou, mask_loss
from samlet.train.optim import WeightAverage, parameter_groups
from samlet.train.parallel import Team
from samlet.train.pictures import Batch, Loader, Picture, read_sets
from samlet.train.promptable import Promptable, load_network
from samlet.train.sampling import corrective_click
from samlet.train.validation import validate


@dataclass(frozen=True)
class Recipe:
    """Every number of a run; saved beside its weights."""

    minutes: float = 0.0
    steps: int = 0
    seed: int = 1
    batch: int = 6
    prompts: int = 5
    corrected: float = 0.34  # share of prompts trained after corrective clicks
    rounds: int = 4  # at most so many of them
    lr: float = 1e-3
    lr_backbone: float = 3e-4
    decay: float = 0.02
    warmup: int = 100
    clip: float = 1.0
    loss: str = "bce"
    sizes: tuple[tuple[float, int], ...] = field(default=((0.2, 256), (0.55, 320), (0.85, 384), (1.0, 448)))
    average: float = 0.999
    precision: str = "auto"
    start: str = ""  # model to begin with: its name or file, and its digest
    part: str = "all"  # or "decoder": the encoder stays as it is, and so does all that was trained on it
    drawn: bool = True  # ablation switch: False trains without the drawn prompt
    look_size: int = 384  # longer side of held-out pictures; 0 is the last of `sizes`


@dataclass
class Prompts:
    """The N prompts of a step with their truth; B pictures of P prompts, N = B * P."""

    embedding: Tensor  # (N, 256, h, w), of each prompt's picture
    coords: Tensor  # (N, K, 2) canvas pixels
    labels: Tensor  # (N, K)
    target: Tensor  # (N, h, w) share of each stride-4 cell that the object covers
    valid: Tensor  # (N, h, w) share of each cell that is labelled
    previous: Tensor  # (N, 1, h, w) logits of an earlier answer
    has: Tensor  # (N,) 1 where it counts
    corrected: Tensor  # (N,) bool: has been through corrective clicks

    @property
    def one_click(self) -> Tensor:
        """(M,) indices of untouched single foreground clicks: the ambiguous prompts."""
        single = (self.labels[:, 0] == 1) & (self.labels[:, 1] == -1)
        return (single & ~self.corrected).nonzero()[:, 0]


class PromptTask:
    """The network, its optimiser, and what one step does; see `engine.Task`."""

    def __init__(
        self,
        recipe: Recipe,
        forward: Forward,
        loader: Loader,
        held_out: list[Picture],
        groups: list[dict[str, object]],
        *,
        square: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            recipe: The numbers.
            forward: The network; what is frozen is frozen already.
            loader: Of training pictures.
            held_out: Pictures to look at.
            groups: Of the optimiser.
            square: Whether canvases are squares, as SAM's.
        """
        self.recipe, self.forward, self.loader, self.held_out = recipe, forward, loader, held_out
        self.network, self.square = forward.network, square
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self.average = WeightAverage(self.network, recipe.average)
        self.shares = Shares()

    @property
    def size_words(self) -> str:
        """What to lower if memory runs out."""
        return f"--batch (now {self.recipe.batch}) or --prompts (now {self.recipe.prompts})"

    def size_at(self, progress: float) -> int:
        """Planned longer side of the canvas."""
        return next(size for until, size in self.recipe.sizes if progress < until or until >= 1)

    def batch(self, step: int, part: int, progress: float) -> Batch:
        """Crops, flips and first prompts of a part of a step."""
        return self.loader.make(step, self.size_at(progress), part=part, square=self.square)

    def pictures(self, batch: Batch) -> int:
        """How many there are."""
        return len(batch.pixels)

    def prompts(self, batch: Batch, dice: torch.Generator) -> Prompts:
        """Encode the pictures, lay out the first prompts and let a share of them be corrected."""
        device, recipe = self.forward.device, self.recipe
        b, p = batch.targets.shape[:2]
        n, first = b * p, batch.coords.shape[2]
        per_picture = self.forward.encode(batch.pixels, batch.inside)
        target = torch.from_numpy(batch.targets).to(device).flatten(0, 1)
        all_of = Prompts(
            embedding=per_picture.repeat_interleave(p, 0),
            coords=target.new_zeros(n, first + recipe.rounds, 2),
            labels=target.new_full((n, first + recipe.rounds), -1),
            target=target,
            valid=torch.from_numpy(batch.valid).to(device).repeat_interleave(p, 0),
            previous=target.new_zeros(n, 1, *target.shape[1:]),
            has=target.new_zeros(n),
            corrected=torch.zeros(n, dtype=torch.bool, device=device),
        )
        all_of.coords[:, :first] = torch.from_numpy(batch.coords).to(device).flatten(0, 1)
        all_of.labels[:, :first] = torch.from_numpy(batch.labels).to(device).flatten(0, 1)
        many = max(0, min(n, round(n * recipe.corrected)))
        if many:
            picked = torch.randperm(n, generator=dice)[:many].sort().values.to(device)
            self.correct(all_of, picked, first, dice)
        return all_of

    @torch.no_grad()
    def correct(self, every: Prompts, picked: Tensor, first: int, dice: torch.Generator) -> None:
        """Let the model answer the `picked` prompts and be corrected by clicks, one to `rounds` times.

        The clicks fill the columns after the `first` ones; the last answer becomes the mask hint.
        """
        embedding = every.embedding.detach()[picked]
        target, valid = every.target[picked], every.valid[picked]
        coords, labels = every.coords[picked], every.labels[picked]
        previous, has = every.previous[picked], every.has[picked]
        rounds = int(torch.randint(1, self.recipe.rounds + 1, (1,), generator=dice))
        fed = (torch.rand(len(picked), generator=dice) < 0.9).to(has)  # some learn to do without the hint
        for column in range(first, first + rounds):
            _, masks = self.forward.decode(embedding, coords, labels, previous, has)
            xy, label = corrective_click(masks[:, 0], target, valid, dice)
            coords[:, column], labels[:, column] = xy[:, 0], label[:, 0]
            previous, has = masks[:, :1], fed
        every.coords[picked], every.labels[picked] = coords, labels
        every.previous[picked], every.has[picked] = previous, has
        every.corrected[picked] = True

    def prompt_loss(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Return the loss and the real IoU (N, 4) of the four masks."""
        kind, ambiguous = self.recipe.loss, prompts.one_click
        iou, masks = self.forward.decode(
            prompts.embedding, prompts.coords, prompts.labels, prompts.previous, prompts.has
        )
        loss = mask_loss(masks[:, 0], prompts.target, prompts.valid, kind=kind).mean()
        truth, known = prompts.target.unsqueeze(1), prompts.valid.unsqueeze(1)
        if len(ambiguous):  # the best of three learns; the others a little, so that none dies
            three = mask_loss(masks[ambiguous, 1:], truth[ambiguous], known[ambiguous], kind=kind)
            loss = loss + (three.amin(1) + 0.05 * three.mean(1)).sum() / len(masks)
        real = grid_iou(masks.detach(), truth, known)
        return loss + (iou - real).square().mean(), real

    def loss(self, batch: Batch, step: int, part: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of a part of a step, and overlaps by kind of prompt."""
        dice = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step + 7919 * part)
        prompts = self.prompts(batch, dice)
        loss, real = self.prompt_loss(prompts)
        numbers = {}
        box = (prompts.labels[:, 0] == 2) & ~prompts.corrected
        click = (prompts.labels[:, 0] == 1) & ~prompts.corrected
        for name, where in (("box", box), ("click", click), ("corrected", prompts.corrected)):
            if where.any():
                numbers[name] = float(real[where, 0].mean())
        if len(prompts.one_click):
            numbers["best3"] = float(real[prompts.one_click, 1:].amax(1).mean())
        return loss, numbers

    def look(self) -> dict[str, float]:
        """Mean overlap on the held-out pictures."""
        size = self.recipe.look_size or self.recipe.sizes[-1][1]
        return validate(self.forward, self.held_out, size=size, square=self.square)

    def sheet(self) -> PillowImage.Image | None:
        """Nothing: `samlet evaluate` draws."""
        return None


def nano_task(
    recipe: Recipe, network: Nano, loader: Loader, held_out: list[Picture], device: torch.device
) -> PromptTask:
    """Train nano but for the stem and the first stages of its backbone, or its decoder alone."""
    backbone = network.encoder.backbone
    if recipe.part == "decoder":
        network.encoder.requires_grad_(False)
    for frozen in (backbone.stem, backbone.stages[0], backbone.stages[1]):
        frozen.requires_grad_(False)  # generic edges and colours, at the largest sizes
    slow = list(backbone.parameters())
    ids = {id(p) for p in slow}
    fast = [p for p in network.parameters() if id(p) not in ids]
    groups = parameter_groups(fast, slow, lr_fast=recipe.lr, lr_slow=recipe.lr_backbone, decay=recipe.decay)
    if not recipe.drawn:  # the decoder then sees earlier logits only
        keep = torch.tensor([0.0, 0, 0, 1, 1], device=device).reshape(1, -1, 1, 1)
        network.decoder.hint4.register_forward_pre_hook(lambda _, args: (args[0] * keep,))
    forward = Forward(
        Promptable(network.encoder, network.decoder), device, precision_of(recipe.precision, device)
    )
    return PromptTask(recipe, forward, loader, held_out, groups)


@dataclass(frozen=True)
class Place:
    """Where a run reads, writes and computes."""

    data: Path  # folder with <set>/images and <set>/masks
    out: Path  # made if missing
    init: Path | None = None  # EfficientNet-Lite0 ImageNet weights
    start: str = ""  # name or file of a model of nano's architecture to begin with
    device: str = "cpu"
    every: float = 8.0  # minutes between saved states


def first_weights(recipe: Recipe, place: Place) -> tuple[Nano, Recipe]:
    """The network to begin with, and the recipe that names what it came from.

    Raises:
        InputError: The model to start from is not of nano's architecture.
    """
    network = Nano()
    if place.start:
        card = registry.resolve(place.start)
        begun = load_network(card)
        if not (isinstance(begun.encoder, NanoEncoder) and isinstance(begun.decoder, NanoDecoder)):
            raise InputError(
                f"expected a model of nano's architecture to start from, got {card.name}; choose another"
            )
        network.encoder, network.decoder = begun.encoder, begun.decoder
        recipe = replace(recipe, start=f"{card.name} {card.digest}")
    elif place.init is not None:
        network.encoder.backbone.load_imagenet(torch.load(place.init, map_location="cpu", weights_only=True))
    return network, recipe


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
        TrainingError: The numbers are not finite any more.
    """
    team = Team.join(place.device)
    try:
        device = torch.device(place.device)
        torch.manual_seed(recipe.seed)
        network, recipe = first_weights(recipe, place)
        channels_last(network.to(device))
        broken: list[Broken] = []
        pictures = read_sets(place.data, dev=False, max_side=512, broken=broken)
        held_out = read_sets(place.data, dev=True, max_side=512, limit=100)
        for each in broken:
            print(f"left out {each.name}: {each.reason}", flush=True)
        loader = Loader(pictures, seed=recipe.seed, batch=recipe.batch, prompts=recipe.prompts)
        task = nano_task(recipe, network, loader, held_out, device)
        plan = Plan(
            steps=recipe.steps, minutes=recipe.minutes, seed=recipe.seed, warmup=recipe.warmup, clip=recipe.clip,
            half=recipe.precision == "fp16", save_minutes=place.every,
        )  # fmt: skip
        now = Run(task, plan, place.out, asdict(recipe), resume=resume, team=team)
        print(
            f"{len(pictures)} pictures to train on, {len(held_out)} held out; {task.forward.dtype}",
            flush=True,
        )
        now.go(stop=stop)
    finally:
        team.leave()


def main() -> int:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with <set>/images and <set>/masks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--init", type=Path, help="EfficientNet-Lite0 ImageNet weights (.pth, read with weights_only)"
    )
    parser.add_argument(
        "--start", default="", help="begin with this model of nano's architecture, name or file"
    )
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=float, default=8.0, help="minutes between saved states")
    for name in ("minutes", "lr", "lr_backbone", "corrected", "decay", "average"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(Recipe(), name))
    for name in ("steps", "seed", "batch", "prompts", "rounds", "warmup"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe(), name))
    parser.add_argument(
        "--no-drawn", dest="drawn", action="store_false", help="ablation: do not draw the prompt"
    )
    parser.add_argument("--part", choices=("all", "decoder"), default="all")
    parser.add_argument("--loss", choices=("bce", "focal"), default="bce")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    parser.add_argument(
        "--sizes", default="0.2:256,0.55:320,0.85:384,1:448", help="progress:canvas side, ..."
    )
    args = parser.parse_args()
    sizes = tuple((float(a), int(b)) for a, b in (pair.split(":") for pair in args.sizes.split(",")))
    names = ("minutes", "lr", "lr_backbone", "corrected", "decay", "steps", "seed", "batch", "prompts", "rounds",
             "loss", "precision", "drawn", "average", "warmup", "part")  # fmt: skip
    recipe = Recipe(sizes=sizes, **{k: getattr(args, k) for k in names})
    if bool(recipe.minutes) == bool(recipe.steps):
        parser.error("give either --minutes or --steps")
    if args.init and args.start:
        parser.error("give either --init or --start")
    try:
        place = Place(args.data, args.out, args.init, args.start, args.device, args.every)
        run(recipe, place, resume=args.resume)
    except SamletError as error:
        print(f"samlet: error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
