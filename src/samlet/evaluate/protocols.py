"""The protocols: what a model is asked about every object of a set, and how its answer is scored.

A quality figure without its protocol means little (which prompt, which of the four masks, which pixels
count), so each column carries its protocol in words and the reports print them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.evaluate import baselines
from samlet.evaluate.clicks import Click, correction, most_interior
from samlet.evaluate.datasets import Broken, Dataset, Sample
from samlet.evaluate.metrics import clicks_to_reach, iou
from samlet.image import Image

PROTOCOLS = ("box", "click", "clicks")
MAX_CLICKS = 20
REPORTED_CLICKS = (1, 2, 3, 4, 5, 10, 20)
NOC_THRESHOLDS = (80, 85, 90)
_GROUP_PIXELS = 2**26  # truths of one group of objects: at most 64 MiB as bool
_GROUP_OBJECTS = 64

SCORING_WORDS = (
    "Every region of every mask is one object. IoU is taken at the picture's own size; pixels marked ignore "
    "count neither in the answer nor in the truth, and objects that are empty without them are skipped. "
    "Means are over objects; the 95 % interval of the mean is a seeded bootstrap over pictures. Of several "
    "human segmentations of a picture (BSDS) the first is the truth."
)
BOX_WORDS = (
    "One prompt: the tight box of the object (all its parts, x1 and y1 exclusive). Single mask (token 0)."
)
ZOOM_WORDS = "The model looks a second time at boxes that it holds for small (zoom=auto)."
NEAR_WORDS = "The model looks from near at small objects that were clicked on often (zoom=auto)."
CLICK_WORDS = (
    "One prompt: one foreground click on the object's most interior pixel (largest Euclidean distance to a "
    "pixel outside; the picture's edge and ignored pixels are outside). Single mask (token 0)."
)
BEST_WORDS = "The same click, three masks (tokens 1 to 3), the best of them by IoU: an oracle chooses."
CHOSEN_WORDS = "The same click, three masks (tokens 1 to 3), the one with the highest predicted score."
CLICKS_WORDS = (
    "The first click as above; each further click on the most interior pixel of the larger error, "
    "missing (foreground) or excess (background), larger by its largest distance; no pixel twice. Each time "
    "all clicks so far and the previous logits are given; single mask (token 0). "
    "An object without error keeps its answer."
)
NOC_WORDS = (
    "Corrective clicks until IoU first reaches the threshold; an object that never does counts the cap "
    "and is a failure."
)
FILLED_WORDS = "Not a model: the tight box of the object, filled."
ELLIPSE_WORDS = "Not a model: the ellipse inscribed in the tight box."
GRABCUT_WORDS = (
    "Not a model: OpenCV's GrabCut, 5 rounds from the tight box; where it refuses the box or answers with "
    "nothing, the filled box counts."
)


class Answer(Protocol):
    """What a model answers to N prompts; ``samlet.Masks`` is one."""

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Masks at the picture's size, (N, H, W) or, with three candidates, (N, 3, H, W)."""

    @property
    def scores(self) -> NDArray[np.float32]:
        """Predicted IoU, (N,) or (N, 3)."""

    @property
    def hint(self) -> NDArray[np.float32]:
        """Low-res logits to give back with the next prompt, (N, h, w)."""

    def __getitem__(self, index: int, /) -> "Answer":
        """The answer to one prompt alone, as a batch of one."""


