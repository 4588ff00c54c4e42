"""The best, median and worst cases of a set, drawn: a mean hides what a picture shows at once."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet import drawing
from samlet.evaluate.baselines import tight_box
from samlet.evaluate.clicks import Click
from samlet.evaluate.protocols import (
    Column,
    ObjectResult,
    Plan,
    Scene,
    Segmenter,
    SetResult,
    clicks_prompt,
    correct,
    first_click,
)
from samlet.prompt import Prompt

PER_KIND = 4
_CELL = 360


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One picture of a report: file name, the file's bytes, and a line of text."""

    name: str
    png: bytes
    caption: str


def choose(result: SetResult, *, count: int = PER_KIND) -> list[tuple[str, ObjectResult]]:
    """Choose the best, median and worst objects by the main column, none twice.

    Args:
        result: What was measured.
        count: How many of each kind at most.

    Returns:
        The kind ("best", "median", "worst") and the object; fewer where the set is small.
    """
    key = main_column(result.plan).key
    ranked = sorted(result.objects, key=lambda entry: (-entry.values[key], entry.picture, entry.region))
    count = min(count, len(ranked) // 3) or min(1, len(ranked))
    middle = (len(ranked) - count) // 2
    starts = {"best": 0, "median": middle, "worst": len(ranked) - count}
    chosen: list[tuple[str, ObjectResult]] = []
    for kind, start in starts.items():
        fresh = [entry for entry in ranked[start : start + count] if entry not in [old for _, old in chosen]]
        chosen += [(kind, entry) for entry in fresh]
    return chosen


def main_column(plan: Plan) -> Column:
    """Give the column by which cases are ranked: box, else click, else IoU after the last click."""
    columns = [column for column in plan.columns if column.unit == "iou" and not column.baseline]
    return columns[0] if columns[0].protocol != "clicks" else columns[-1]


def draw(model: Segmenter, result: SetResult, *, stem: str) -> list[CaseFile]:
    """Ask the model again about the chosen objects and draw truth and answer side by side.

    Asking again costs a dozen encodings; keeping every answer would cost memory for the whole set.

    Args:
        model: The model that was measured.
        result: What was measured.
        stem: How the files' names begin.

    Returns:
        The contact sheet and one picture for each case; nothing if there are no objects.
    """
    chosen = choose(result)
    if not chosen:
        return []
    column = main_column(result.plan)
    panels, files, numbers = [], [], dict.fromkeys(("best", "median", "worst"), 0)
    for kind, entry in chosen:
        numbers[kind] += 1
        panel = _panel(model, result, entry)
        figure = f"{column.title} IoU {entry.values[column.key]:.3f}"
        caption = f"{kind}: {entry.picture}, region {entry.region}, {figure}"
        panels.append((panel, caption))
        name = f"{stem}_{kind}_{numbers[kind]}.png"
        files.append(CaseFile(name, _png(panel), f"{caption} (truth left, answer right)"))
    sheet = drawing.contact_sheet(
        [panel for panel, _ in panels],
        max(numbers.values()),
        [caption for _, caption in panels],
        cell=_CELL,
    )
    words = f"{result.dataset.name}: best, median and worst by {column.title}; truth left, answer right"
    return [CaseFile(f"{stem}_contact.png", _png(sheet), words), *files]


def _panel(model: Segmenter, result: SetResult, entry: ObjectResult) -> PillowImage.Image:
    """Draw one object: truth, gap, answer with its prompt."""
    item = next(item for item in result.dataset.items if item.name == entry.picture)
    sample = result.dataset.read(item)
    image = sample.load_image()
    region = next(region for region in sample.regions if region.id == entry.region)
    truth = region.mask & ~sample.ignore
    scene = Scene(image=image, view=model.embed(image), truths=truth[None], ignore=sample.ignore)
    answer, prompt = _ask_again(model, scene, result.plan)
    left = drawing.overlay(image, [truth])
    right = drawing.overlay(image, [answer], prompt=prompt)
    gap = max(4, image.width // 60)
    panel = PillowImage.new("RGB", (2 * image.width + gap, image.height), (250, 250, 250))
    panel.paste(left, (0, 0))
    panel.paste(right, (image.width + gap, 0))
    return panel


def _ask_again(model: Segmenter, scene: Scene, plan: Plan) -> tuple[NDArray[np.bool_], Prompt]:
    """Repeat the main column's protocol for one object."""
    protocol, hw = main_column(plan).protocol, scene.image.hw
    if protocol == "box":
        boxes = np.asarray([tight_box(scene.truths[0])], np.float64)
        answer = model.segment(scene.view, boxes=boxes, zoom=plan.zoom)
        return answer[0].masks[0], Prompt.make(image_hw=hw, boxes=boxes)
    clicks: tuple[Click, ...] = (first_click(scene.truths[0]),)
    if protocol == "click":
        points, labels = clicks_prompt([clicks])
        mask = model.segment(scene.view, points=points, labels=labels)[0].masks[0]
    else:
        for round_ in correct(model, scene, clicks=plan.clicks, zoom=plan.zoom):
            clicks, mask = round_.clicks[0], round_.masks[0]
        points, labels = clicks_prompt([clicks])
    return mask, Prompt.make(image_hw=hw, points=points, labels=labels)


def _png(picture: PillowImage.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
