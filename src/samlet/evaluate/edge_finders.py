"""Ways to find edges in a picture, by name: what the boundary benchmark measures."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.evaluate.clicks import opencv
from samlet.evaluate.finders import finder
from samlet.everything.grid import point_grid
from samlet.everything.objects import Objects, object_boxes
from samlet.families import family
from samlet.image import Image
from samlet.uses import EdgeVotes, edge_map, thin_ridges
from samlet.uses.edges import blurred
from samlet.uses.looks import to_lab

if TYPE_CHECKING:
    from samlet.embedding import Embedding
    from samlet.model import Model
    from samlet.session import Session

Edges = NDArray[np.float32]

_GRID = re.compile(r"grid(?P<side>[1-9][0-9]?)")
_AT_ONCE = 16
_LEVELS = 99  # thresholds of Canny; the benchmark looks no closer
_BLUR = 2.0  # of Canny and Sobel, pixels; chosen on pictures of BSDS500's training part
_LOW = 0.4  # of Canny's upper threshold
# Of votes: chosen on pictures of BSDS500's training part, see docs/evaluation/bsds500_edges.md.
_SIDE, _QUARTER_SIDE, _QUARTER_BOXES = 12, 5, 30
_PART, _RAMP = 0.6, 20  # of the picture's sides; pixels over which parts are blended
_GRADIENT, _GRADIENT_BLUR = 0.1, 2.5


@dataclass(frozen=True, slots=True)
class EdgeFinder:
    """One way to find edges.

    Attributes:
        name: As on the command line.
        words: What it does, for the reports.
        find: Gives the strength of the edge at each pixel of a picture, (H, W), 0 to 1, thin.
    """

    name: str
    words: str
    find: Callable[[Image], Edges]


def edge_finder(name: str, model: "Model") -> EdgeFinder:
    """Make a finder of edges by its name.

    Args:
        name: "objects" draws the masks of the boxes of the model's object head as SAM's and FastSAM's papers do,
            "grid16" those of 16 x 16 clicks (any number up to 99), three masks each; "votes" lets the masks of both,
            and of four enlarged quarters of the picture, vote; "instances" draws what a model such as FastSAM finds;
            "canny" and "sobel" are OpenCV's and look at no model.
        model: The model.

    Raises:
        InputError: There is no such finder, or the model cannot do it.
        MissingExtraError: OpenCV is not installed, for the two that are its own.
    """
    grid = _GRID.fullmatch(name)
    if name in PLAIN:
        opencv()
        return EdgeFinder(name, *PLAIN[name])
    if name == "instances":
        found = finder(name, model.session)
        return EdgeFinder(name, f"{found.words} {_DRAWN}", lambda image: edge_map(found.find(image)[0]))
    if grid or name in ("objects", "votes"):
        if len(family(model.card.family).ROLES) < 2:
            raise InputError(
                f"expected a model that answers prompts for {name}, got {model.card.name}; choose instances"
            )
        if not grid and not model.session.has_objects:
            raise InputError(
                f"expected a model that finds boxes of objects for {name}, got {model.card.name}; choose grid16"
            )
        if grid:
            side = int(grid["side"])
            words = f"The masks of {side} x {side} clicks, three masks each. {_DRAWN}"
            return EdgeFinder(name, words, partial(_grid_edges, model=model, side=side))
        if name == "objects":
            words = f"The masks of {Objects().at_most} boxes of the model's object head, one each. {_DRAWN}"
            return EdgeFinder(name, words, partial(_object_edges, model=model))
        return EdgeFinder(name, VOTES_WORDS, partial(_voted_edges, model=model))
    raise InputError(
        f"expected a way to find edges such as votes, objects, grid16, instances, canny or sobel, got {name!r:.80}; "
        "choose one or several, separated by commas"
    )


def usual(session: "Session") -> str:
    """Name the finders that a model is measured with if nobody says otherwise."""
    if len(family(session.card.family).ROLES) < 2:
        return "instances,canny"
    return "votes,objects,canny" if session.has_objects else "grid16,canny"


_DRAWN = (
    "Sobel's slope of each mask's probability near its outline, the largest of all masks at each pixel, divided by "
    "the largest of all and thinned along its direction (uses.edge_map)."
)
VOTES_WORDS = (
    f"Slopes of all masks added up, weighted by the squared score (uses.EdgeVotes): of {Objects().at_most} boxes of "
    f"the object head and of {_SIDE} x {_SIDE} clicks with three masks each on the whole picture, and of "
    f"{_QUARTER_BOXES} boxes and {_QUARTER_SIDE} x {_QUARTER_SIDE} clicks on each of four overlapping quarters, "
    f"encoded anew (weight 2); each source over its 99th percentile, plus {_GRADIENT} of the picture's own gradient; "
    "blurred by a pixel and thinned to its ridges (uses.thin_ridges)."
)


def _object_edges(image: Image, *, model: "Model") -> Edges:
    view = model.embed(image)
    boxes, _ = object_boxes(model.session, view)
    return edge_map(model.segment(view, boxes=boxes)) if len(boxes) else np.zeros(image.hw, np.float32)


def _grid_edges(image: Image, *, model: "Model", side: int) -> Edges:
    """Draw the masks of clicks, a few at a time: the largest slope of all is that of the largest of each part.

    The parts are divided by their own largest value, so they are drawn unthinned from all masks together.
    """
    view = model.embed(image)
    points = point_grid(side) * np.array(image.hw[::-1], np.float64)
    masks = [
        model.segment(view, points=points[start : start + _AT_ONCE, None], multimask=True)
        for start in range(0, len(points), _AT_ONCE)
    ]
    logits = np.concatenate([one.logits.reshape(-1, *one.logits.shape[-2:]) for one in masks])
    scores = np.concatenate([one.scores.reshape(-1) for one in masks])
    return edge_map(replace(masks[0], logits=logits, scores=scores, prompt=None))


def _voted_edges(image: Image, *, model: "Model") -> Edges:
    view = model.embed(image)
    boxes, clicks = EdgeVotes(), EdgeVotes()
    _vote_boxes(model, view, Objects().at_most, boxes)
    _vote_clicks(model, view, _SIDE, clicks)
    total = _evened(clicks.strength()) + 2 * _evened(_quarters(image, model))
    if boxes:
        total += _evened(boxes.strength())
    colors = blurred(to_lab(image.pixels), _GRADIENT_BLUR)
    slopes = [part.astype(np.float32) for part in np.gradient(colors, axis=(0, 1))]
    slope = np.sqrt(sum((part**2).sum(axis=-1) for part in slopes))
    return thin_ridges(total / 4 + _GRADIENT * _evened(slope))


def _evened(strength: Edges) -> Edges:
    """Divide by the 99th percentile, so that sources compare however many masks have voted."""
    return strength / np.float32(max(float(np.percentile(strength, 99)), 1e-12))


def _quarters(image: Image, model: "Model") -> Edges:
    """Let masks of four overlapping, enlarged parts of the picture vote; where parts overlap they are blended."""
    height, width = image.hw
    tall, wide = max(1, round(_PART * height)), max(1, round(_PART * width))
    total, weights = np.zeros(image.hw, np.float32), np.zeros(image.hw, np.float32)
    down, across = (np.minimum(np.arange(size) + 1, size - np.arange(size)) / _RAMP for size in (tall, wide))
    fade = np.clip(np.minimum(down[:, None], across), 0.05, 1).astype(np.float32)
    for top in (0, height - tall):
        for left in (0, width - wide):
            window = (slice(top, top + tall), slice(left, left + wide))
            view = model.embed(Image.load(np.ascontiguousarray(image.pixels[window])))
            votes = EdgeVotes()
            _vote_boxes(model, view, _QUARTER_BOXES, votes)
            _vote_clicks(model, view, _QUARTER_SIDE, votes)
            total[window] += votes.strength() * fade
            weights[window] += fade
    return total / weights


def _vote_boxes(model: "Model", view: "Embedding", most: int, votes: EdgeVotes) -> None:
    boxes, _ = object_boxes(model.session, view, Objects(at_most=most))
    for start in range(0, len(boxes), _AT_ONCE):
        votes.add(model.segment(view, boxes=boxes[start : start + _AT_ONCE]))


def _vote_clicks(model: "Model", view: "Embedding", side: int, votes: EdgeVotes) -> None:
    points = point_grid(side) * np.array(view.frame.image_hw[::-1], np.float64)
    for start in range(0, len(points), _AT_ONCE):
        votes.add(model.segment(view, points=points[start : start + _AT_ONCE, None], multimask=True))


def _canny(image: Image) -> Edges:
    cv2 = opencv()
    gray = cv2.GaussianBlur(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY), (0, 0), _BLUR)
    x, y = (cv2.Sobel(gray, cv2.CV_16S, *way) for way in ((1, 0), (0, 1)))
    most = float(np.hypot(x.astype(np.float32), y.astype(np.float32)).max())
    found = np.zeros(image.hw, np.float32)
    for level in range(1, _LEVELS + 1):  # edges at a higher threshold are among those at a lower
        high = most * level / (_LEVELS + 1)
        found[cv2.Canny(x, y, _LOW * high, high, L2gradient=True) > 0] = level / (_LEVELS + 1)
    return found


def _sobel(image: Image) -> Edges:
    cv2 = opencv()
    gray = cv2.GaussianBlur(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY), (0, 0), _BLUR)
    slope = np.hypot(*(cv2.Sobel(gray, cv2.CV_32F, *way) for way in ((1, 0), (0, 1))))
    return thin_ridges(slope, blur=0.0) ** 2


PLAIN: dict[str, tuple[str, Callable[[Image], Edges]]] = {
    "canny": (
        f"Not a model: OpenCV's Canny on the grey picture blurred by {_BLUR} pixels, at {_LEVELS} upper thresholds up "
        f"to the largest slope, the lower at {_LOW} of the upper.",
        _canny,
    ),
    "sobel": (
        f"Not a model: OpenCV's Sobel on the grey picture blurred by {_BLUR} pixels, thinned to its ridges.",
        _sobel,
    ),
}
"""Ways that look at no model: words, and what finds the edges."""
