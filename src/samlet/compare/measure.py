"""What is measured: the cost of each model on one picture, and its answers against people's and a reference's."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.compare.contestants import Contest, Contestant, Reply
from samlet.compare.questions import KINDS, Asked, of_boxes, of_objects
from samlet.compare.worker import ways_of
from samlet.errors import InputError
from samlet.evaluate.contours import boundary_f, boundary_iou
from samlet.evaluate.datasets import Broken, Dataset, Sample
from samlet.evaluate.metrics import iou
from samlet.image import Image
from samlet.rle import rle_to_mask

REGIONS = "regions"
"""The kind of everything mode of models that choose among regions."""

SLOW_MS = 2000.0
"""A model whose encoder takes longer is timed `FEW` times, the first time included: starting up is little beside it."""
FEW = 2
MAX_ROUNDS = 50

BOUNDARY_IOU, BOUNDARY_F = "box, boundary IoU", "box, boundary F"
FIGURES = (*KINDS[:2], BOUNDARY_IOU, BOUNDARY_F, *KINDS[2:])
"""What answers are measured by, in the order of the tables; those of `KINDS` are IoU."""

_GROUP = 32
_GROUP_PIXELS = 2**26


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the picture.

    Attributes:
        prompt: Arguments of `Model.segment`: points and labels, boxes, or both.
        kinds: Kinds of everything mode for models that decode prompts: "objects", "gridN", "hierarchicalN".
        rounds: How often encoder and decoder are timed.
    """

    prompt: Mapping[str, Any]
    kinds: tuple[str, ...] = ("objects", "grid16")
    rounds: int = 5

    def __post_init__(self) -> None:
        """Check the plan.

        Raises:
            InputError: A kind is unknown, or the number of rounds is out of range.
        """
        for kind in self.kinds:
            ways_of(kind)
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise InputError(f"expected 1 to {MAX_ROUNDS} rounds, got {self.rounds}; 5 are usual")

    def kinds_of(self, contestant: Contestant) -> tuple[str, ...]:
        """Say which kinds of everything mode a model has."""
        if contestant.finds_regions:
            return (REGIONS,) if self.kinds else ()
        return tuple(kind for kind in self.kinds if kind != REGIONS)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of the rounds."""

    ms: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.ms)


@dataclass(slots=True)
class Cost:
    """What one model does on the picture.

    Attributes:
        contestant: The model.
        encoder: Times of preparing and encoding the picture.
        decoder: Times of answering the prompt, masks of picture size included.
        answer: The answer to the prompt.
        everything: What everything mode found, by kind; its time has the median encoder in it.
        memory: Peak resident memory of the process in MiB after "prompt" and after "everything"; None if unknown.
    """

    contestant: Contestant
    encoder: Times
    decoder: Times
    answer: Reply
    everything: dict[str, Reply] = field(default_factory=dict)
    memory: dict[str, float | None] = field(default_factory=dict)


@dataclass(slots=True)
class Scores:
    """How well answers agree with masks that are held for true.

    Attributes:
        title: Whose masks: a data set's name, or the reference's.
        words: What was compared, for the reports.
        values: For each model by label the values of each figure.
        pictures: For each figure the picture of each value.
        seen: How many pictures were looked at.
        skipped: What could not be compared: objects that are empty without what is ignored; for a reference, answers of
            its own that are empty or full.
        broken: Pictures that could not be used.
    """

    title: str
    words: str
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    pictures: dict[str, list[str]] = field(default_factory=dict)
    seen: int = 0
    skipped: int = 0
    broken: list[Broken] = field(default_factory=list)

    def add(self, label: str, found: Mapping[str, float]) -> None:
        """Note the figures of one answer."""
        mine = self.values.setdefault(label, {})
        for figure, value in found.items():
            mine.setdefault(figure, []).append(value)

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that have values, in the order of the tables."""
        return tuple(figure for figure in FIGURES if self.pictures.get(figure))


Say = Callable[[str], None]


