"""`samlet export`: a model as files that other programs open."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samlet.cli.output import one_line

if TYPE_CHECKING:
    from samlet.export.formats import Exported

_DESCRIPTION = """\
Write a model as files that other programs open: ONNX in SAM's contract, bundles for AnyLabeling, X-AnyLabeling and
web pages, and more. The written files are opened again and asked the same as samlet; if they answer differently,
nothing is left behind.
"""
_EPILOG = """\
docs/how-to/export.md describes each format, what it was tried with, and what to install for it.
"""
FORMAT_NAMES = (
    "onnx",
    "anylabeling",
    "x-anylabeling",
    "web",
    "openvino",
    "torchscript",
    "coreml",
    "executorch",
    "litert",
)
_PRECISIONS = ("float32", "float16", "int8")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "export",
        help="write a model as files for other programs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="name of a model, or path of a weights file or card")
    parser.add_argument("--format", required=True, choices=FORMAT_NAMES, help="what to write")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--decoder", metavar="FILE", help="file with the mask decoder, for an encoder without one"
    )
    parser.add_argument(
        "--preprocess", action="store_true", help="let the encoder take RGB 0 to 255 as (H, W, 3) float32"
    )
    parser.add_argument(
        "--single", action="store_true", help="one mask a prompt, by SAM's rule, instead of all four"
    )
    parser.add_argument(
        "--frame",
        type=int,
        metavar="PIXELS",
        help="longest side that clients scale pictures and prompts to (default: the model's own)",
    )
    parser.add_argument("--int32-size", action="store_true", help="orig_im_size as int32, for TensorRT")
    parser.add_argument(
        "--weights", choices=_PRECISIONS, help="store weights as (default: what suits the format)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export one model and say what was written and how far it agrees.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: Anything that `samlet.export.formats.export` raises.
    """
    from samlet import registry
    from samlet.export.formats import export
    from samlet.export.job import Options

    options = Options(
        preprocess=args.preprocess,
        single=args.single,
        whole_sizes=args.int32_size,
        frame=args.frame,
        precision=args.weights,
    )
    card = registry.resolve(args.model, decoder=args.decoder)
    done = export(card, format=args.format, folder=Path(args.output), options=options)
    print(_report(done))
    if args.format == "web":
        print(_page_for(Path(args.output)))
    return 0


def _page_for(folder: Path) -> str:
    """Put the web page beside the model, if this computer has what the page runs on."""
    from samlet.server import static_page, web_runtime

    if web_runtime.installed() is None:
        return (
            f"no page beside it: {web_runtime.PACKAGE} is not in samlet's cache; run python -m "
            "samlet.server.web_runtime and export again"
        )
    count = len(static_page.write_static(folder))
    return f"a page that runs it without a server, {count} files: any static host can serve {one_line(str(folder))}"


def _report(done: "Exported") -> str:
    lines = [f"{one_line(str(path))}  {_size(path)}" for path in done.files]
    if done.agreement is None:
        lines.append("not checked: nothing on this computer opens these files")
    else:
        found = done.agreement
        words = [f"mean mask IoU {found.iou:.4f}"] if found.iou is not None else []
        if found.difference is not None:
            words.append(f"outputs within {found.difference:.1e} of their spread")
        lines.append(f"checked on a drawn picture, {found.cases} questions: {', '.join(words)}")
    return "\n".join([*lines, *done.notes])


def _size(path: Path) -> str:
    parts = [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]
    count = sum(part.stat().st_size for part in parts)
    return f"{count / 1e6:,.1f} MB" if count >= 50_000 else f"{count:,} bytes"
