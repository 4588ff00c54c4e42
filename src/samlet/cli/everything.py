"""`samlet everything`: all that is in pictures becomes masks in files, without a prompt."""

import argparse
import dataclasses
import functools
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import findings, output
from samlet.cli import run as shared
from samlet.errors import InputError, ModelError

if TYPE_CHECKING:
    from samlet.everything import Grid, Objects
    from samlet.image import Image
    from samlet.masks import Masks, StoredMasks
    from samlet.model import Model

_WAYS = ("auto", "objects", "grid", "hierarchical", "regions")
_GRIDS = ("grid", "hierarchical")
_DESCRIPTION = """\
Find everything in each picture, and write the masks as files. Nobody has to point at anything.
"""
_HOW = """\
--by chooses the way:
  objects       boxes of objects first, then one mask for each box
  grid          a grid of clicks, as SAM does; slow, and finds parts too
  hierarchical  a coarse grid first, finer ones where neighbours disagree;
                half of the clicks or less
  regions       what FastSAM finds in one pass, for FastSAM only
  auto          regions for FastSAM, grid if --grid is given, else objects;
                for models that cannot find boxes, nano does
"""
_WHICH = "Scores are the model's own and differ between models. Masks come best score first, numbered from 1."
_RESULTS = """\
mask and cutout are one file a mask, the others one a picture:
  overlay  the masks drawn on the picture, small ones on top
  coco     run lengths, exact; polygons, labelme and yolo are outlines
  labels   PNG, each pixel the number of its mask, small ones on top
  geojson  polygons in pixels, y down
  csv      area, box, centre, mean colour and more, one line a mask
  sheet    the 48 best masks side by side

--use makes more of the masks; the last three are rules of thumb:
  edges       PNG, thin outlines
  labels      as the format
  proposals   JSON, ranked boxes without doubles
  salient     PNG, the one thing that the picture is of, cut out
  anomalies   PNG and JSON, regions unlike the others
  footprints  PNG and GeoJSON, squared outlines that may be buildings
"""
_EXAMPLES = """\
examples:
  samlet everything photo.jpg
  samlet everything holiday/ --format coco,labels --min-area 0.1%
  samlet everything photo.jpg --grid 16x16 --model mobile_sam
  samlet everything aerial.tif --tile 1024 --use footprints
  samlet everything cells.png --max-area 5% --use anomalies --json

"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "everything",
        help="find all there is in pictures, without a prompt",
        description=_DESCRIPTION,
        epilog=_EXAMPLES + shared.AFTERWARDS,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    shared.add_pictures(parser)
    group = parser.add_argument_group("how to look", _HOW)
    group.add_argument("--by", choices=_WAYS, default="auto", help="(default: %(default)s)")
    group.add_argument(
        "--grid",
        type=_grid,
        metavar="32x32",
        help="clicks along the sides of the picture, by grid and hierarchical (default: 32x32)",
    )
    group.add_argument(
        "--detector",
        metavar="MODEL",
        help="the model that finds the boxes of objects: object_aware, or one with an object head, such as nano",
    )
    group.add_argument(
        "--tile",
        type=functools.partial(shared.whole, option="--tile", least=64, most=16384),
        metavar="SIDE",
        help="look at a large picture in tiles of so many pixels, and once at the whole, and join what seams cut",
    )
    shared.add_model(parser.add_argument_group("model"))
    _add_filters(parser.add_argument_group("which masks", _WHICH))
    group = shared.add_results(parser, findings.FORMATS, notes=_RESULTS)
    group.add_argument(
        "--use",
        dest="uses",
        type=functools.partial(
            output.formats, known=tuple(findings.USES), option="--use", what="uses of the masks"
        ),
        default=(),
        metavar="NAME[,NAME...]",
        help=f"what else to make of the masks: {', '.join(findings.USES)}",
    )
    parser.set_defaults(run=run)


def _add_filters(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--at-most",
        type=functools.partial(shared.whole, option="--at-most", most=4096),
        metavar="N",
        help="the best so many; by objects no more boxes are tried, which saves time (default: 56 boxes, else all)",
    )
    for name, kind in (("--min-score", "score"), ("--min-stability", "stability score")):
        group.add_argument(
            name,
            type=functools.partial(shared.number, option=name, least=0, most=1),
            metavar="S",
            help=f"lowest {kind}, 0 to 1 (default: by grid and hierarchical what suits the model, else 0)",
        )
    for name, what in (("--min-area", "smallest"), ("--max-area", "largest")):
        group.add_argument(
            name,
            type=functools.partial(area, option=name),
            metavar="AREA",
            help=f"{what} mask, in pixels (400) or as a share of the picture (2%%)",
        )


def area(text: str, *, option: str) -> tuple[str, float]:
    """Read the value of --min-area or --max-area.

    Args:
        text: A whole number of pixels, or a number with a percent sign.
        option: The option.

    Returns:
        "area" and pixels, or "share" and a part of the picture from 0 to 1.

    Raises:
        InputError: It is neither.

    Example:
        >>> area("400", option="--min-area"), area("2.5%", option="--min-area")
        (('area', 400.0), ('share', 0.025))
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)\s*(%?)", text.strip(), re.ASCII)
    value = float(match[1]) if match else -1.0
    is_share = match is not None and bool(match[2])
    if match is None or (is_share and value > 100) or (not is_share and "." in match[1]):
        raise InputError(
            f"expected whole pixels such as 400, or a share of the picture such as 2%, after {option}, got "
            f"{text!r:.80}; correct it"
        )
    return ("share", value / 100) if is_share else ("area", value)


