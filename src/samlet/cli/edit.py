"""`samlet edit`: cut out, replace or blur the background, recolour, erase; by prompts or by masks that are files."""

import argparse
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import output, points
from samlet.cli import run as shared
from samlet.errors import InputError, LimitError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samlet.image import Image
    from samlet.model import Model

ACTIONS = ("cutout", "background", "blur", "recolour", "erase")
WAYS = ("union", "minus", "and")
_MAX_MASK_BYTES = 64 * 2**20

_DESCRIPTION = """\
Edit pictures with the mask of an object: found by a prompt, or read from PNG files.

 cutout      the object alone, on transparent ground
 background  the object before --with COLOUR or PICTURE
 blur        the object before its own background, out of focus
 recolour    the object in the colour --with, with its light and shade
 erase       the picture without the object (needs pip install 'samlet[cv]')
"""
_EPILOG = """\
Each --mask and each object of the prompt is a mask; --combine makes one of them: union, minus (the first without the
others) or and. Files of masks come first, in the order they are given. cat.jpg becomes cat.cutout.png,
cat.background.png and so on; files of an earlier run are replaced.

  samlet edit cutout cat.jpg --point 280,200
  samlet edit background cat.jpg --point 280,200 --with seagreen
  samlet edit erase cat.jpg --mask cat.mask.png --grow 6
  samlet edit recolour cat.jpg --box 75,15,480,390 --mask eyes.png --combine minus --with '#3060c0'
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "edit",
        help="cut out, change the background, recolour or erase with a mask",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    shared.add_pictures(parser)
    points.add_prompt_arguments(parser)
    group = parser.add_argument_group("masks")
    group.add_argument(
        "--mask",
        dest="masks",
        action="append",
        default=[],
        metavar="FILE",
        help="a PNG of the picture's size, white inside; instead of a prompt or beside it",
    )
    group.add_argument(
        "--combine", choices=WAYS, default="union", help="what to do with several (default: %(default)s)"
    )
    group.add_argument("--invert", action="store_true", help="take everything but the object for the object")
    _add_look(parser)
    group = parser.add_argument_group("model")
    shared.add_model(group)
    group.add_argument("--zoom", choices=("off", "auto"), default="auto", help="look twice at small boxes")
    group = parser.add_argument_group("results")
    shared.add_output(group, json="print one JSON object a picture, for machines")
    parser.set_defaults(run=run)


def _add_look(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("look")
    group.add_argument(
        "--with",
        dest="other",
        metavar="COLOUR|FILE",
        help="for background and recolour: a colour (red, '#3060c0'), or for background also a picture",
    )
    group.add_argument(
        "--hard", action="store_true", help="keep the mask's own edge, without half transparent pixels"
    )
    group.add_argument(
        "--edge",
        type=functools.partial(shared.whole, option="--edge", most=500),
        metavar="N",
        help="how far from the mask's edge it may be softened, in pixels (default: 0.6 %% of the diagonal)",
    )
    group.add_argument(
        "--blur",
        type=functools.partial(shared.number, option="--blur", least=0.1, most=1000),
        metavar="PIXELS",
        help="for blur: its width (default: 1.5 %% of the diagonal)",
    )
    group.add_argument(
        "--strength",
        type=functools.partial(shared.number, option="--strength", least=0, most=1),
        default=1.0,
        metavar="SHARE",
        help="for recolour: 0 to 1 (default: %(default)g)",
    )
    group.add_argument(
        "--grow",
        type=functools.partial(shared.whole, option="--grow", least=0, most=500),
        default=3,
        metavar="N",
        help="for erase: pixels beyond the mask that are filled too (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Edit the pictures.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: The only picture failed, or what was asked for makes no sense.
        PartialFailureError: Some of several pictures failed.
    """
    job = _Job(args, _apply(args))
    found, job.names = shared.find(args)
    return shared.each(found, lambda path, _: _report(job.work(path), args), quiet=args.quiet)


@dataclass(frozen=True)
class _Done:
    """What came out for one picture."""

    path: str
    share: float
    file: Path
    mask_ms: float
    edit_ms: float