class Segmenter(Protocol):
    """What the protocols need of a model; ``samlet.Model`` has it."""

    def embed(self, image: Image, /) -> Any:
        """Encode a picture."""

    def segment(  # noqa: PLR0913  the parts of a prompt, as in samlet.Model
        self,
        view: Any,
        /,
        *,
        points: NDArray[np.float64] | None = None,
        labels: NDArray[np.int64] | None = None,
        boxes: NDArray[np.float64] | None = None,
        hint: NDArray[np.float32] | None = None,
        multimask: bool = False,
        zoom: Literal["off", "auto"] = "off",
    ) -> Answer:
        """Answer N prompts."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of each object.

    Attributes:
        protocol: The step that gives it: "box", "click", "clicks" or "baselines".
        key: Its name in files, for instance "click_best".
        title: Its name in tables.
        words: The protocol.
        unit: "iou" (0..1, more is better) or "clicks" (less is better).
        cap: What a failure counts, for clicks.
    """

    protocol: str
    key: str
    title: str
    words: str
    unit: str = "iou"
    cap: int = 0

    @property
    def baseline(self) -> bool:
        """Whether it is an answer without a model."""
        return self.protocol == "baselines"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        protocols: Some of "box", "click" and "clicks".
        clicks: How many clicks the corrective protocol gives, 1..20; also the cap of NoC.
        grabcut: Whether to run the one baseline that costs time.
        zoom: "auto" lets the model look twice at small boxes, and from near at small objects with many clicks.
    """

    protocols: tuple[str, ...] = PROTOCOLS
    clicks: int = MAX_CLICKS
    grabcut: bool = True
    zoom: Literal["off", "auto"] = "off"

    def __post_init__(self) -> None:
        """Check the plan.

        Raises:
            InputError: A protocol is unknown or none is given, or the number of clicks is out of range.
        """
        unknown = [name for name in self.protocols if name not in PROTOCOLS]
        if unknown or not self.protocols:
            raise InputError(
                f"expected some of the protocols {', '.join(PROTOCOLS)}, got {', '.join(unknown) or 'none'}; "
                "name one or several, separated by commas"
            )
        if not 1 <= self.clicks <= MAX_CLICKS:
            raise InputError(
                f"expected 1 to {MAX_CLICKS} clicks, got {self.clicks}; {MAX_CLICKS} is the field's cap"
            )

    @property
    def columns(self) -> tuple[Column, ...]:
        """The figures that this plan gives, in the order of the tables."""
        columns: list[Column] = []
        if "box" in self.protocols:
            columns.append(
                Column("box", "box", "box", BOX_WORDS)
                if self.zoom == "off"
                else Column("box", "box", "box, zoom", f"{BOX_WORDS} {ZOOM_WORDS}")
            )
        if "click" in self.protocols:
            columns.append(Column("click", "click", "click", CLICK_WORDS))
            columns.append(Column("click", "click_best", "click, best of 3", BEST_WORDS))
            columns.append(Column("click", "click_chosen", "click, chosen of 3", CHOSEN_WORDS))
        if "clicks" in self.protocols:
            for count in self.reported_clicks:
                title = f"after {count} click{'s' if count > 1 else ''}"
                words = CLICKS_WORDS if self.zoom == "off" else f"{CLICKS_WORDS} {NEAR_WORDS}"
                columns.append(Column("clicks", f"clicks_{count}", title, words))
            for threshold in NOC_THRESHOLDS:
                title = f"NoC@{threshold} (cap {self.clicks})"
                columns.append(
                    Column("clicks", f"noc_{threshold}", title, NOC_WORDS, unit="clicks", cap=self.clicks)
                )
        columns.append(Column("baselines", "filled_box", "filled box", FILLED_WORDS))
        columns.append(Column("baselines", "ellipse", "ellipse in the box", ELLIPSE_WORDS))
        columns.append(Column("baselines", "grabcut", "GrabCut in the box", GRABCUT_WORDS))
        return tuple(columns)

    @property
    def reported_clicks(self) -> tuple[int, ...]:
        """The numbers of clicks after which the mean IoU is reported."""
        return tuple(sorted({count for count in REPORTED_CLICKS if count <= self.clicks} | {self.clicks}))


@dataclass(frozen=True, slots=True)
class Scene:
    """Some objects of one picture.

    Attributes:
        image: The picture.
        view: What the model made of it.
        truths: The objects without ignored pixels, none empty, bool (N, H, W).
        ignore: Pixels that do not count, bool (H, W).
    """

    image: Image
    view: Any
    truths: NDArray[np.bool_]
    ignore: NDArray[np.bool_]

    def ious(self, answer: Answer) -> list[list[float]]:
        """Score an answer, one object at a time so that its masks never lie in memory together.

        Returns:
            For each object the IoU of each of its masks.
        """
        found = []
        for index, truth in enumerate(self.truths):
            masks = answer[index].masks[0]  # (H, W) or (3, H, W)
            found.append([iou(mask, truth, ignore=self.ignore) for mask in masks.reshape(-1, *truth.shape)])
        return found


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """The figures of one object: ``values`` by the column's key; a baseline that was not run is left out."""

    picture: str
    region: int
    area: int
    values: dict[str, float]


