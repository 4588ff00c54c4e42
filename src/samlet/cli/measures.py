"""The protocols of ``samlet evaluate`` that go alone: each measures a set in its own way and makes its own report."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from samlet.cli import evaluation
from samlet.cli.evaluation import datasets_of, names_of, progress
from samlet.errors import InputError

if TYPE_CHECKING:
    from samlet.evaluate.bsds import BoundaryResult
    from samlet.evaluate.davis import DavisResult
    from samlet.evaluate.detections import DetectionResult
    from samlet.evaluate.downstream import DownstreamResult
    from samlet.evaluate.finders import Finder
    from samlet.evaluate.proposals import ProposalResult
    from samlet.evaluate.report import Run
    from samlet.evaluate.sheets import Report
    from samlet.model import Model


class Measured(NamedTuple):
    """What a protocol gives: a report of what was run, and whether every set had something to measure."""

    report: "Report"
    whole: bool


Start = Callable[[], "tuple[Model, Callable[[], Run]]"]
"""Loads the model; the second function names what was run, once the arguments are filled in."""


def proposals(args: argparse.Namespace, start: Start) -> Measured:
    """Measure ways to find everything; the official name of the protocol is LVIS's average recall."""
    from samlet.evaluate import proposals as protocol
    from samlet.evaluate import proposals_report

    datasets = datasets_of(args)
    protocol.coco()  # missing: say so before the model is loaded
    model, run = start()
    chosen = _finders(args, model)
    results = []
    for dataset in datasets:
        with progress(dataset.name, len(dataset), _proposal_note, quiet=args.json) as on_picture:
            results.append(protocol.evaluate_proposals(chosen, dataset, on_picture=on_picture))
    report = proposals_report.report(run(), results)
    return Measured(report, all(result.truths for result in results))


def boundaries(args: argparse.Namespace, start: Start) -> Measured:
    """Measure edges as BSDS500 does."""
    from samlet.evaluate import bsds, bsds_report, edge_finders

    datasets = datasets_of(args)
    model, run = start()
    args.edges = edge_finders.usual(model.session) if args.edges is None else args.edges
    chosen = [edge_finders.edge_finder(name, model) for name in names_of(args.edges, "--edges")]
    results = []
    for dataset in datasets:
        with progress(dataset.name, len(dataset), _edge_note, quiet=args.json) as on_picture:
            results.append(bsds.evaluate_boundaries(chosen, dataset, on_picture=on_picture))
    return Measured(bsds_report.report(run(), results), all(result.segmentations for result in results))


def detections(args: argparse.Namespace, start: Start) -> Measured:
    """Measure masks of a detector's boxes as COCO does."""
    from samlet.evaluate import detections as protocol
    from samlet.evaluate import protocol_reports
    from samlet.evaluate.proposals import coco

    if args.boxes is None or args.annotations is None:
        raise InputError(
            "expected --boxes FILE and --annotations FILE with the protocol coco-ap, got "
            f"{'one' if args.boxes or args.annotations else 'neither'}; name the detector's JSON and COCO's instances"
        )
    coco()
    pictures, boxes = _one_folder(args.on), protocol.read_detections(args.boxes)
    known = protocol.read_annotations(args.annotations, every=args.every, limit=args.limit)
    model, run = start()
    name = args.annotations.stem
    with progress(name, len(known["images"]), _detection_note, quiet=args.json) as on_picture:
        result = protocol.evaluate_detections(model, pictures, known, boxes, name=name, on_picture=on_picture)
    return Measured(protocol_reports.of_detections(run(), result), bool(result.objects and result.pictures))


def davis(args: argparse.Namespace, start: Start) -> Measured:
    """Measure objects followed through videos as DAVIS does."""
    from samlet.evaluate import davis as protocol
    from samlet.evaluate import protocol_reports
    from samlet.evaluate.clicks import opencv

    root = _one_folder(args.on)
    videos = protocol.videos(root, split=args.split, every=args.every, limit=args.limit)
    opencv()
    model, run = start()
    with progress(root.name, len(videos), _davis_note, quiet=args.json) as on_video:
        result = protocol.evaluate_davis(model, videos, name=root.name, on_video=on_video)
    return Measured(protocol_reports.of_davis(run(), result), bool(result.tracks))


def downstream(args: argparse.Namespace, start: Start) -> Measured:
    """Measure salient objects, odd regions or buildings."""
    from samlet.evaluate import downstream as protocol
    from samlet.evaluate import downstream_report
    from samlet.evaluate.clicks import opencv

    datasets = datasets_of(args)
    opencv()
    model, run = start()
    chosen, task = _finders(args, model), protocol.TASKS[args.protocol]
    results = []
    for dataset in datasets:
        with progress(dataset.name, len(dataset), _downstream_note, quiet=args.json) as on_picture:
            results.append(protocol.evaluate_downstream(chosen, dataset, task, on_picture=on_picture))
    return Measured(downstream_report.report(run(), results), all(result.names for result in results))


RUNNERS: dict[str, Callable[[argparse.Namespace, Start], Measured]] = {
    "proposals": proposals,
    "lvis-ar": proposals,
    "coco-ap": detections,
    "bsds": boundaries,
    "davis": davis,
    "saliency": downstream,
    "anomalies": downstream,
    "buildings": downstream,
}
"""Protocols that go alone, by name."""

OPTIONS = {
    "everything": ("proposals", "lvis-ar", "saliency", "anomalies", "buildings"),
    "edges": ("bsds",),
    "boxes": ("coco-ap",),
    "annotations": ("coco-ap",),
    "split": ("davis",),
}
"""Options that only some of them have."""


def _finders(args: argparse.Namespace, model: "Model") -> "list[Finder]":
    from samlet.evaluate import finders

    # Filled in, so that the command in the report stays what it was when the default changes.
    args.everything = finders.usual(model.session) if args.everything is None else args.everything
    return [
        finders.finder(name, model.session, load=lambda name: evaluation.load(args, name, None).session)
        for name in names_of(args.everything, "--everything")
    ]


def _one_folder(text: str) -> Path:
    paths = names_of(text, "--on")
    if len(paths) > 1:
        raise InputError(
            f"expected one folder after --on with this protocol, got {len(paths)}; run one after another"
        )
    return Path(paths[0])


def _proposal_note(result: "ProposalResult") -> str:
    """Give recall so far, for the progress bar."""
    return ", ".join(
        f"{one.finder.name} AR@100 {one.tally('mask').recall[0, 1]:.3f}"
        for one in result.finders
        if one.pictures
    )


def _edge_note(result: "BoundaryResult") -> str:
    return ", ".join(f"{one.finder.name} ODS {one.ods.f:.3f}" for one in result.finders if one.pictures)


def _detection_note(result: "DetectionResult") -> str:
    return f"{result.detections} boxes"


def _davis_note(result: "DavisResult") -> str:
    return f"J&F {result.j_and_f:.3f}" if result.tracks else ""


def _downstream_note(result: "DownstreamResult") -> str:
    (finder, rule), entries = next(iter(result.figures.items()), (("", ""), []))
    return f"{finder} {rule} IoU {sum(one.iou for one in entries) / len(entries):.3f}" if entries else ""
