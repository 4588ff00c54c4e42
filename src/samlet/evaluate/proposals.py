"""The proposal protocol: how much of what people marked is among a model's best 10, 100 and 1,000 proposals.

Average recall as COCO and LVIS define it, without classes, for masks and for boxes. The library faster-coco-eval
matches; it sees one picture at a time, and recall over a set follows from the counts of its pictures, so memory does
not grow with the set and an interval over pictures costs nothing.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError, MissingExtraError
from samlet.evaluate.datasets import Broken, Dataset, Item, Sample
from samlet.evaluate.finders import OWN_BOXES, Finder, Timing
from samlet.evaluate.metrics import BOOTSTRAP_ROUNDS, BOOTSTRAP_SEED
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.rle import mask_to_compressed_rle

AT = (10, 100, 1000)
"""Numbers of proposals of which recall is taken."""

AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's ranges of an object's area in the picture's own pixels; both ends belong to a range."""

KINDS = ("mask", "box", "own box")
"""What is compared: masks, their tight boxes, and the boxes that a finder itself gave or prompted with."""

AR_WORDS = (
    "Average recall by the protocol of COCO and LVIS without classes: the proposals of a picture are ranked by the "
    "finder's score, the first K are matched one to one with the marked objects, each with the free object that it "
    "overlaps most, and recall is averaged over the ten IoU thresholds 0.50, 0.55, ..., 0.95. Areas are those of the "
    "marked mask in the picture's own pixels: small up to 32 x 32, medium up to 96 x 96, large above."
)
VOID_WORDS = (
    "Pixels marked ignore are taken away from every proposal before it is compared; a proposal of which nothing is "
    "left keeps its place in the ranking. The box of a mask is the tight box of what is left; a finder's own boxes "
    "are compared as they are."
)
TRUTH_WORDS = (
    "Every region of every mask is an object. Of several human segmentations of a picture (BSDS) each is compared "
    "with the same proposals on its own, as if it were another picture. Pictures without objects are not looked at."
)
TIME_WORDS = (
    "Seconds are means over pictures: encoder is preparing and encoding, prompts is finding what to prompt with, "
    "decoder is answering the prompts, post is all else that is needed to have ranked masks of the picture's size as "
    "run lengths, total is their sum; once by the clock and once as processor time of all threads, which other "
    "programs on the machine disturb less. Reading the picture and comparing are not counted. Several finders take "
    "turns on each picture, and each encodes it anew."
)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What recall is made of; tallies of pictures add up to that of a set.

    Attributes:
        hits: (areas, AT) objects found, averaged over the ten thresholds.
        truths: (areas,) objects there are.
    """

    hits: NDArray[np.float64]
    truths: NDArray[np.int64]

    @classmethod
    def zero(cls) -> Self:
        """Nothing there, nothing found."""
        return cls(np.zeros((len(AREAS), len(AT))), np.zeros(len(AREAS), np.int64))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.hits + other.hits, self.truths + other.truths)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Average recall (areas, AT), 0..1; not a number where there is no object."""
        known = np.where(self.truths > 0, self.truths, np.nan)
        return np.asarray(self.hits / known[:, None], np.float64)


@dataclass(frozen=True, slots=True)
class PictureResult:
    """What one finder did on one picture: tallies by kind, and what it cost."""

    name: str
    tallies: dict[str, Tally]
    timing: Timing
    proposals: int