@dataclass(slots=True)
class SetResult:
    """What was measured on one set.

    Attributes:
        dataset: The set, as selected.
        plan: What was asked.
        objects: Figures of each object, in the order of files and ids.
        pictures: How many pictures were measured.
        skipped: How many objects were empty without their ignored pixels.
        broken: Pictures that could not be used.
        grabcut_failures: Objects for which GrabCut's answer is the filled box.
        seconds: Wall time by step: "embed", each protocol (prompts, answers, full-size masks and scoring) and
            "baselines".
    """

    dataset: Dataset
    plan: Plan
    objects: list[ObjectResult] = field(default_factory=list)
    pictures: int = 0
    skipped: int = 0
    broken: list[Broken] = field(default_factory=list)
    grabcut_failures: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def values(self, key: str) -> list[float]:
        """Give one figure of all objects that have it."""
        return [result.values[key] for result in self.objects if key in result.values]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time that a block takes to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


def evaluate_set(
    model: Segmenter,
    dataset: Dataset,
    *,
    plan: Plan,
    on_picture: Callable[[SetResult], None] | None = None,
) -> SetResult:
    """Measure a model on a set; each picture is encoded once.

    Args:
        model: The model.
        dataset: The set, or the selected part of one.
        plan: What to measure.
        on_picture: Called after each picture, for progress.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    result = SetResult(dataset=dataset, plan=plan, broken=[*dataset.broken])
    for item in dataset.items:
        try:
            sample = dataset.read(item)
            image = sample.load_image()
        except InputError as error:
            result.broken.append(Broken(item.name, str(error)))
        else:
            result.broken += sample.broken
            _measure_picture(model, sample, image, result)
            result.pictures += 1
        if on_picture is not None:
            on_picture(result)
    return result


def _measure_picture(model: Segmenter, sample: Sample, image: Image, result: SetResult) -> None:
    """Append the figures of all objects of one picture."""
    if not sample.regions:
        return
    with result.timed("embed"):
        view = model.embed(image)
    height, width = sample.ignore.shape
    size = min(_GROUP_OBJECTS, max(1, _GROUP_PIXELS // (height * width)))
    for start in range(0, len(sample.regions), size):
        ids, truths = [], []
        for region in sample.regions[start : start + size]:
            truth = region.mask & ~sample.ignore
            if truth.any():
                ids.append(region.id)
                truths.append(truth)
            else:
                result.skipped += 1
        if truths:
            scene = Scene(image=image, view=view, truths=np.stack(truths), ignore=sample.ignore)
            figures = _measure_scene(model, scene, result)
            for id_, truth, values in zip(ids, truths, figures, strict=True):
                result.objects.append(ObjectResult(sample.name, id_, int(np.count_nonzero(truth)), values))


def _measure_scene(model: Segmenter, scene: Scene, result: SetResult) -> list[dict[str, float]]:
    """Give the figures of each object of a scene."""
    figures: list[dict[str, float]] = [{} for _ in scene.truths]
    runs: dict[str, Callable[[Segmenter, Scene, Plan], list[dict[str, float]]]] = {
        "box": measure_box,
        "click": measure_click,
        "clicks": measure_clicks,
    }
    for protocol in PROTOCOLS:
        if protocol in result.plan.protocols:
            with result.timed(protocol):
                for values, found in zip(figures, runs[protocol](model, scene, result.plan), strict=True):
                    values.update(found)
    with result.timed("baselines"):
        for values, truth in zip(figures, scene.truths, strict=True):
            box, hw = baselines.tight_box(truth), scene.image.hw
            values["filled_box"] = iou(baselines.filled_box(box, hw), truth, ignore=scene.ignore)
            values["ellipse"] = iou(baselines.ellipse(box, hw), truth, ignore=scene.ignore)
            if result.plan.grabcut:
                mask, found_some = baselines.grabcut(scene.image, box)
                values["grabcut"] = iou(mask, truth, ignore=scene.ignore)
                result.grabcut_failures += not found_some
    return figures


def measure_box(model: Segmenter, scene: Scene, plan: Plan) -> list[dict[str, float]]:
    """Measure the box protocol, all objects in one batch; see ``BOX_WORDS``."""
    boxes = np.asarray([baselines.tight_box(truth) for truth in scene.truths], np.float64)  # (N, 4)
    answer = model.segment(scene.view, boxes=boxes, zoom=plan.zoom)
    return [{"box": values[0]} for values in scene.ious(answer)]


def measure_click(model: Segmenter, scene: Scene, plan: Plan) -> list[dict[str, float]]:
    """Measure the single click; see ``CLICK_WORDS``, ``BEST_WORDS`` and ``CHOSEN_WORDS``."""
    points, labels = clicks_prompt([[first_click(truth)] for truth in scene.truths])
    single = scene.ious(model.segment(scene.view, points=points, labels=labels))
    answer = model.segment(scene.view, points=points, labels=labels, multimask=True)
    chosen = np.asarray(answer.scores).argmax(axis=1)  # (N,) the first of equals
    return [
        {"click": one[0], "click_best": max(three), "click_chosen": three[choice]}
        for one, three, choice in zip(single, scene.ious(answer), chosen.tolist(), strict=True)
    ]


def measure_clicks(model: Segmenter, scene: Scene, plan: Plan) -> list[dict[str, float]]:
    """Measure the corrective clicks; see ``CLICKS_WORDS`` and ``NOC_WORDS``."""
    histories: list[list[float]] = [[] for _ in scene.truths]
    for round_ in correct(model, scene, clicks=plan.clicks, zoom=plan.zoom):
        for index, mask in round_.masks.items():
            histories[index].append(iou(mask, scene.truths[index], ignore=scene.ignore))
    figures = []
    for history in histories:
        history += [history[-1]] * (plan.clicks - len(history))  # nothing left to click: the answer stands
        values = {f"clicks_{count}": history[count - 1] for count in plan.reported_clicks}
        for threshold in NOC_THRESHOLDS:
            count, reached = clicks_to_reach(history, threshold / 100, cap=plan.clicks)
            values[f"noc_{threshold}"], values[f"noc_{threshold}_failed"] = count, not reached
        figures.append(values)
    return figures


@dataclass(frozen=True, slots=True)
class Round:
    """One round of corrective clicks.

    Attributes:
        clicks: The clicks so far on each object of the scene, also of those that were not asked about.
        masks: The answers, bool (H, W), by the index of the object; an object without error is not asked
        about.
    """

    clicks: tuple[tuple[Click, ...], ...]
    masks: dict[int, NDArray[np.bool_]]


def correct(
    model: Segmenter, scene: Scene, *, clicks: int, zoom: Literal["off", "auto"] = "off"
) -> Iterator[Round]:
    """Click, look at the answer, click again: all objects of a scene side by side.

    Args:
        model: The model.
        scene: The objects.
        clicks: How many rounds at most, 1 or more.
        zoom: "auto" lets the model look from near at small objects.

    Yields:
        The rounds; they end early when no object has an error left to click.
    """
    made = [[first_click(truth)] for truth in scene.truths]
    taken = np.zeros(scene.truths.shape, np.bool_)  # (N, H, W)
    active = list(range(len(made)))
    hint: NDArray[np.float32] | None = None
    for round_ in range(1, clicks + 1):
        points, labels = clicks_prompt([made[index] for index in active])
        answer = model.segment(scene.view, points=points, labels=labels, hint=hint, zoom=zoom)
        masks = [answer[row].masks[0] for row in range(len(active))]
        yield Round(tuple(map(tuple, made)), dict(zip(active, masks, strict=True)))
        wrong = []
        for row, index in enumerate(active if round_ < clicks else ()):
            last = made[index][-1]
            taken[index, last.y, last.x] = True
            click = correction(masks[row], scene.truths[index], ignore=scene.ignore, taken=taken[index])
            if click is not None:
                made[index].append(click)
                wrong.append(row)
        if not wrong:
            return
        active, hint = [active[row] for row in wrong], answer.hint[wrong]


def first_click(truth: NDArray[np.bool_]) -> Click:
    """Choose the first click on an object.

    Raises:
        InputError: The object has no pixels.
        MissingExtraError: OpenCV is not installed.
    """
    click = most_interior(truth)
    if click is None:
        raise InputError("expected an object with at least one pixel, got an empty mask; leave it out")
    return click


def clicks_prompt(clicks: Sequence[Sequence[Click]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give clicks as the points (N, K, 2) and labels (N, K) of a prompt; each object has as many."""
    points = np.asarray([[(click.x, click.y) for click in row] for row in clicks], np.float64)
    labels = np.asarray([[click.label for click in row] for row in clicks], np.int64)
    return points, labels
