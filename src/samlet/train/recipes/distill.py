"""Distil a student: MobileSAM's decoupled way, its two rivals, and EdgeSAM's stage after it, as presets of one recipe.

    samlet distill embed --teacher nano --images photos/ --store embeddings/
    samlet distill train --teacher nano --images photos/ --store embeddings/ --student nano_lite0 --out runs/mine

* decoupled: the student's embedding imitates the teacher's; the decoder is the teacher's and never runs.
* semi: the decoder is the teacher's and frozen; the encoder learns through it from the teacher's masks.
* coupled: encoder and decoder learn together from the teacher's masks, the decoder from nothing.
* prompts: the stage after (EdgeSAM): both are tuned on the teacher's masks, with corrective clicks.
"""

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from PIL import Image as PillowImage
from torch import Tensor, nn
from torch.nn import functional as F

from samlet import registry
from samlet.backends.onnx import OnnxBackend
from samlet.card import Card
from samlet.errors import InputError
from samlet.session import Session
from samlet.train.engine import Plan, Run, Shares
from samlet.train.forward import channels_last, precision_of
from samlet.train.lessons import Lesson, Lessons, Live, Stored
from samlet.train.losses import grid_iou, mask_loss
from samlet.train.optim import WeightAverage, optimiser_of, scaled_groups
from samlet.train.parallel import Team
from samlet.train.promptable import Promptable, freeze_prompts, load_decoder, load_network, parts_of
from samlet.train.sheets import comparison
from samlet.train.sources import Source, open_source
from samlet.train.students import Student, freeze, layer_shares, normalised, student_of
from samlet.train.teacher_prompts import Asked, ask_teacher, correct
from samlet.train.teacher_store import Facts, TeacherStore

PRESETS = ("decoupled", "semi", "coupled", "prompts")
DISTANCES = ("mse", "cosine", "mse+cosine", "weighted")
LOOKED_AT = 8  # prompts of each held-out picture, the same ones whatever a run trains with


@dataclass(frozen=True)
class Recipe:
    """Every number of a run; saved beside its weights.

    Epochs, batch and images are MobileSAM's; it published neither optimiser nor learning rate, so those are from
    our own ablation (docs/training/distill.md).
    """

    preset: str = "decoupled"
    student: str = "tiny_vit_5m"
    epochs: float = 8.0
    steps: int = 0  # in place of epochs
    minutes: float = 0.0  # in place of epochs
    clock: str = "wall"
    batch: int = 8
    accumulate: int = 1
    seed: int = 1
    optimiser: str = "adamw"
    lr: float = 1e-3
    decay: float = 0.02
    layer_decay: float = 0.8
    warmup: int = 100
    clip: float = 1.0
    average: float = 0.999
    precision: str = "auto"
    distance: str = "mse"
    prompts: int = 4  # of each picture, in the presets that learn from masks
    rounds: int = 0  # corrective clicks after the first answer
    mask_loss: str = "bce"  # BCE and dice 5 : 5; "focal" is SAM's 20 : 1
    embedding: float = 0.0  # weight of the embeddings' distance beside the masks' loss
    decoder_share: float = 1.0  # of the learning rate, for a decoder that is trained
    keep_prompts: bool = False  # what a trained decoder makes of prompts stays as it is
    fresh_decoder: bool = False
    freeze: str = "none"  # "early" or "backbone": that part of the encoder stays as it is


# What a preset changes in the recipe.
CHANGES: dict[str, dict[str, object]] = {
    "decoupled": {},
    "semi": {},
    "coupled": {"fresh_decoder": True},
    "prompts": {"rounds": 1, "lr": 2e-4, "epochs": 5.0, "layer_decay": 1.0, "keep_prompts": True},
}