def photo(contest: Contest, image: Image, plan: Plan, *, say: Say = lambda _: None) -> list[Cost]:
    """Measure what each model costs on one picture; they take turns, so that all meet the same disturbances.

    Args:
        contest: The models.
        image: The picture.
        plan: What to do.
        say: Told what is being done.

    Returns:
        One `Cost` a model, in their order.

    Raises:
        PromptError: The prompt makes no sense on the picture.
        BackendError: A runtime failed or a process ended.
    """
    contest.show(image.pixels)
    costs = _timed(contest, plan, say)
    for cost in costs:
        cost.memory["prompt"] = cost.contestant.ask("memory")["mib"]
    for kind in (*plan.kinds, REGIONS):
        for cost in costs:
            if kind in plan.kinds_of(cost.contestant) and kind not in cost.everything:
                say(f"{cost.contestant.label}: everything, {kind}")
                found = cost.contestant.everything(kind)
                cost.everything[kind] = Reply(found.ms + cost.encoder.median, found.rles, found.scores)
    for cost in costs:
        cost.memory["everything"] = cost.contestant.ask("memory")["mib"]
    return costs


def _timed(contest: Contest, plan: Plan, say: Say) -> list[Cost]:
    """Time encoders and decoders in turns."""
    encoder: list[list[float]] = []
    decoder: list[list[float]] = []
    answers: list[Reply] = []
    for one in contest.contestants:
        say(f"{one.label}: first time")
        encoder.append([float(one.ask("embed")["ms"])])
        answers.append(one.segment(plan.prompt))
        decoder.append([answers[-1].ms])
    wanted = [min(plan.rounds, FEW) if first[0] > SLOW_MS else plan.rounds for first in encoder]
    for row, times in enumerate(encoder):
        if times[0] <= SLOW_MS:  # the first time costs more, and belongs to no round
            encoder[row], decoder[row] = [], []
    for number in range(max(wanted)):
        say(f"round {number + 1}")
        for row, one in enumerate(contest.contestants):
            if len(encoder[row]) < wanted[row]:
                encoder[row].append(float(one.ask("embed")["ms"]))
                answers[row] = one.segment(plan.prompt)
                decoder[row].append(answers[row].ms)
    return [
        Cost(one, Times(tuple(encoder[row])), Times(tuple(decoder[row])), answers[row])
        for row, one in enumerate(contest.contestants)
    ]


def photo_agreement(
    contest: Contest, reference: Contestant, boxes: NDArray[np.float64], image: Image
) -> Scores:
    """Compare answers with the reference's on boxes in the picture that all models look at and have encoded.

    Args:
        contest: The models.
        reference: One of them.
        boxes: (N, 4) xyxy in picture pixels, at least one.
        image: The picture.
    """
    scores = Scores(
        f"agreement with {reference.label} on the picture",
        f"Answers to the same prompts as {reference.label}'s, about {len(boxes)} boxes that nano's object head found.",
        seen=1,
    )
    for asked in of_boxes(boxes, image.hw):
        _agree(contest, reference, asked, scores, "the picture")
    return scores


def on_set(
    contest: Contest,
    dataset: Dataset,
    *,
    reference: Contestant | None = None,
    say: Say = lambda _: None,
) -> list[Scores]:
    """Compare answers with what people marked in a set of pictures, and with the reference's.

    Args:
        contest: The models.
        dataset: Pictures with masks.
        reference: One of the models, or None.
        say: Told what is being done.

    Returns:
        Scores against the marked masks, then those against the reference if there is one.

    Raises:
        MissingExtraError: OpenCV is not installed.
        BackendError: A runtime failed or a process ended.
    """
    truth = Scores(dataset.name, "Answers against the masks that people marked.")
    agreed = None if reference is None else Scores(
        f"agreement with {reference.label} on {dataset.name}",
        f"Answers to the same prompts as {reference.label}'s.",
    )  # fmt: skip
    broken: list[Broken] = []
    for sample in dataset.samples(broken=broken):
        say(f"{dataset.name}: {sample.name}")
        try:
            image = sample.load_image()
        except InputError as error:
            broken.append(Broken(sample.name, str(error)))
            continue
        _on_picture(contest, sample, image, truth, (reference, agreed))
    truth.broken = broken
    return [truth] if agreed is None else [truth, agreed]


