"""The report of `samlet.evaluate.downstream`: a table for each finder, and a sheet of outlines of hits and misses."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet import drawing
from samlet.evaluate.boundaries import outlines
from samlet.evaluate.downstream import DOWNSTREAM_WORDS, DownstreamResult, Drawn, PictureFigures
from samlet.evaluate.metrics import summarise
from samlet.evaluate.report import Run
from samlet.evaluate.saliency import summarise_saliency
from samlet.evaluate.sheets import Figure, Report, Section, Sheet

HEADERS = ("answer", "IoU", "95 % interval", "F1", "pixel F1", "MAE", "max F", "S-measure")
_SHOWN = 6  # best, and as many worst
_PAPER, _INK = (255, 255, 255), (60, 60, 60)
_RIGHT, _EXCESS, _MISSING = (120, 180, 120), (235, 150, 120), (170, 190, 235)


def report(run: Run, results: Sequence[DownstreamResult]) -> Report:
    """Make the report.

    Args:
        run: What was run.
        results: One result for each set, all of one task.
    """
    task = results[0].task
    sections = []
    for number, result in enumerate(results, 1):
        figures = [_figure(result, number)] if result.drawn else []
        sections.append(
            Section(result.dataset.name, _sheets(result), _remarks(result), _fields(result), figures)
        )
    names = {rule.name: rule.words for rule in task.rules}
    return Report(run, task.noun, sections, (f"{task.words} {DOWNSTREAM_WORDS}",), names)


def figures_of(entries: Sequence[PictureFigures], names: Sequence[str]) -> dict[str, Any]:
    """Give all figures of one row, 0..1."""
    overlap = summarise([one.iou for one in entries], names)
    saliency = summarise_saliency([one.scores for one in entries])
    right, both = (
        sum(one.right for one in entries),
        sum(one.claimed + one.there for one in entries),
    )
    return {
        "iou": overlap.mean if overlap else 0.0,
        "iou_95": [overlap.low, overlap.high] if overlap else None,
        "f1": float(np.mean([one.f1 for one in entries])),
        "pixel_f1": 2 * right / max(both, 1),
        "mae": saliency.mae,
        "max_f": saliency.max_f,
        "s_measure": saliency.s,
    }


def _sheets(result: DownstreamResult) -> list[Sheet]:
    rows: dict[str, list[tuple[str, ...]]] = {}
    for (finder, rule), entries in result.figures.items():
        found = figures_of(entries, result.names)
        low, high = found["iou_95"]
        cells = [f"{found[name]:.3f}" for name in ("iou", "f1", "pixel_f1", "mae", "max_f", "s_measure")]
        rows.setdefault(finder, []).append((rule, cells[0], f"{low:.3f} - {high:.3f}", *cells[1:]))
    return [Sheet(f"regions of {finder}", HEADERS, tuple(lines)) for finder, lines in rows.items()]


def _remarks(result: DownstreamResult) -> list[str]:
    lines = [f"{len(result.names)} pictures; {result.seconds:.1f} s for finding everything."]
    if result.empty:
        lines.append(f"{result.empty} pictures have nothing marked and were not looked at.")
    if result.broken:
        lines.append(f"{len(result.broken)} pictures could not be used:")
        lines += [f"{entry.name}: {entry.reason}" for entry in result.broken]
    return lines


def _fields(result: DownstreamResult) -> dict[str, Any]:
    return {
        "name": result.dataset.name,
        "path": str(result.dataset.root),
        "pictures": len(result.names),
        "empty": result.empty,
        "broken": [{"name": entry.name, "reason": entry.reason} for entry in result.broken],
        "seconds": round(result.seconds, 1),
        "rows": [
            {
                "finder": finder,
                "answer": rule,
                **figures_of(entries, result.names),
                "results": [
                    {"picture": name, "iou": round(one.iou, 4), "mae": round(one.scores.mae, 4)}
                    for name, one in zip(result.names, entries, strict=True)
                ],
            }
            for (finder, rule), entries in result.figures.items()
        ],
    }


def _figure(result: DownstreamResult, number: int) -> Figure:
    """Draw the best and the worst answers of the first rule, without the photographs."""
    ranked = sorted(result.drawn, key=lambda one: -one.iou)
    count = min(_SHOWN, len(ranked) // 2) or 1
    chosen = ranked[:count] + (ranked[-count:] if len(ranked) > 1 else [])
    sheet = drawing.contact_sheet(
        [painted(one) for one in chosen],
        count,
        [f"{one.name[:28]} {one.iou:.2f}" for one in chosen],
        cell=240,
    )
    file = io.BytesIO()
    sheet.convert("P", palette=PillowImage.Palette.ADAPTIVE, colors=32).save(file, "PNG", optimize=True)
    rule = result.task.rules[0].name
    caption = (
        f"{result.dataset.name}, {rule}: the {count} best pictures and the {count} worst. Green: rightly found; "
        "orange: too much; blue: missing; dark: the outline of what is marked."
    )
    return Figure(f"{number}_{result.task.noun.replace(' ', '_')}.png", caption, file.getvalue())


def painted(one: Drawn) -> PillowImage.Image:
    """Paint an answer and the outline of the truth, no photograph."""
    canvas: NDArray[np.uint8] = np.full((*one.truth.shape, 3), _PAPER, np.uint8)
    canvas[one.truth & one.answer] = _RIGHT
    canvas[one.answer & ~one.truth] = _EXCESS
    canvas[one.truth & ~one.answer] = _MISSING
    canvas[outlines(one.truth)] = _INK
    return PillowImage.fromarray(canvas)
