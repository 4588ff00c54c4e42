"""`samlet sequence`: an object of the first frame, followed through the others."""

import argparse
import functools
import json
import time
from typing import TYPE_CHECKING, Any

from samlet.cli import clips, output, points
from samlet.cli import run as shared

if TYPE_CHECKING:
    from samlet.sequence import Step

_DESCRIPTION = """\
Point at an object in the first frame and follow it through the others, where its pixels are found again. Simple,
and no video model: it knows the object by its first pixels, shape and colours, and says when it has lost it.
"""
_EPILOG = """\
Frames are a folder of pictures in the order of their names, pictures in the order given, an animation (.gif, .png,
.webp) or a video (.mp4 and others, needs samlet[video]). Writes 00000.mask.png and so on (empty where the object is
lost), a clip, and summary.json.

examples:
  samlet sequence frames/ --box 120,40,300,260
  samlet sequence walk.mp4 --point 200,150 --clip mp4 --output walk
  samlet sequence walk.mp4 --point 200,150 --size 256      three times as fast, and less exact
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "sequence",
        help="follow an object through the frames of a clip",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "frames", nargs="+", metavar="FRAMES", help="a folder, pictures, an animation or a video"
    )
    points.add_prompt_arguments(parser)
    model = parser.add_argument_group("model")
    shared.add_model(model)
    shared.add_size(model)
    group = parser.add_argument_group("results")
    group.add_argument("--clip", choices=(*clips.CLIPS, "none"), default="gif", help="(default: %(default)s)")
    group.add_argument(
        "--fps",
        type=functools.partial(shared.number, option="--fps", least=0.1, most=240),
        default=10.0,
        metavar="N",
        help="frames a second of the clip (default: 10)",
    )
    group.add_argument(
        "--at-most",
        type=functools.partial(shared.whole, option="--at-most", most=100_000),
        default=1000,
        metavar="N",
        help="most frames; the clip's are held in memory (default: %(default)s)",
    )
    shared.add_output(group, json="print one JSON object a frame")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Follow an object.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: The frames, the prompt, the model or the output folder cannot be used.
    """
    asked = points.one_object(args)
    output.check_folder(args.output)
    from samlet import codecs, drawing, sequence

    model = shared.load_model(args)
    started = time.perf_counter()
    drawn, written, rows = [], [], []
    for step in sequence.follow(model, clips.frames(args.frames, at_most=args.at_most), **asked):
        name = f"{step.index:05d}.mask.png"
        written += output.write(args.output, {name: codecs.mask_to_png_bytes(step.mask)})
        if args.clip != "none":
            drawn.append(drawing.overlay(step.image, [step.mask]))
        rows.append(_record(step))
        if args.json:
            print(json.dumps(rows[-1]), flush=True)
    files: dict[str, bytes | None] = {
        "summary.json": (json.dumps({"frames": rows}, indent=1) + "\n").encode()
    }
    if args.clip != "none":
        files[f"clip.{'png' if args.clip == 'apng' else args.clip}"] = clips.clip(
            drawn, args.clip, fps=args.fps
        )
    written += output.write(args.output, files)
    if not args.json and not args.quiet:
        found, rate = sum(row["found"] for row in rows), len(rows) / (time.perf_counter() - started)
        print(f"{len(rows)} frames, found in {found}, {rate:.1f} a second -> {shared.places(written)}")
    return 0


def _record(step: "Step") -> dict[str, Any]:
    return {
        "frame": step.index,
        "image": step.image.source,
        "found": step.found,
        "score": shared.rounded(step.score, 4),
        "colours": shared.rounded(step.colours, 4),
        "area": int(step.mask.sum()),
    }
