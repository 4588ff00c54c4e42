"""Reports of the protocols that have one table: boxes of a detector (COCO) and objects in videos (DAVIS)."""

from dataclasses import asdict
from typing import Any

from samlet.evaluate.datasets import Broken
from samlet.evaluate.davis import DAVIS_WORDS, J_WORDS, DavisResult, Statistics
from samlet.evaluate.detections import AP_WORDS, FIGURES, DetectionResult
from samlet.evaluate.report import Run
from samlet.evaluate.sheets import NONE, Report, Section, Sheet


def of_detections(run: Run, result: DetectionResult) -> Report:
    """Make the report of the protocol of `samlet.evaluate.detections`."""
    rows = tuple(
        (title, *(NONE if (value := figures[name]) is None else f"{100 * value:.1f}" for name in FIGURES))
        for title, figures in (
            ("masks", result.figures["mask"]),
            ("boxes of the detector", result.figures["box"]),
        )
    )
    remarks = [
        f"{result.detections} boxes in {result.pictures} pictures, {result.objects} objects; "
        f"{result.seconds:.1f} s for masks.",
        *_broken(result.broken, "pictures"),
    ]
    fields = {
        "name": result.name,
        "pictures": result.pictures,
        "detections": result.detections,
        "objects": result.objects,
        "seconds": round(result.seconds, 1),
        "figures": result.figures,
        "broken": [asdict(entry) for entry in result.broken],
    }
    sheet = Sheet("average precision in percent", ("", *FIGURES), rows)
    return Report(
        run, "masks of a detector's boxes", [Section(result.name, [sheet], remarks, fields)], (AP_WORDS,)
    )


def of_davis(run: Run, result: DavisResult) -> Report:
    """Make the report of the protocol of `samlet.evaluate.davis`."""
    sheets: list[Sheet] = []
    fields: dict[str, Any] = {
        "name": result.name,
        "videos": result.videos,
        "objects": len(result.tracks),
    }
    if result.tracks:
        means = {name: result.mean(name.lower()) for name in ("J", "F")}
        rows = [(name, *_cells(found)) for name, found in means.items()]
        rows.append(("J&F", f"{100 * result.j_and_f:.1f}", NONE, NONE))
        sheets.append(Sheet("all objects, in percent", ("", "mean", "recall", "decay"), tuple(rows)))
        lines = []
        for track in result.tracks:
            j, f = Statistics.of(track.j), Statistics.of(track.f)
            cells = (f"{100 * j.mean:.1f}", f"{100 * f.mean:.1f}", str(len(track.j)), str(track.lost))
            lines.append((f"{track.video} {track.object}", *cells))
        sheets.append(
            Sheet("each object", ("video and object", "J", "F", "frames", "lost in frames"), tuple(lines))
        )
        fields |= {name: asdict(found) for name, found in means.items()}
        fields |= {"J&F": result.j_and_f, "results": [asdict(track) for track in result.tracks]}
    fields["broken"] = [asdict(entry) for entry in result.broken]
    remarks = [
        f"{len(result.tracks)} objects in {result.videos} videos.",
        *_broken(result.broken, "videos"),
    ]
    section = Section(result.name, sheets, remarks, fields)
    return Report(run, "objects followed through videos", [section], (DAVIS_WORDS, J_WORDS))


def _cells(found: Statistics) -> tuple[str, ...]:
    return tuple(f"{100 * value:.1f}" for value in (found.mean, found.recall, found.decay))


def _broken(broken: list[Broken], what: str) -> list[str]:
    if not broken:
        return []
    return [
        f"{len(broken)} {what} could not be used:",
        *(f"{entry.name}: {entry.reason}" for entry in broken),
    ]
