"""``samlet evaluate``: measures a model on folders of pictures with masks."""

import argparse
import functools
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samlet.cli import evaluation
from samlet.cli.evaluation import datasets_of, names_of, progress, show
from samlet.cli.measures import OPTIONS, RUNNERS
from samlet.cli.run import add_runtime, whole
from samlet.errors import InputError, PartialFailureError

if TYPE_CHECKING:
    from samlet.evaluate.datasets import Dataset
    from samlet.evaluate.protocols import Plan, SetResult
    from samlet.evaluate.report import Run
    from samlet.model import Model

_PROTOCOLS = "box,click,clicks"
_NOC, _CAP = "noc", 20
_ALONE = """
protocols that go alone:
  noc        number of clicks to 0.80, 0.85 and 0.90 IoU, at most 20 (the same as clicks with --clicks 20)
  lvis-ar    average recall of everything in a picture, masks and boxes, at 10, 100 and 1000 (also: proposals)
  coco-ap    average precision of the masks that a detector's boxes prompt; --on PICTURES --boxes FILE
             --annotations FILE
  bsds       edges against people's boundaries: ODS, OIS, AP, R50
  davis      objects followed through videos, J and F; --on DAVIS
  saliency   the object that a picture is of: MAE, max F, S-measure, IoU
  anomalies  odd regions of a surface: pixel F1 of the best region and of rules that see no truth
  buildings  buildings: IoU of the best union and of rules that see no truth
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser; ``run`` is its default ``run``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on pictures with masks",
        description="Measure a model on pictures with masks: folders SET with SET/images/NAME.jpg and\n"
        "SET/masks/NAME.png (region ids; 255 or 65535 is ignored), or data sets by kind, such as\n"
        "coco:FILE@PICTURES or voc:FOLDER@val (docs/how-to/data-sets.md). Needs pip install 'samlet[eval]'.",
        epilog=_ALONE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="name of a model, or path of a model trained with samlet")
    parser.add_argument(
        "--on",
        "--data",
        required=True,
        metavar="[KIND:]PATH[,...]",
        help="folders of sets, or data sets by kind",
    )
    parser.add_argument(
        "--protocol",
        default=_PROTOCOLS,
        metavar="NAME[,NAME...]",
        help="some of %(default)s (default: all), or one of those below",
    )
    parser.add_argument(
        "--everything",
        metavar="NAME[,NAME...]",
        help="ways to find everything: grid32, grid16-nms70, grid32-card, hierarchical32, objects, objects320-box, "
        f"objects@nano, instances; with {', '.join(OPTIONS['everything'])} (default: what suits the model)",
    )
    parser.add_argument(
        "--edges",
        metavar="NAME[,NAME...]",
        help="ways to find edges, with bsds: votes, objects, grid16, instances, canny, sobel (default: what suits "
        "the model)",
    )
    parser.add_argument("--boxes", type=Path, metavar="FILE", help="coco-ap: a detector's results, JSON")
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="coco-ap: instances of COCO, JSON")
    parser.add_argument("--split", metavar="YEAR/NAME", help="davis: a list of ImageSets, such as 2017/val")
    parser.add_argument(
        "--clicks",
        type=int,
        default=20,
        metavar="N",
        help="corrective clicks and cap of NoC, 1 to 20 (default: 20)",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--limit", type=int, metavar="N", help="only the first N pictures of each set")
    part.add_argument(
        "--every", type=int, default=1, metavar="K", help="only each K-th picture, from the first"
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="longest side of the picture in the network"
    )
    parser.add_argument(
        "--threads",
        type=functools.partial(whole, option="--threads", most=4096, advice="leave it out for all"),
        metavar="N",
        help="threads to compute with (default: all cores); with 1, processor time is what the work itself costs",
    )
    add_runtime(parser)
    parser.add_argument(
        "--zoom", choices=("off", "auto"), default="off", help="look again at small boxes and objects"
    )
    parser.add_argument(
        "--no-grabcut", action="store_true", help="leave out the one baseline that takes long"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write report.html, .md, .json and pictures here"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write.

    Returns:
        0, or the code of a partial failure if a set had no object that could be measured.

    Raises:
        SamletError: The arguments, the model or the output folder cannot be used.
    """
    from samlet import __version__
    from samlet.evaluate import report
    from samlet.evaluate.clicks import opencv
    from samlet.evaluate.protocols import Plan

    protocols = names_of(args.protocol, "--protocol")
    if _goes_alone(protocols, args):
        return _run_alone(args)
    plan = Plan(
        protocols=tuple("clicks" if name == _NOC else name for name in protocols),
        clicks=args.clicks,
        grabcut=not args.no_grabcut,
        zoom=args.zoom,
    )
    datasets = datasets_of(args)
    opencv()  # missing: say so before the model is loaded
    if args.output is not None:
        report.make_folder(args.output)
    model = evaluation.load(args, args.model, args.size)
    results = _measure(model, datasets, plan, quiet=args.json)
    head = report.Run(
        model=model.card.name, digest=model.card.digest, command=command_line(args), version=__version__
    )
    try:
        if args.output is not None:
            _write(args.output, model, head, results)
    finally:  # a full disk must not cost the figures, nor a closed pipe the files
        if args.json:
            print(json.dumps(report.to_dict(head, results, objects=False), indent=1, ensure_ascii=False))
        else:
            show(head, report.to_tables(results), report.to_words(results))
    return 0 if all(result.objects for result in results) else PartialFailureError.exit_code


