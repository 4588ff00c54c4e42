"""The report of the boundary benchmark: a table, people among themselves, and the curves of precision over recall."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from samlet.drawing import color
from samlet.evaluate.boundaries import TOLERANCE
from samlet.evaluate.bsds import (
    THRESHOLDS,
    BoundaryResult,
    EdgeResult,
    average_precision,
    best,
    recall_at,
)
from samlet.evaluate.report import Run
from samlet.evaluate.sheets import Figure, Report, Section, Sheet

BSDS_WORDS = (
    f"The boundary benchmark of BSDS500: each map is cut at {THRESHOLDS} thresholds, thinned, and its pixels are "
    f"matched one to one with those of every person's boundary, as many as possible, at most {TOLERANCE} of the "
    "diagonal apart. "
    "Recall is the part of all people's pixels that is matched, precision the part of the map's pixels that match "
    "anybody's. ODS is the best F of all pictures at one threshold, OIS that at each picture's own best threshold, AP "
    "the area under the curve, R50 the recall at a precision of one half."
)
HUMAN_WORDS = (
    "People are measured as one map each against all others of the same picture; the counts of all add up."
)
_SIDE, _MARGIN = 640, 56
_ISO = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_INK, _FAINT, _HUMAN = (40, 40, 44), (214, 226, 214), (30, 140, 60)


def report(run: Run, results: Sequence[BoundaryResult]) -> Report:
    """Make the report.

    Args:
        run: What was run.
        results: One result for each set.
    """
    sections = []
    for number, result in enumerate(results, 1):
        figures = [_figure(result, number)] if result.pictures else []
        sections.append(
            Section(result.dataset.name, _sheets(result), _remarks(result), _fields(result), figures)
        )
    names = {one.finder.name: one.finder.words for result in results for one in result.finders}
    return Report(run, "edges", sections, (BSDS_WORDS, HUMAN_WORDS), names)


def _sheets(result: BoundaryResult) -> list[Sheet]:
    rows = []
    for one in result.finders:
        if one.pictures:
            found, tally = one.ods, one.tally
            rows.append(
                (
                    one.finder.name,
                    *(f"{value:.3f}" for value in (found.f, one.ois, average_precision(tally))),
                    f"{recall_at(tally, 0.5):.3f}",
                    *(f"{value:.3f}" for value in (found.precision, found.recall)),
                    f"{found.threshold:.2f}",
                    f"{one.seconds / len(one.pictures):.2f}",
                )
            )
    headers = ("edges", "ODS", "OIS", "AP", "R50", "precision", "recall", "threshold", "seconds a picture")
    sheets = [Sheet("boundary benchmark; precision, recall and threshold at ODS", headers, tuple(rows))]
    if result.human_f is not None:
        found = best(result.humans)
        row = ("people", f"{found.f:.3f}", f"{found.precision:.3f}", f"{found.recall:.3f}")
        sheets.append(Sheet("each person against the others", ("edges", "F", "precision", "recall"), (row,)))
    return sheets if rows else sheets[1:]


def _remarks(result: BoundaryResult) -> list[str]:
    lines = [f"{result.pictures} pictures, {result.segmentations} people's segmentations."]
    if result.broken:
        lines.append(f"{len(result.broken)} pictures or masks could not be used:")
        lines += [f"{entry.name}: {entry.reason}" for entry in result.broken]
    return lines


def _fields(result: BoundaryResult) -> dict[str, Any]:
    return {
        "name": result.dataset.name,
        "path": str(result.dataset.root),
        "pictures": result.pictures,
        "segmentations": result.segmentations,
        "human_f": result.human_f,
        "broken": [{"name": entry.name, "reason": entry.reason} for entry in result.broken],
        "edges": [_edge_fields(one) for one in result.finders if one.pictures],
    }


def _edge_fields(one: EdgeResult) -> dict[str, Any]:
    found, tally = one.ods, one.tally
    return {
        "name": one.finder.name,
        "ods": found.f,
        "ods_threshold": found.threshold,
        "ois": one.ois,
        "ap": average_precision(tally),
        "r50": recall_at(tally, 0.5),
        "seconds": round(one.seconds, 1),
        "precision": tally.precision.round(5).tolist(),
        "recall": tally.recall.round(5).tolist(),
        "results": [
            {"picture": name, "f": round(best(each).f, 4), "threshold": round(best(each).threshold, 4)}
            for name, each in one.pictures.items()
        ],
    }


def _figure(result: BoundaryResult, number: int) -> Figure:
    file = io.BytesIO()
    curves(result).save(file, "PNG", optimize=True)
    caption = f"{result.dataset.name}: precision over recall; lines of equal F in green"
    return Figure(f"{number}_precision_recall.png", caption, file.getvalue())


def curves(result: BoundaryResult) -> PillowImage.Image:
    """Draw precision over recall, with lines of equal F, the best point of each curve, and people."""
    size = _SIDE + 2 * _MARGIN
    sheet = PillowImage.new("RGB", (size, size), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)

    def place(recall: float, precision: float) -> tuple[float, float]:
        return _MARGIN + recall * _SIDE, _MARGIN + (1 - precision) * _SIDE

    across = np.linspace(0.01, 1, 200)
    for f in _ISO:
        up = f * across / np.where(2 * across > f, 2 * across - f, np.inf)
        points = [place(x, y) for x, y in zip(across.tolist(), up.tolist(), strict=True) if 0 < y <= 1]
        draw.line(points, fill=_FAINT, width=1)
        draw.text(place(1.005, f / (2 - f) + 0.012), f"{f:.1f}", fill=_HUMAN, font=font)
    draw.rectangle((*place(0, 1), *place(1, 0)), outline=_INK)
    for tick in range(0, 11, 2):
        x, _ = place(tick / 10, 0)
        _, y = place(0, tick / 10)
        draw.text((x - 10, size - _MARGIN + 6), f"{tick / 10:.1f}", fill=_INK, font=font)
        draw.text((_MARGIN - 32, y - 9), f"{tick / 10:.1f}", fill=_INK, font=font)
    draw.text((size / 2 - 24, size - 26), "recall", fill=_INK, font=font)
    draw.text((10, 20), "precision", fill=_INK, font=font)
    lines = []
    for number, one in enumerate(result.finders):
        tally, shade = one.tally, color(number)
        known = tally.claimed > 0
        points = [
            place(x, y)
            for x, y in zip(tally.recall[known].tolist(), tally.precision[known].tolist(), strict=True)
        ]
        if len(points) > 1:
            draw.line(points, fill=shade, width=3, joint="curve")
        x, y = place(one.ods.recall, one.ods.precision)
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=shade, outline=_INK)
        lines.append((shade, f"[F = {one.ods.f:.3f}] {one.finder.name}"))
    if result.human_f is not None:
        found = best(result.humans)
        x, y = place(found.recall, found.precision)
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=_HUMAN)
        lines.insert(0, (_HUMAN, f"[F = {found.f:.3f}] people"))
    # Small recall with small precision: where no curve runs.
    for row, (shade, text) in enumerate(lines):
        y = size - _MARGIN - 22 * (len(lines) - row) - 8
        draw.line((_MARGIN + 12, y + 9, _MARGIN + 40, y + 9), fill=shade, width=4)
        draw.text((_MARGIN + 48, y), text, fill=_INK, font=font)
    return sheet