@dataclass(slots=True)
class FinderResult:
    """What one finder did on a set."""

    finder: Finder
    pictures: list[PictureResult] = field(default_factory=list)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those of `KINDS` that were measured."""
        return tuple(kind for kind in KINDS if any(kind in picture.tallies for picture in self.pictures))

    def tally(self, kind: str) -> Tally:
        """Add up all pictures."""
        return sum((picture.tallies[kind] for picture in self.pictures), Tally.zero())

    def mean(self, figure: Callable[[PictureResult], float]) -> float | None:
        """Average a figure over pictures; None without any."""
        return float(np.mean([figure(picture) for picture in self.pictures])) if self.pictures else None


@dataclass(slots=True)
class ProposalResult:
    """What was measured on one set.

    Attributes:
        dataset: The set, as selected.
        finders: One result for each finder, in the order asked for; all saw the same pictures.
        pictures: Pictures that could be read.
        segmentations: Human segmentations compared with; more than pictures in BSDS.
        truths: Objects in them.
        empty: Pictures without objects.
        broken: Pictures and masks that could not be used.
        peak_mib: Largest memory of the process until the set was done; None where the system does not tell.
    """

    dataset: Dataset
    finders: list[FinderResult]
    pictures: int = 0
    segmentations: int = 0
    truths: int = 0
    empty: int = 0
    broken: list[Broken] = field(default_factory=list)
    peak_mib: float | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """One segmentation of a picture, in COCO's form.

    Attributes:
        hw: Size of the picture.
        codes: Compressed run lengths of its N objects.
        areas: (N,) their pixels.
        counting: Run lengths of the pixels that count; None if all do.
    """

    hw: tuple[int, int]
    codes: list[Any]
    areas: NDArray[np.int64]
    counting: Any | None

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """Take the regions of a sample; ignored pixels are taken away from them too."""
        codes, areas = [], []
        for region in sample.regions:
            mask = region.mask & ~sample.ignore
            area = int(np.count_nonzero(mask))
            if area:
                codes.append(mask_to_compressed_rle(mask))
                areas.append(area)
        counting = mask_to_compressed_rle(~sample.ignore) if sample.ignore.any() else None
        height, width = sample.ignore.shape
        return cls((height, width), codes, np.array(areas, np.int64), counting)

    def __len__(self) -> int:
        return len(self.codes)


def coco() -> Any:
    """Import the library that matches proposals with objects.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import faster_coco_eval
    except ImportError:
        raise MissingExtraError(
            "expected faster-coco-eval for the evaluation of proposals, but it is not installed; "
            "install it with pip install 'samlet[eval]'"
        ) from None
    return faster_coco_eval


def evaluate_proposals(
    finders: Sequence[Finder],
    dataset: Dataset,
    *,
    on_picture: Callable[[ProposalResult], None] | None = None,
) -> ProposalResult:
    """Measure finders on a set, taking turns on each picture.

    Args:
        finders: What to measure.
        dataset: The set, or the selected part of one.
        on_picture: Called after each picture, for progress.

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
        BackendError: The runtime failed.
    """
    coco()
    result = ProposalResult(dataset, [FinderResult(finder) for finder in finders], broken=[*dataset.broken])
    for item in dataset.items:
        _measure(item, result)
        result.peak_mib = peak_mib()
        if on_picture is not None:
            on_picture(result)
    return result


def _measure(item: Item, result: ProposalResult) -> None:
    """Let every finder look at one picture and compare what it found with every segmentation of it."""
    image, truths = _read(item, result)
    if image is None:
        return
    result.pictures += 1
    result.segmentations += len(truths)
    result.truths += sum(map(len, truths))
    if not any(map(len, truths)):
        result.empty += 1
        return
    for one in result.finders:
        masks, timing = one.finder.find(image)
        tallies: dict[str, Tally] = {}
        for truth in truths:
            for kind, tally in compare(truth, masks).items():
                tallies[kind] = tallies.get(kind, Tally.zero()) + tally
        one.pictures.append(PictureResult(item.name, tallies, timing, len(masks)))


def _read(item: Item, result: ProposalResult) -> tuple[Image | None, list[Truth]]:
    """Read a picture and its segmentations; what cannot be used is noted, and without both there is no picture."""
    image, truths = None, []
    for segmentation in result.dataset.segmentations(item):
        try:
            sample = result.dataset.read(segmentation)
        except InputError as error:
            result.broken.append(Broken(segmentation.name, str(error)))
            continue
        result.broken += sample.broken
        try:
            if image is None or image.hw != sample.ignore.shape:
                image = sample.load_image()  # checks the size against the mask's
        except InputError as error:
            result.broken.append(Broken(segmentation.name, str(error)))
            if image is None:  # the picture itself: no other mask helps
                break
        else:
            truths.append(Truth.of(sample))
    return image, truths