def run(args: argparse.Namespace) -> int:
    """Find everything in the pictures.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: The only picture failed, or the options, the model or the output folder cannot be used.
        PartialFailureError: Some of several pictures failed.
    """
    _check(args)
    found, names = shared.find(args)
    job = _Job(args, names)

    def work(path: str, meter: shared.Meter) -> int:
        done = job.work(path, meter)
        shared.report(args, lambda: _record(done), lambda: [_line(done)])
        for name in () if args.quiet else done.empty:
            shared.note(f"{name}: not written, because nothing was found to show in it")
        return len(done.found.masks)

    return shared.each(found, work, quiet=args.quiet, steps="tiles" if args.tile else "prompts")


def _check(args: argparse.Namespace) -> None:
    """Refuse options that would do nothing, before anything is loaded."""
    if args.grid is not None and args.by not in ("auto", *_GRIDS):
        raise InputError(f"expected --grid with --by grid or hierarchical, got --by {args.by}; leave one out")
    if args.detector is not None and (args.by not in ("auto", "objects") or args.grid is not None):
        other = "--grid" if args.grid is not None else f"--by {args.by}"
        raise InputError(f"expected --detector with --by objects, got it with {other}; leave one out")
    if args.min_area and args.max_area and args.min_area[0] == args.max_area[0]:
        low, high = args.min_area[1], args.max_area[1]
        if low > high:
            raise InputError("expected --min-area below --max-area, got it above; exchange them")


def _grid(text: str) -> str:
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text.strip(), re.ASCII)
    if match is None or match[2] not in (None, match[1]) or not 1 <= int(match[1]) <= 1024:
        raise InputError(
            f"expected a grid from 1x1 to 1024x1024 after --grid, such as 32x32, got {text!r:.80}; both sides are equal"
        )
    return str(match[1])


@dataclass(frozen=True)
class _Done:
    """What came out for one picture."""

    found: findings.Findings
    way: str
    files: list[Path]
    empty: list[str]
    times_ms: dict[str, float]


