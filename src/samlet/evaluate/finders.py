"""Ways to find everything in a picture, by name, each with a stopwatch: what the proposal protocol measures.

    finder("grid32", session).find(image) -> (StoredMasks, Timing)

A finder hands out at most 1,000 masks, best first; `scores` are what it ranks them by.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from samlet.decoding import Drawn
from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.everything import COARSE, Grid, GridEngine, Objects, objects
from samlet.families import family, fastsam
from samlet.image import Image
from samlet.instances import FLOOR, rules_of
from samlet.masks import Masks, StoredMasks
from samlet.prompt import Prompt
from samlet.session import Session

MOST = 1000
"""Most proposals of a picture that count."""

OWN_BOXES = ("box_xyxy", "prompt_box")
"""Names of the facts that hold a finder's own boxes, where it has some."""

STEPS = ("encoder", "prompts", "decoder", "post")

_FASTSAM = "fastsam"
_GRID = re.compile(r"(?P<way>grid|hierarchical)(?P<side>[1-9][0-9]{0,2})(?P<option>-nms70|-default|-card)?")
_OBJECTS = re.compile(
    r"objects(?P<most>[1-9][0-9]{0,2})?(?:(?P<paper>-paper)|(?:-nms(?P<nms>[1-9][0-9]))?(?:-(?P<rank>box|mask|both))?)"
    r"(?:@(?P<detector>.+))?"
)
_INSTANCES = re.compile(r"instances(?P<option>-card)?")

Load = Callable[[str], Session]
Propose = Callable[[Session, Image], StoredMasks]


@dataclass(frozen=True, slots=True)
class Split:
    """Where the time for one picture went, in seconds.

    Attributes:
        encoder: Preparing and encoding the picture.
        prompts: Finding what to prompt with.
        decoder: Answering prompts.
        post: Everything else: choosing, suppressing, full-size run lengths, ranking.
    """

    encoder: float
    prompts: float
    decoder: float
    post: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.encoder + self.prompts + self.decoder + self.post


@dataclass(frozen=True, slots=True)
class Timing:
    """What one picture cost.

    Attributes:
        clock: Seconds of wall clock.
        cpu: Seconds of processor time, of all threads of the process; other programs disturb them less.
        asked: How many prompts were answered.
    """

    clock: Split
    cpu: Split
    asked: int


class Stopwatch:
    """A session that notes how long its parts run; whoever uses it needs no clock."""

    def __init__(self, session: Session) -> None:
        """Wrap a session.

        Args:
            session: Whatever this class does not time is taken from it.
        """
        self._session = session
        self.asked = 0
        self._spent = {step: np.zeros(2) for step in STEPS[:-1]}
        self._start = _now()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def embed(self, image: Image) -> Embedding:
        """Encode; see `Session.embed`."""
        with self.running("encoder"):
            return self._session.embed(image)

    def objects(self, embedding: Embedding, **options: Any) -> Any:
        """Find objects; see `Session.objects`."""
        with self.running("prompts"):
            return self._session.objects(embedding, **options)

    def segment(self, embedding: Embedding, prompt: Prompt, **options: Any) -> Masks:
        """Answer prompts; see `Session.segment`."""
        self.asked += len(prompt)
        with self.running("decoder"):
            return self._session.segment(embedding, prompt, **options)

    def passing(self, embedding: Embedding, prompt: Prompt, **options: Any) -> Drawn:
        """Answer prompts with scores first; see `Session.passing`."""
        self.asked += len(prompt)
        with self.running("decoder"):
            return self._session.passing(embedding, prompt, **options)

    def read(self) -> Timing:
        """Give the time since this was made, by step."""
        spent = dict(self._spent)
        spent["post"] = _now() - self._start - sum(spent.values())
        clock, cpu = (Split(**{step: float(both[row]) for step, both in spent.items()}) for row in (0, 1))
        return Timing(clock, cpu, self.asked)

    @contextmanager
    def running(self, step: str) -> Iterator[None]:
        """Add the time that a block takes to a step."""
        start = _now()
        try:
            yield
        finally:
            self._spent[step] += _now() - start


def _now() -> NDArray[np.float64]:
    """Read the clock and the processor time of the process, in seconds."""
    return np.array((time.perf_counter(), time.process_time()))