def compare(truth: Truth, masks: StoredMasks) -> dict[str, Tally]:
    """Match ranked proposals with the objects of one segmentation.

    Args:
        truth: The objects.
        masks: Proposals, best first; those beyond the last of `AT` do not count. Their scores are not looked at.

    Returns:
        A tally by kind; "own box" only if the masks have one of the facts `OWN_BOXES`.
    """
    library = coco()
    there = [
        int(np.count_nonzero((low <= truth.areas) & (truth.areas <= high))) for low, high in AREAS.values()
    ]
    counts = np.array(there, np.int64)
    masks = masks[: AT[-1]]
    own = next((masks.facts[name] for name in OWN_BOXES if name in masks.facts), None)
    kinds = KINDS if own is not None else KINDS[:2]
    if not len(truth) or not len(masks):
        return {kind: Tally(Tally.zero().hits, counts) for kind in kinds}
    codes = library.mask.frPyObjects([dict(rle) for rle in masks.rles], *truth.hw)
    if truth.counting is not None:
        codes = [library.mask.merge([code, truth.counting], 1) for code in codes]
    known = library.COCO(_annotated(truth, library.mask.toBbox(truth.codes)))
    proposed = known.loadRes(_proposed(codes, library.mask.toBbox(codes)))
    tallies = {
        "mask": Tally(_hits(library, known, proposed, "segm") * counts[:, None], counts),
        "box": Tally(_hits(library, known, proposed, "bbox") * counts[:, None], counts),
    }
    if own is not None:
        boxes = np.asarray(own, np.float64)
        boxes = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
        proposed = known.loadRes(_proposed(codes, boxes))
        tallies["own box"] = Tally(_hits(library, known, proposed, "bbox") * counts[:, None], counts)
    return tallies


def _hits(library: Any, known: Any, proposed: Any, kind: str) -> NDArray[np.float64]:
    """Run the library on one picture: recall (areas, AT), averaged over thresholds; 0 where there is no object."""
    ranges = {name: list(ends) for name, ends in AREAS.items() if name != "all"}
    judge = library.COCOeval_faster(known, proposed, kind, ranges=ranges)
    judge.params.useCats = 0
    judge.params.maxDets = list(AT)
    judge.evaluate()
    judge.accumulate()
    recall = np.asarray(judge.eval["recall"], np.float64)[:, 0]  # (thresholds, areas, AT), -1 without objects
    return np.asarray(recall.clip(min=0).mean(axis=0), np.float64)


def _annotated(truth: Truth, boxes_xywh: NDArray[np.float64]) -> dict[str, Any]:
    height, width = truth.hw
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "segmentation": code,
            "area": int(area),
            "bbox": box,
            "iscrowd": 0,
        }
        for number, (code, area, box) in enumerate(
            zip(truth.codes, truth.areas, boxes_xywh.tolist(), strict=True), 1
        )
    ]
    return {
        "info": {},
        "images": [{"id": 1, "height": height, "width": width}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": annotations,
    }


def _proposed(codes: list[Any], boxes_xywh: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Give proposals in COCO's form; scores fall by one, so that the library keeps their order."""
    return [
        {
            "image_id": 1,
            "category_id": 1,
            "segmentation": code,
            "bbox": box,
            "score": float(len(codes) - rank),
        }
        for rank, (code, box) in enumerate(zip(codes, boxes_xywh.tolist(), strict=True))
    ]


def interval(hits: NDArray[np.float64], truths: NDArray[np.int64]) -> tuple[float, float] | None:
    """Give the 95 % interval of a recall, or of a difference of two, by a seeded bootstrap over pictures.

    Args:
        hits: (P,) objects found in each picture, or the difference of two finders'.
        truths: (P,) objects there are.

    Returns:
        Its ends; None without objects.

    Example:
        >>> interval(np.array([1.0, 2.0]), np.array([2, 4]))
        (0.5, 0.5)
    """
    if not truths.sum():
        return None
    random = np.random.default_rng(BOOTSTRAP_SEED)
    means = []
    for _ in range(BOOTSTRAP_ROUNDS):
        drawn = random.integers(0, len(hits), len(hits))
        there = int(truths[drawn].sum())
        if there:  # a draw of pictures without such objects says nothing
            means.append(float(hits[drawn].sum() / there))
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def peak_mib() -> float | None:
    """Give the largest memory that this process has had so far, in MiB, or None where nobody counts it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