class _Job:
    """The steps for one picture, and what all of them share."""

    names: output.Names

    def __init__(
        self,
        args: argparse.Namespace,
        apply: "Callable[[Image, NDArray[np.bool_]], NDArray[np.uint8]]",
    ) -> None:
        prompted = bool(args.clicks or args.boxes)
        if not prompted and not args.masks:
            raise InputError(
                "expected a prompt or a mask, got neither; point at the object with --point x,y, frame it with "
                "--box x0,y0,x1,y1, or give --mask FILE"
            )
        self._args, self._apply = args, apply
        self._asked = points.prompt_arguments(args) if prompted else {}
        self._files = [(path, _read(path)) for path in args.masks]
        self._model: Model | None = None

    def work(self, path: str) -> _Done:
        import numpy as np
        from PIL import Image as PillowImage

        from samlet import drawing, edit
        from samlet.image import Image

        args = self._args
        image = Image.load(path)
        start = time.perf_counter()
        mask = edit.combine([*self._from_files(image), *self._prompted(image)], args.combine)
        mask = ~mask if args.invert else mask
        middle = time.perf_counter()
        if not mask.any():
            raise InputError("expected an object to edit, got an empty mask; try another prompt")
        edited = self._apply(image, mask)
        end = time.perf_counter()
        stem = Path(path).stem
        named = self.names.claim(stem, lambda stem: {args.action: [[f"{stem}.{args.action}.png"]]})
        drawn = PillowImage.fromarray(edited, "RGBA" if edited.shape[2] == 4 else "RGB")
        content: dict[str, bytes | None] = {named[args.action][0][0]: drawing.picture_encoder("a.png")(drawn)}
        (file,) = output.write(args.output, content)
        return _Done(path, float(np.mean(mask)), file, 1000 * (middle - start), 1000 * (end - middle))

    def _from_files(self, image: "Image") -> "list[NDArray[np.bool_]]":
        for path, mask in self._files:
            if mask.shape != image.hw:
                raise InputError(
                    f"expected a mask of the picture's size {image.width} x {image.height}, but {path} is "
                    f"{mask.shape[1]} x {mask.shape[0]}; give the mask of this picture"
                )
        return [mask for _, mask in self._files]

    def _prompted(self, image: "Image") -> "list[NDArray[np.bool_]]":
        from samlet.prompt import Prompt

        if not self._asked:
            return []
        Prompt.make(image_hw=image.hw, **self._asked)  # a wrong one should not cost an encoding
        if self._model is None:
            self._model = shared.load_model(self._args)
        return list(self._model.segment(image, **self._asked, zoom=self._args.zoom).iter_masks())


def _apply(args: argparse.Namespace) -> "Callable[[Image, NDArray[np.bool_]], NDArray[np.uint8]]":
    """Choose what to do with a picture and a mask."""
    from samlet import edit

    soft, radius = not args.hard, args.edge
    if args.other is not None and args.action not in ("background", "recolour"):
        raise InputError(
            f"expected --with for background or recolour, got it for {args.action}; leave it out"
        )
    if args.action == "cutout":
        return functools.partial(edit.cut_out, soft=soft, radius=radius)
    if args.action == "blur":
        return functools.partial(edit.blur_background, sigma=args.blur, soft=soft, radius=radius)
    if args.action == "erase":
        return functools.partial(edit.erase, grow=args.grow)
    if args.other is None:
        raise InputError(
            f"expected --with for {args.action}, got none; give a colour, such as --with seagreen"
        )
    colour = _colour(args.other)
    if args.action == "recolour":
        if colour is None:
            raise InputError(
                f"expected a colour after --with, got {args.other!r:.80}; give a name or a number such as '#3060c0'"
            )
        return functools.partial(
            edit.recolour, colour=colour, strength=args.strength, soft=soft, radius=radius
        )
    behind: Image | tuple[int, int, int] = _background(args.other) if colour is None else colour
    return functools.partial(edit.replace_background, background=behind, soft=soft, radius=radius)


def _colour(text: str) -> tuple[int, int, int] | None:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        return None
    return red, green, blue


def _background(text: str) -> "Image":
    from samlet.image import Image

    if not Path(text).exists():
        raise InputError(
            f"expected a colour or a picture after --with, got {text!r:.80}; give a name, a number such as "
            "'#3060c0' or the path of a picture"
        )
    return Image.load(text)


def _read(path: str) -> "NDArray[np.bool_]":
    """Read a mask from a PNG file."""
    from samlet.codecs import png_to_mask

    try:
        size = Path(path).stat().st_size
        if size > _MAX_MASK_BYTES:
            raise LimitError(
                f"expected a mask of at most {_MAX_MASK_BYTES} bytes, but {path} has {size}; save it as an 8-bit PNG"
            )
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"expected a mask at {path}, but it cannot be read ({error.strerror or error}); correct the path"
        ) from None
    return png_to_mask(data)


def _report(done: _Done, args: argparse.Namespace) -> None:
    def record() -> dict[str, Any]:
        return {
            "image": done.path,
            "action": args.action,
            "share": shared.rounded(done.share, 4),
            "file": str(done.file),
            "times_ms": {"mask": round(done.mask_ms, 1), "edit": round(done.edit_ms, 1)},
        }

    def lines() -> list[str]:
        times = f"mask {done.mask_ms:.0f} ms, edit {done.edit_ms:.0f} ms"
        what = f"{args.action}, {100 * done.share:.1f} % of the picture"
        return [f"{output.one_line(done.path)}: {what} -> {shared.places([done.file])} ({times})"]

    shared.report(args, record, lines)