class Prompter:
    """Another model that only finds what to prompt with: all that it does is charged to that step."""

    def __init__(self, session: Session, watch: Stopwatch) -> None:
        """Wrap the other model's session; the stopwatch is that of the first."""
        self._session, self._watch = session, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def embed(self, image: Image) -> Embedding:
        """Encode; see `Session.embed`."""
        with self._watch.running("prompts"):
            return self._session.embed(image)

    def objects(self, embedding: Embedding, **options: Any) -> Any:
        """Find objects; see `Session.objects`."""
        with self._watch.running("prompts"):
            return self._session.objects(embedding, **options)


@dataclass(frozen=True, slots=True)
class Finder:
    """One way to find everything in a picture.

    Attributes:
        name: As on the command line.
        words: What it does and how it ranks, for the reports.
        session: The model.
        propose: Does it: at most `MOST` masks, best first. With one of the facts `OWN_BOXES` (N, 4), in picture
            pixels, its own boxes are measured too.
    """

    name: str
    words: str
    session: Session
    propose: Propose

    def find(self, image: Image) -> tuple[StoredMasks, Timing]:
        """Find everything in a picture.

        Args:
            image: The picture; it is encoded again for each call.

        Raises:
            BackendError: The runtime failed.
        """
        watch = Stopwatch(self.session)
        masks = self.propose(cast(Session, watch), image)
        return masks, watch.read()


def finder(name: str, session: Session, *, load: Load | None = None) -> Finder:
    """Make a finder by its name.

    Args:
        name: "grid32" is SAM's proposal protocol on 32 x 32 clicks (any number up to 999), "grid32-nms70" the same
            with a stricter suppression, "grid32-default" SAM's generator as people use it, "grid32-card" with the
            thresholds of the model's card; "hierarchical32" and so on ask coarse clicks first. "objects" is
            object-aware everything mode as it is; "objects320" with at most 320 boxes, "objects-nms90" drops only
            boxes and masks that overlap by more than 0.9, "objects-box" and "objects-mask" rank by one score alone,
            "objects-paper" does as MobileSAMv2, and "objects@nano" takes the boxes of another model. "instances"
            takes all that a model such as FastSAM finds, "instances-card" what its card lets through.
        session: The model.
        load: Loads another model by its name; without it none can be named.

    Raises:
        InputError: There is no such finder, or the model cannot do it.
        ModelError: Another model is named that cannot be loaded.
    """
    grid, objects_, instances = (pattern.fullmatch(name) for pattern in (_GRID, _OBJECTS, _INSTANCES))
    if grid:
        return _grid_finder(grid, session)
    if objects_:
        other = load(objects_["detector"]) if load and objects_["detector"] else None
        if (other is None) == (objects_["detector"] is None):
            return _objects_finder(objects_, session, other)
    if instances:
        return _instances_finder(instances, session)
    raise InputError(
        "expected a way to find everything such as grid32, grid16-nms70, grid32-card, hierarchical32, objects, "
        f"objects320-box, objects@nano or instances, got {name!r:.80}; choose one or several, separated by commas"
    )


def usual(session: Session) -> str:
    """Name the finder that a model is measured with if nobody says otherwise."""
    if session.card.family == _FASTSAM:
        return "instances"
    return "objects" if session.has_objects else "grid32"


def ranked(masks: StoredMasks, by: NDArray[np.floating[Any]]) -> StoredMasks:
    """Put masks in falling order of `by` (N,), the first of equals first, and keep the first `MOST`."""
    order = np.argsort(-np.asarray(by, np.float64), kind="stable")[:MOST]
    return replace(masks[order], scores=np.asarray(by, np.float32)[order])


def _grid_finder(match: re.Match[str], session: Session) -> Finder:
    side, option = int(match["side"]), match["option"]
    coarse = COARSE if match["way"] == "hierarchical" else 1
    clicks = f"{side} x {side} clicks, three masks each"
    if coarse > 1:
        clicks = f"{clicks}, every {coarse}th of a line first, then those whose neighbours disagree"
    thresholded = option in ("-default", "-card")
    if thresholded:
        grid = Grid(points_per_side=side) if option == "-default" else Grid.parse(str(side), session.card)
        whose = "SAM's default" if option == "-default" else "the card's"
        words = (
            f"{clicks}, {whose} thresholds (score above {grid.pred_iou_thresh:g}, stability "
            f"{grid.stability_score_thresh:g}, box NMS {grid.box_nms_thresh:g}), ranked by score."
        )
    else:
        nms = 0.7 if option else 0.9
        grid = Grid(points_per_side=side, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=nms)
        words = (
            f"{clicks}, no thresholds, box NMS {nms}, ranked by the mean of score and stability, the first {MOST}: "
            "SAM's protocol for proposals."
        )
    GridEngine(session, grid)  # says at once if the model cannot do this
    return Finder(match[0], words, session, partial(_grid, grid=grid, coarse=coarse, by_mean=not thresholded))