def _on_picture(
    contest: Contest,
    sample: Sample,
    image: Image,
    truth: Scores,
    other: tuple[Contestant | None, Scores | None],
) -> None:
    truth.seen += 1
    if other[1] is not None:
        other[1].seen += 1
    encoded = False
    for objects in _groups(sample, truth):
        if not encoded:  # a picture without objects is not worth it
            contest.show(image.pixels)
            for one in contest.contestants:
                one.ask("embed")
            encoded = True
        for asked in of_objects(objects, avoid=sample.ignore, name=sample.name):
            truths = [objects[row] for row in asked.rows]
            replies = _ask_all(contest, asked)
            for figure in _names_of(asked):
                truth.pictures.setdefault(figure, []).extend([sample.name] * len(truths))
            for label, reply in replies.items():
                for mask, wanted in zip(reply.masks(), truths, strict=True):
                    truth.add(label, _figures(asked.kind, mask, wanted, sample.ignore))
            if other[0] is not None and other[1] is not None:
                _compare(replies, other[0].label, asked, other[1], sample.name)


def _groups(sample: Sample, scores: Scores) -> Iterator[list[NDArray[np.bool_]]]:
    """Give the objects of a picture, some at a time, without what is ignored."""
    height, width = sample.ignore.shape
    size = min(_GROUP, max(1, _GROUP_PIXELS // (height * width)))
    group: list[NDArray[np.bool_]] = []
    for region in sample.regions:
        mask = region.mask & ~sample.ignore
        if not mask.any():
            scores.skipped += 1
            continue
        group.append(mask)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _ask_all(contest: Contest, asked: Asked) -> dict[str, Reply]:
    return {one.label: one.segment(asked.prompt) for one in contest.contestants}


def _agree(contest: Contest, reference: Contestant, asked: Asked, scores: Scores, name: str) -> None:
    _compare(_ask_all(contest, asked), reference.label, asked, scores, name)


def _compare(replies: Mapping[str, Reply], whose: str, asked: Asked, scores: Scores, name: str) -> None:
    """Compare answers with the reference's; where that is empty or full there is nothing to agree with."""
    for row, rle in enumerate(replies[whose].rles):
        wanted = rle_to_mask(rle)
        if not wanted.any() or wanted.all():
            scores.skipped += 1
            continue
        for figure in _names_of(asked):
            scores.pictures.setdefault(figure, []).append(name)
        for label, reply in replies.items():
            scores.add(label, _figures(asked.kind, rle_to_mask(reply.rles[row]), wanted, None))


def _names_of(asked: Asked) -> Iterable[str]:
    return (asked.kind, BOUNDARY_IOU, BOUNDARY_F) if asked.kind == "box" else (asked.kind,)


def _figures(
    kind: str, mask: NDArray[np.bool_], wanted: NDArray[np.bool_], ignore: NDArray[np.bool_] | None
) -> dict[str, float]:
    found = {kind: iou(mask, wanted, ignore=ignore)}
    if kind == "box":
        found[BOUNDARY_IOU] = boundary_iou(mask, wanted, ignore=ignore)
        found[BOUNDARY_F] = boundary_f(mask, wanted, ignore=ignore)
    return found


def usual_boxes(image: Image, *, at_most: int = 16) -> NDArray[np.float64]:
    """Find boxes of objects in a picture with nano's object head, best first: something to ask every model about.

    Returns:
        (N, 4) xyxy in picture pixels.
    """
    from samlet import model

    finder = model.load("nano")
    boxes, _ = finder.session.objects(finder.embed(image), at_most=at_most)
    return boxes


def labels_of(costs: Sequence[Cost]) -> list[str]:
    """Give the models' names in tables."""
    return [cost.contestant.label for cost in costs]