@dataclass(frozen=True)
class Place:
    """Where a run reads, writes and computes.

    Attributes:
        teacher: Name or path of the teacher.
        images: What `open_source` takes.
        out: The run's folder, made if missing.
        store: The teacher's embeddings; None asks the teacher at every step.
        start: A student to go on from, as an earlier run left it.
        init: ImageNet weights of the student's backbone.
        size: The teacher's longest side, if it is not the card's.
        device: "cpu" or "cuda".
        compiled: Whether torch.compile makes the encoder faster.
        tensorboard: Write TensorBoard's events too.
        save_minutes: Minutes between two states.
        save_steps: Steps between two states, in place of minutes.
        log_steps: Steps between two rows of the log.
        views: Views of each picture when the teacher is asked at every step.
        name: Of the student's card.
    """

    teacher: str
    images: tuple[str, ...]
    out: Path
    store: Path | None = None
    start: Path | None = None
    init: Path | None = None
    size: int | None = None
    device: str = "cpu"
    compiled: bool = False
    tensorboard: bool = False
    save_minutes: float = 8.0
    save_steps: int = 0
    log_steps: int = 20
    views: int = 1
    name: str = field(default="student")


class DistillTask:
    """What a step of distillation is; see `engine.Task`."""

    def __init__(
        self,
        recipe: Recipe,
        student: Student,
        network: Promptable,
        teacher: Promptable,
        lessons: Lessons,
        device: torch.device,
    ) -> None:
        self.recipe, self.student, self.lessons, self.device = recipe, student, lessons, device
        self.network, self.teacher = network.to(device), teacher.to(device).eval().requires_grad_(False)
        self.shares = Shares()
        self.dtype = precision_of(recipe.precision, device)
        self.masks = recipe.preset != "decoupled"
        network.decoder.requires_grad_(recipe.preset in ("coupled", "prompts"))
        if recipe.keep_prompts:
            freeze_prompts(network.decoder)
        freeze(network.encoder, recipe.freeze)
        channels_last(network)
        groups = scaled_groups(
            [
                *layer_shares(network.encoder, recipe.layer_decay),
                *((n, p, recipe.decoder_share) for n, p in network.decoder.named_parameters()),
            ],
            lr=recipe.lr,
            decay=recipe.decay,
        )
        self.optimiser = optimiser_of(recipe.optimiser, groups)
        self.average = WeightAverage(network, recipe.average)
        self._looked_at: list[Lesson] | None = None
        self._parts = 1
        self._weight: Tensor | None = None

    def train_with(self, parts: int) -> None:
        """Say how many parts a step has, over all processes."""
        self._parts = parts

    @property
    def size_words(self) -> str:
        """What to lower if memory runs out."""
        words = f"--batch (now {self.recipe.batch})"
        if self.masks:
            words += f", --prompts (now {self.recipe.prompts})"
        return f"{words} or --size (now {self.lessons.card.side})"

    def batch(self, step: int, part: int, progress: float) -> Lesson:
        """The next batch of the run."""
        del progress
        return self.lessons.make(step * self._parts + part)

    def pictures(self, batch: Lesson) -> int:
        """How many there are."""
        return len(batch.pixels)

    def _amp(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def encode(self, lesson: Lesson) -> Tensor:
        """The student's embeddings (B, 256, h, w), float32."""
        pixels = torch.from_numpy(lesson.pixels).to(self.device)
        inside = torch.from_numpy(lesson.inside).to(self.device)
        with self._amp():
            out: Tensor = self.network.encoder(normalised(pixels, inside, self.student))
        return out.float()

    def decode(self, network: Promptable, *args: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and logits in float32; arguments as `Promptable.decode`."""
        with self._amp():
            iou, masks = network.decode(*args)
        return iou.float(), masks.float()

    def loss(self, batch: Lesson, step: int, part: int) -> tuple[Tensor, dict[str, float]]:
        """The distance between the embeddings, or between the masks."""
        taught = torch.from_numpy(batch.taught).to(self.device)
        made = self.encode(batch)
        apart = torch.zeros(())
        if not self.masks or self.recipe.embedding:
            valid = torch.from_numpy(batch.valid).to(self.device)
            apart = distance(made, taught, valid, self.recipe.distance)
        if not self.masks:
            return apart, {}
        dice = torch.Generator().manual_seed((self.recipe.seed * 1_000_003 + step) * 64 + part)
        scaled = torch.from_numpy(batch.scaled).to(self.device)
        with self.shares.spent_on("teacher"):
            asked = self._ask(taught, scaled, dice, prompts=self.recipe.prompts)
        loss, numbers = self._mask_loss(made, asked, dice)
        if not self.recipe.embedding:
            return loss, numbers
        return loss + self.recipe.embedding * apart, numbers | {"apart": float(apart.detach())}

    def _ask(self, taught: Tensor, scaled: Tensor, dice: torch.Generator, *, prompts: int) -> Asked:
        columns = 2 + max(1, self.recipe.rounds)
        with self._amp():
            return ask_teacher(self.teacher, taught, scaled, prompts=prompts, columns=columns, dice=dice)

    def _mask_loss(
        self, made: Tensor, asked: Asked, dice: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        many = made.repeat_interleave(self.recipe.prompts, 0)
        previous, has = (
            asked.target.new_zeros(len(many), 1, *asked.target.shape[2:]),
            asked.score.new_zeros(len(many)),
        )
        count = asked.keep.sum().clamp(min=1)
        losses, numbers = [], {}
        for turn in range(self.recipe.rounds + 1):
            score, masks = self.decode(self.network, many, asked.coords, asked.labels, previous, has)
            each = self._prompt_losses(score, masks, asked, first=turn == 0)
            losses.append((each * asked.keep).sum() / count)
            overlap = grid_iou(masks[:, 0].detach(), asked.target[:, 0], asked.valid)
            for name, where in (("box", asked.box), ("click", ~asked.box)):
                used = where & (asked.keep > 0)
                if used.any():
                    numbers[name if turn == 0 else f"{name}+{turn}"] = float(overlap[used].mean())
            if turn < self.recipe.rounds:
                asked.coords, asked.labels = correct(asked, masks[:, 0].detach(), 2 + turn, dice)
                previous, has = masks[:, :1].detach(), torch.ones_like(has)
        return torch.stack(losses).mean(), numbers

    def _prompt_losses(self, score: Tensor, masks: Tensor, asked: Asked, *, first: bool) -> Tensor:
        """(N,): the mask people get, the three candidates at half weight on first prompts, the teacher's scores."""
        kind = self.recipe.mask_loss
        share = 2.5 if kind == "bce" else 1.0  # `mask_loss` is 2 : 2
        valid = asked.valid.unsqueeze(1)
        if not first:
            return share * mask_loss(masks[:, 0], asked.target[:, 0], asked.valid, kind=kind)
        each = share * mask_loss(masks, asked.target, valid, kind=kind)  # (N, 4)
        return each[:, 0] + 0.5 * each[:, 1:].mean(1) + (score - asked.score.float()).square().mean(1)

    @torch.no_grad()
    def look(self) -> dict[str, float]:
        """Held-out figures: the embeddings' squared error and overlap with the teacher's masks, box and click."""
        found: dict[str, list[float]] = {"mse": [], "box": [], "click": []}
        for lesson, made, asked in self._answers():
            taught = torch.from_numpy(lesson.taught).to(self.device)
            valid = torch.from_numpy(lesson.valid).to(self.device)
            found["mse"].append(float(distance(made, taught, valid, "mse")))
            _, masks = self._first_answers(made, asked)
            overlap = grid_iou(masks[:, 0], asked.target[:, 0], asked.valid)
            for name, where in (("box", asked.box), ("click", ~asked.box)):
                found[name] += overlap[where & (asked.keep > 0)].tolist()
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    @torch.no_grad()
    def sheet(self) -> PillowImage.Image | None:
        """Teacher's and student's masks of some held-out pictures, side by side."""
        for lesson, made, asked in self._answers():
            _, masks = self._first_answers(made, asked)
            return comparison(lesson, asked, masks[:, 0] > 0, ratio=self.lessons.ratio, at_most=8)
        return None

    def _answers(self) -> Iterator[tuple[Lesson, Tensor, Asked]]:
        if self._looked_at is None:
            self._looked_at = self.lessons.looked_at()
        for number, lesson in enumerate(self._looked_at):
            dice = torch.Generator().manual_seed(number)
            taught = torch.from_numpy(lesson.taught).to(self.device)
            yield (
                lesson,
                self.encode(lesson),
                self._ask(taught, torch.from_numpy(lesson.scaled).to(self.device), dice, prompts=LOOKED_AT),
            )

    def _first_answers(self, made: Tensor, asked: Asked) -> tuple[Tensor, Tensor]:
        many = made.repeat_interleave(LOOKED_AT, 0)
        nothing = asked.target.new_zeros(len(many), 1, *asked.target.shape[2:])
        return self.decode(
            self.network, many, asked.coords, asked.labels, nothing, nothing.new_zeros(len(many))
        )


def distance(made: Tensor, taught: Tensor, valid: Tensor, kind: str) -> Tensor:
    """How far the student's embedding is from the teacher's, on cells that see the picture.

    Args:
        made: (B, C, h, w).
        taught: (B, C, h, w).
        valid: (B, h, w) 1 where it counts.
        kind: "mse" (MobileSAM's), "cosine" (1 - cosine of the cells' vectors), "mse+cosine", or "weighted" (squared
            error in units of each channel's variance over the batch, so that quiet channels count as loud ones do).
    """
    cells = valid.sum().clamp(min=1)
    parts = []
    if kind in ("mse", "mse+cosine"):
        parts.append(((made - taught).square().mean(1) * valid).sum() / cells)
    if kind in ("cosine", "mse+cosine"):
        parts.append(((1 - F.cosine_similarity(made, taught, dim=1)) * valid).sum() / cells)
    if kind == "weighted":
        weight = valid.unsqueeze(1)
        mean = (taught * weight).sum((0, 2, 3), keepdim=True) / cells
        variance = ((taught - mean).square() * weight).sum((0, 2, 3), keepdim=True) / cells
        floor = 0.05 * variance.median()  # a channel that says nothing must not cost the most
        error = (made - taught).square() / (variance + floor + 1e-6)
        parts.append((error.mean(1) * valid).sum() / cells)
    return torch.stack(parts).sum()


def teacher_card(name: str, size: int | None) -> Card:
    """The teacher, on another size of canvas if one is asked for."""
    card = registry.resolve(name)
    return card if size is None else card.resized(size)


def networks(recipe: Recipe, place: Place, card: Card) -> tuple[Student, Promptable, Promptable]:
    """The student to train, where it starts, and the teacher's decoder."""
    student = student_of(recipe.student)
    torch.manual_seed(recipe.seed)
    encoder = student.build()
    decoder = load_decoder(card)
    teacher = Promptable(nn.Identity(), copy.deepcopy(decoder))
    if recipe.fresh_decoder:
        decoder = parts_of(card).decoder.build()
    network = Promptable(encoder, decoder)
    if place.init is not None:
        student.initialise(encoder, place.init)
    if place.start is not None:
        begun = load_network(registry.resolve(place.start))
        try:
            network.load_state_dict(begun.state_dict())
        except RuntimeError:
            raise InputError(
                f"expected a {recipe.student} with the decoder of {card.name} in {place.start}, got another network; "
                "give the file that an earlier run wrote"
            ) from None
    return student, network, teacher


def lessons_of(recipe: Recipe, place: Place, card: Card, student: Student, source: Source) -> Lessons:
    """The pictures and the teacher's embeddings of them."""
    ratio, rest = divmod(student.stride, card.stride)
    if rest or not ratio:
        raise InputError(
            f"expected a student with a stride that is a multiple of the teacher's {card.stride}, got {student.name} "
            f"with {student.stride}; choose another student"
        )
    if place.store is None:
        facts = Facts.of(card, views=place.views, seed=recipe.seed)
        teaching: Stored | Live = Live(Session(card, OnnxBackend()), source, facts)
    else:
        store = TeacherStore.open(place.store)
        if store.facts.digest != card.digest:
            raise InputError(
                f"expected embeddings of {card.name} ({card.digest[:12]}) in {place.store}, got those of "
                f"{store.facts.teacher} ({store.facts.digest[:12]}, longest side {store.facts.side}); give its teacher "
                "and --size, or embed again"
            )
        teaching = Stored(store)
    return Lessons(teaching, source, card, ratio=ratio, batch=recipe.batch, seed=recipe.seed)


def run(recipe: Recipe, place: Place, *, resume: bool = False, stop: int | None = None) -> Path:
    """Train, and leave the student as a model that `samlet segment --model` takes.

    Args:
        recipe: The numbers.
        place: Folders and device.
        resume: Go on from the state in `place.out` if there is one.
        stop: Save and return after so many steps although the plan goes on (to resume later).

    Returns:
        The model's file, `student.safetensors` in `place.out`.

    Raises:
        SamletError: The teacher, the pictures, the store or the options do not fit together, or training failed.
    """
    from samlet.train.finished import write_student

    check(recipe)
    team = Team.join(place.device)
    try:
        device = (
            torch.device(place.device, team.local) if place.device == "cuda" else torch.device(place.device)
        )
        card = teacher_card(place.teacher, place.size)
        student, network, teacher = networks(recipe, place, card)
        lessons = lessons_of(recipe, place, card, student, open_source(place.images))
        task = DistillTask(recipe, student, network, teacher, lessons, device)
        parts = recipe.accumulate * team.world
        task.train_with(parts)
        if place.compiled:
            network.encoder.compile()
        steps = recipe.steps
        if not steps and not recipe.minutes:
            steps = max(1, round(recipe.epochs * lessons.per_epoch / parts))
        plan = Plan(
            steps=steps, minutes=recipe.minutes, clock=recipe.clock, seed=recipe.seed, accumulate=recipe.accumulate,
            warmup=recipe.warmup, clip=recipe.clip, half=recipe.precision == "fp16", log_steps=place.log_steps,
            save_steps=place.save_steps, save_minutes=place.save_minutes,
        )  # fmt: skip
        facts = {**asdict(recipe), "teacher": card.name, "digest": card.digest}
        now = Run(task, plan, place.out, facts, resume=resume, team=team, tensorboard=place.tensorboard)
        if team.leads:
            print(
                f"{card.name} teaches {student.name} ({recipe.preset}): {len(lessons.keys)} pictures, "
                f"{len(lessons.held_out)} held out, {lessons.per_epoch} batches an epoch; {task.dtype}",
                flush=True,
            )
        now.go(stop=stop)
        path = place.out / "student.safetensors"
        if team.leads:
            with task.average.in_place():
                path = write_student(network, student, card, place.out, name=place.name)
        team.wait()
        return path
    finally:
        team.leave()


def check(recipe: Recipe) -> None:
    """Refuse a recipe that nobody can follow.

    Raises:
        InputError: A name is unknown, or a number out of range.
    """
    for what, value, known in (
        ("preset", recipe.preset, PRESETS),
        ("distance", recipe.distance, DISTANCES),
        ("optimiser", recipe.optimiser, ("adamw", "sgd")),
    ):
        if value not in known:
            raise InputError(f"expected a {what} ({', '.join(known)}), got {value!r:.40}; name one of them")
    counts = recipe.batch, recipe.accumulate, recipe.prompts
    if min(counts) < 1 or recipe.rounds < 0 or recipe.lr <= 0 or not 0 < recipe.layer_decay <= 1:
        raise InputError(
            f"expected batch, accumulate and prompts of at least 1, a rate above 0 and a layer decay in 0..1, got "
            f"{counts}, {recipe.lr} and {recipe.layer_decay}; correct the options"
        )
    if recipe.embedding < 0 or recipe.decoder_share <= 0:
        raise InputError(
            f"expected a weight of the embeddings' distance of at least 0 and a share of the rate above 0, got "
            f"{recipe.embedding} and {recipe.decoder_share}; correct --embedding or --decoder-share"
        )
