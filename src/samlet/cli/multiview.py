"""`samlet multiview`: a prompt on one picture of a posed set becomes masks on all of them and a cloud of points."""

import argparse
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import output, points
from samlet.cli import run as shared

if TYPE_CHECKING:
    from samlet.image import Image
    from samlet.multiview import Camera, Lift

_DESCRIPTION = """\
Point at an object in one picture of a set whose cameras are known, and get its masks in all pictures, and in space. The
cameras have to stand around the object. Needs nothing but the pictures and their cameras: no depth, no radiance field.
"""
_EPILOG = """\
Writes NAME.mask.png for each picture, masks.ply (points on the surface of the mask in space, with colours), views.png
(all masks drawn) and summary.json. A view that is not trusted has an answer that contradicts the others; it has no say
in space.

examples:
  samlet multiview scene/transforms.json --view 0 --box 60,70,340,330
  samlet multiview scene/transforms.json --view 4 --point 200,180 --voxels 96
"""
_SHOWN = 100


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "multiview",
        help="from one view of a posed set to masks on all views and in space",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("transforms", metavar="TRANSFORMS.JSON", help="cameras and pictures, in NeRF's form")
    points.add_prompt_arguments(parser)
    group = parser.add_argument_group("scene")
    whole = functools.partial(functools.partial, shared.whole)
    group.add_argument(
        "--view",
        type=whole(option="--view", least=0, most=9999),
        default=0,
        metavar="N",
        help="the picture that the prompt is for, from 0 (default: 0)",
    )
    group.add_argument(
        "--voxels",
        type=whole(option="--voxels", least=2, most=512),
        default=64,
        metavar="N",
        help="voxels along a side of the scene; time and memory grow with the cube of it (default: %(default)s)",
    )
    group.add_argument(
        "--passes",
        type=whole(option="--passes", least=0, most=100),
        default=3,
        metavar="N",
        help="how often all views are asked again with what the others found (default: %(default)s)",
    )
    shared.add_model(parser.add_argument_group("model"))
    group = parser.add_argument_group("results")
    shared.add_output(group, json="print the summary as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Lift a prompt.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: The scene, the prompt, the model or the output folder cannot be used.
    """
    asked = points.one_object(args)
    output.check_folder(args.output)
    from samlet import multiview
    from samlet.image import Image

    cameras, paths = multiview.load_cameras(args.transforms)
    images = [Image.load(path) for path in paths]
    voxels = multiview.Voxels(*multiview.scene_bounds(cameras), args.voxels)
    model = shared.load_model(args)
    with shared.progress(1, quiet=args.quiet, steps="prompts") as meter:
        lifted = multiview.lift(
            model,
            cameras,
            images,
            view=args.view,
            **asked,
            voxels=voxels,
            settings=multiview.Settings(passes=args.passes),
            progress=meter.steps,
        )
    summary = _summary(lifted, cameras, args.view)
    written = output.write(args.output, _files(lifted, cameras, images, summary))
    if args.json:
        print(json.dumps(summary), flush=True)
    elif not args.quiet:
        print(
            f"{len(cameras)} views, {int(lifted.trusted.sum())} of them trusted, {int(lifted.solid.sum()):,} voxels -> "
            f"{shared.places(written)}"
        )
    return 0


def _summary(lifted: "Lift", cameras: "list[Camera]", view: int) -> dict[str, Any]:
    views = [
        {
            "image": camera.name,
            "score": shared.rounded(float(score), 4),
            "area": int(mask.sum()),
            "trusted": bool(trusted),
        }
        for camera, mask, score, trusted in zip(
            cameras, lifted.masks, lifted.scores, lifted.trusted, strict=True
        )
    ]
    return {
        "prompted_view": view,
        "voxels": int(lifted.solid.sum()),
        "voxel_side": lifted.voxels.side,
        "centre": lifted.voxels.centre.tolist(),
        "views": views,
    }


def _files(
    lifted: "Lift", cameras: "list[Camera]", images: "list[Image]", summary: dict[str, Any]
) -> dict[str, bytes | None]:
    from samlet import codecs, drawing, multiview

    stems = [Path(camera.name).stem for camera in cameras]
    if len({stem.casefold() for stem in stems}) < len(stems):  # same names in several folders
        stems = [f"{index:04d}-{stem}" for index, stem in enumerate(stems)]
    files: dict[str, bytes | None] = {
        f"{stem}.mask.png": codecs.mask_to_png_bytes(mask)
        for stem, mask in zip(stems, lifted.masks, strict=True)
    }
    shown = list(zip(stems, images, lifted.masks, lifted.trusted, strict=True))[:_SHOWN]
    drawn = [drawing.overlay(image, [mask]) for _, image, mask, _ in shown]
    captions = [stem + ("" if trusted else " (not trusted)") for stem, _, _, trusted in shown]
    sheet = drawing.contact_sheet(drawn, 5, captions, cell=240)
    files["views.png"] = drawing.picture_encoder("views.png")(sheet)
    files["masks.ply"] = multiview.to_ply(lifted, cameras, images)
    files["summary.json"] = (json.dumps(summary, indent=1) + "\n").encode()
    return files