def _grid(session: Session, image: Image, *, grid: Grid, coarse: int, by_mean: bool) -> StoredMasks:
    engine = GridEngine(session, grid, coarse=coarse)
    engine.initialize(
        session.embed(image), score_floor=grid.pred_iou_thresh, stability_floor=grid.stability_score_thresh
    )
    masks = engine.generate()
    return ranked(masks, (masks.scores + masks.stability()) / 2 if by_mean else masks.scores)


def _objects_finder(match: re.Match[str], session: Session, other: Session | None) -> Finder:
    source = session if other is None else other
    if not (source.has_objects or (other is not None and other.card.family == "object_aware")):
        raise InputError(
            f"expected a model that finds boxes of objects for {match[0]}, got {source.card.name}; choose grid32, or "
            "name a model with an object head, as in objects@nano"
        )
    if len(family(session.card.family).ROLES) < 2:
        raise InputError(
            f"expected a model that answers boxes for {match[0]}, got {session.card.name}; choose instances"
        )
    wanted = _wanted(match)
    whose = "its own object head" if other is None else f"{other.card.name} (digest {other.card.digest[:12]})"
    kept = (
        f"masks that overlap by more than {wanted.mask_iou:g} dropped"
        if wanted.mask_iou < 1
        else "no NMS of masks"
    )
    words = (
        f"At most {wanted.at_most} boxes of {whose} (box NMS {wanted.box_iou:g}) prompt the decoder, one mask each "
        f"(token 0), {kept}, ranked by {_RANKS[wanted.rank]}."
    )
    return Finder(match[0], words, session, partial(_objects, wanted=wanted, other=other))


_RANKS = {
    "stable": "the box's score times the mask's stability",
    "both": "the geometric mean of the box's score and the decoder's",
    "box": "the box's score",
    "mask": "the decoder's score",
}


def _wanted(match: re.Match[str]) -> Objects:
    """Read the settings of object-aware everything mode from a finder's name."""
    if match["paper"]:
        return Objects.mobile_sam_v2(at_most=int(match["most"] or 320))
    wanted = Objects()
    if match["most"]:
        wanted = replace(wanted, at_most=int(match["most"]))
    if match["nms"]:
        wanted = replace(wanted, box_iou=int(match["nms"]) / 100, mask_iou=int(match["nms"]) / 100)
    return replace(wanted, rank=cast(Any, match["rank"])) if match["rank"] else wanted


def _objects(session: Session, image: Image, *, wanted: Objects, other: Session | None) -> StoredMasks:
    watch = cast(Stopwatch, session)
    detector = None if other is None else cast(Session, Prompter(other, watch))
    masks = objects(session, image, wanted, detector=detector)
    return ranked(masks, masks.scores)


def _instances_finder(match: re.Match[str], session: Session) -> Finder:
    card = session.card
    if card.family != _FASTSAM:
        raise InputError(
            f"expected a model that finds instances by itself, such as fastsam_s, for {match[0]}, got {card.name}; "
            "choose grid32 or objects"
        )
    if match["option"]:
        rules, which = rules_of(card), "by the settings of its card"
    else:
        floor = float(card.settings.get("floor", FLOOR))
        rules = rules_of(card, conf=floor, iou=0.9, max_det=MOST)
        which = f"scores above {floor:g}, box NMS 0.9, the first {MOST}"
    words = f"Everything that the network finds in one pass, {which}, ranked by its scores; no prompts."

    def propose(session: Session, image: Image) -> StoredMasks:
        found = fastsam.instances(session.embed(image), session.card, rules)
        return ranked(found, found.scores)

    return Finder(match[0], words, session, propose)