class _Job:
    """The steps for one picture, and what all of them share: names, and the models once they are needed."""

    def __init__(self, args: argparse.Namespace, names: output.Names) -> None:
        self._args, self._names = args, names
        self._model: Model | None = None
        self._detector: Model | None = None
        self._embedding_s = 0.0

    def work(self, path: str, meter: shared.Meter) -> _Done:
        from samlet.image import Image

        args = self._args
        image = Image.load(path)
        model = self._loaded()
        way = _way(args, model)
        self._embedding_s, start = 0.0, time.perf_counter()
        masks = self._chosen(self._masks(model, image, way, meter))
        middle = time.perf_counter()
        found = findings.Findings(path, image, masks)
        wanted = tuple(dict.fromkeys((*args.formats, *args.uses)))
        named = self._names.claim(
            Path(path).stem, lambda stem: findings.file_names(stem, wanted, count=len(masks))
        )
        files = findings.contents(found, named, args.output)
        written = output.write(args.output, files)
        seconds = {
            "embed": self._embedding_s,
            "find": middle - start - self._embedding_s,
            "write": time.perf_counter() - middle,
        }
        return _Done(
            found=found,
            way=way,
            files=written,
            empty=[name for name, content in files.items() if content is None],
            times_ms={name: 1000 * one for name, one in seconds.items()},
        )

    def _loaded(self) -> "Model":
        if self._model is None:
            from samlet import model

            loaded = shared.load_model(self._args)
            _check_model(self._args, loaded)
            if self._args.detector is not None:
                self._detector = model.load(
                    self._args.detector, threads=self._args.threads, backend=self._args.backend
                )
                _check_detector(self._detector)
            self._model = loaded
        return self._model

    def _masks(self, model: "Model", image: "Image", way: str, meter: shared.Meter) -> "StoredMasks":
        from samlet.tiling import everything_tiled
        from samlet.uses.plain import stored

        settings: dict[str, Any] = {"by": way}
        if way == "objects":
            settings |= {"objects": _objects(self._args), "detector": self._detector}
        elif way in _GRIDS:
            settings |= {"grid": _grid_of(self._args, model)}

        def look(part: "Image", telling: shared.Meter | None = None) -> "Masks":
            start = time.perf_counter()
            view = model.embed(part)
            self._embedding_s += time.perf_counter() - start
            return model.everything(view, **settings, progress=None if telling is None else telling.steps)

        side = self._args.tile
        if side is None:
            return stored(look(image, meter))
        return everything_tiled(look, image, side=side, overlap=side // 8, progress=meter.steps)

    def _chosen(self, masks: "StoredMasks") -> "StoredMasks":
        """Keep the masks that were asked for, best first."""
        import numpy as np

        from samlet import uses

        args = self._args
        bounds = [(f"{end}_{bound[0]}", bound[1]) for end, bound in _bounds(args)]
        if bounds:
            masks = uses.by_size(masks, **dict(bounds))
        if args.min_score is not None:
            masks = masks[masks.scores >= args.min_score]
        if args.min_stability is not None:
            masks = masks[masks.stability() >= args.min_stability]
        return masks[np.argsort(-masks.scores, kind="stable")[: args.at_most]]


def _bounds(args: argparse.Namespace) -> list[tuple[str, tuple[str, float]]]:
    both = (("min", args.min_area), ("max", args.max_area))
    return [(end, bound) for end, bound in both if bound is not None]


def _way(args: argparse.Namespace, model: "Model") -> str:
    """Say what --by auto stands for, as `Model.everything` decides."""
    if args.by != "auto":
        return str(args.by)
    if model.card.family == "fastsam":
        return "regions"
    return "objects" if args.grid is None else "grid"


def _check_model(args: argparse.Namespace, model: "Model") -> None:
    """Refuse a model that cannot look in the way that was asked for."""
    name, family = model.card.name, model.card.family
    if family == "object_aware":
        raise ModelError(
            f"expected a model that makes masks after --model, got {name}, which finds boxes; give it after --detector"
        )
    regions = family == "fastsam"
    if args.by != "auto" and (args.by == "regions") != regions:
        raise ModelError(
            f"expected --by regions for FastSAM and another way for other models, got --by {args.by} for {name}; "
            "leave --by out"
        )
    for option in ("grid", "detector", "min_stability") if regions else ():
        if getattr(args, option) is not None:
            raise ModelError(
                f"expected no --{option.replace('_', '-')} for {name}, which finds regions in one pass; leave it out"
            )


def _check_detector(detector: "Model") -> None:
    if not detector.session.has_objects and detector.card.family != "object_aware":
        raise ModelError(
            f"expected a model that finds boxes after --detector, such as object_aware, got {detector.card.name}; "
            "name another"
        )


def _objects(args: argparse.Namespace) -> "Objects":
    from samlet.everything import Objects

    chosen = {"at_most": args.at_most, "min_score": args.min_score}
    return Objects(**{name: value for name, value in chosen.items() if value is not None})


def _grid_of(args: argparse.Namespace, model: "Model") -> "Grid":
    from samlet.everything import Grid

    grid = Grid.parse(args.grid, model.card)
    chosen = {"pred_iou_thresh": args.min_score, "stability_score_thresh": args.min_stability}
    return dataclasses.replace(grid, **{name: value for name, value in chosen.items() if value is not None})


def _record(done: _Done) -> dict[str, Any]:
    """Describe one picture for machines."""
    return {
        "image": done.found.path,
        "width": done.found.image.width,
        "height": done.found.image.height,
        "by": done.way,
        "masks": findings.records(done.found),
        "files": [str(path) for path in done.files],
        "times_ms": {name: round(value, 1) for name, value in done.times_ms.items()},
    }


def _line(done: _Done) -> str:
    """Describe one picture for people."""
    scores = done.found.masks.scores
    what = "nothing found"
    if len(scores):
        what = "1 mask" if len(scores) == 1 else f"{len(scores)} masks"
        ends = [f"{scores[0]:.2f}"] if len(scores) == 1 else [f"{scores[0]:.2f} to {scores[-1]:.2f}"]
        what += f", scores {ends[0]}"
    times = ", ".join(f"{name} {value:.0f} ms" for name, value in done.times_ms.items())
    return f"{output.one_line(done.found.path)}: {what} -> {shared.places(done.files)} ({times})"