def command_line(args: argparse.Namespace) -> str:
    """Give the command that measures the same again, without where its report goes."""
    words = ["samlet", "evaluate", args.model, "--on", args.on, "--protocol", args.protocol]
    alone = args.protocol in RUNNERS
    words += [] if alone or args.protocol == _NOC else ["--clicks", str(args.clicks)]
    for option in OPTIONS:
        if (given := getattr(args, option)) is not None:
            words += [f"--{option}", str(given)]
    defaults = {"limit": None, "every": 1, "size": None, "threads": None, "backend": "onnx", "shape": "auto"}
    for option, default in defaults.items():
        if (chosen := getattr(args, option)) != default:
            words += [f"--{option}", str(chosen)]
    if args.zoom != "off" and not alone:
        words += ["--zoom", args.zoom]
    if args.no_grabcut and not alone:
        words.append("--no-grabcut")
    return shlex.join(words)


def _goes_alone(protocols: Sequence[str], args: argparse.Namespace) -> bool:
    """Tell whether the protocol is one that goes alone, and refuse it in company or with another's options."""
    alone = [name for name in protocols if name in RUNNERS or name == _NOC]
    if alone and len(protocols) > 1:
        raise InputError(
            f"expected the protocol {alone[0]} alone, got {', '.join(protocols)}; run the others in another command"
        )
    for option, having in OPTIONS.items():
        if getattr(args, option) is not None and protocols[0] not in having:
            raise InputError(
                f"expected --{option} with --protocol {' or '.join(having)}, got {', '.join(protocols)}; add it, or "
                f"leave --{option} out"
            )
    if alone == [_NOC] and args.clicks != _CAP:
        raise InputError(
            f"expected the protocol noc with {_CAP} clicks, got {args.clicks}; use --protocol clicks for another cap"
        )
    return bool(alone) and alone != [_NOC]


def _run_alone(args: argparse.Namespace) -> int:
    """Measure by a protocol that goes alone; prints, writes and returns as `run` does."""
    from samlet import __version__
    from samlet.evaluate.report import Run, make_folder

    args.protocol = args.protocol.strip(" ,")
    if args.output is not None:
        make_folder(args.output)

    def start() -> "tuple[Model, Callable[[], Run]]":
        model = evaluation.load(args, args.model, args.size)
        return model, lambda: Run(model.card.name, model.card.digest, command_line(args), __version__)

    report, whole_ = RUNNERS[args.protocol](args, start)
    try:
        if args.output is not None:
            print(f"report: {report.write(args.output)[0]}", file=sys.stderr)
    finally:
        if args.json:
            print(json.dumps(report.to_dict(results=False), indent=1, ensure_ascii=False))
        else:
            show(report.run, report.to_tables(), report.to_words())
    return 0 if whole_ else PartialFailureError.exit_code


def _measure(
    model: "Model", datasets: "Sequence[Dataset]", plan: "Plan", *, quiet: bool
) -> "list[SetResult]":
    from samlet.evaluate.protocols import evaluate_set

    column = plan.columns[0]

    def note(result: "SetResult") -> str:
        values = result.values(column.key)
        return f"{column.title} {sum(values) / len(values):.3f}" if values else ""

    results = []
    for dataset in datasets:
        with progress(dataset.name, len(dataset), note, quiet=quiet) as on_picture:
            results.append(evaluate_set(model, dataset, plan=plan, on_picture=on_picture))
    return results


def _write(folder: Path, model: "Model", head: "Run", results: "Sequence[SetResult]") -> None:
    from samlet.evaluate import cases, report

    # Numbered, because two sets in different places may share a name.
    pictures = [
        cases.draw(model, result, stem=f"{index}_{result.dataset.name}")
        for index, result in enumerate(results, 1)
    ]
    written = report.write(folder, head, results, cases=pictures)
    print(f"report: {written[0]}", file=sys.stderr)
