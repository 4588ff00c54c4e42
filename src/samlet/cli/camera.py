"""`samlet camera`: follow an object that is clicked on, live in a camera or a video, on the screen or into a file."""

import argparse
import functools
import json
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import clips, points, screen
from samlet.cli import run as shared
from samlet.errors import InputError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from samlet.image import Image
    from samlet.sequence import Step, Track

_DESCRIPTION = """\
Click on an object, or drag a box round it, and its mask follows it, live. With a window: Space lets go, Q or Escape
ends. Without one, say what to follow by --box or --point and where the film goes by --output.
"""
_EPILOG = """\
SOURCE is the number of a camera, of which only the newest frame is taken (needs OpenCV: pip install opencv-python), or
a folder, an animation or a video, of which every frame is. How it follows, and what it cannot: samlet sequence --help.

examples:
  samlet camera
  samlet camera 1 --box 200,120,440,360 --output walk.mp4      no window needed
  samlet camera walk.mp4 --point 200,150 --output followed.mp4
"""
_RECENT = 20  # frames over which the rate is measured
_ROOM = 6  # pixels around the figures in the corner


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "camera",
        help="follow an object live, from a camera or a video",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", nargs="?", default="0", metavar="SOURCE", help="(default: camera 0)")
    points.add_prompt_arguments(parser)
    model = parser.add_argument_group("model")
    shared.add_model(model)
    shared.add_size(model)
    parser.set_defaults(size=256)
    group = parser.add_argument_group("results")
    group.add_argument(
        "--show",
        choices=("auto", "yes", "no"),
        default="auto",
        help="a window on the screen; auto: if there can be one (default: %(default)s)",
    )
    group.add_argument("--output", type=Path, metavar="FILE.mp4", help="a film of it (needs samlet[video])")
    group.add_argument(
        "--at-most",
        type=functools.partial(shared.whole, option="--at-most", most=10_000_000),
        default=10_000_000,
        metavar="N",
        help="most frames",
    )
    group.add_argument(
        "--fps",
        type=functools.partial(shared.number, option="--fps", least=0.1, most=240),
        default=25.0,
        metavar="N",
        help="frames a second of a film made of a video; a camera's keeps the time (default: 25)",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object a frame")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors (and --json)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Follow what is asked for until the frames or the person end it.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: The source, the prompt, the model or the file cannot be used.
    """
    asked = points.prompt_arguments(args) if args.clicks or args.boxes else None
    if asked is not None and len(asked.get("boxes", [])) > 1:
        raise InputError("expected one object, got several boxes; run samlet once for each")
    why_not = screen.why_no_window() if args.show != "no" else "--show no was given"
    if args.show == "yes" and why_not:
        raise InputError(
            f"expected a window to show the frames in, but {why_not}; or write a film with --output"
        )
    if why_not and (asked is None or args.output is None):
        raise InputError(
            f"expected a window to click in, but {why_not}; or say what to follow by --box or --point and where the "
            "film goes by --output"
        )
    if args.output is not None and args.output.suffix.lower() != ".mp4":
        raise InputError(
            f"expected a name ending in .mp4 after --output, got {args.output.name!r:.80}; correct it"
        )
    # A frame is embedded while another is answered: with all cores for each they would wait for each other, spinning.
    args.threads = args.threads or max(1, (os.cpu_count() or 1) // 2)
    model = shared.load_model(args)
    is_camera = args.source.isascii() and args.source.isdecimal()
    frames = (
        screen.camera(int(args.source)) if is_camera else clips.frames([args.source], at_most=args.at_most)
    )
    with ExitStack() as open_things:
        film = open_things.enter_context(clips.film(args.output)) if args.output is not None else None
        window = open_things.enter_context(closing(screen.Window())) if not why_not else None
        live = _Live(args, model, asked, film=film, window=window, is_camera=is_camera)
        live.follow(frames)
    if not args.json and not args.quiet:
        print(live.summary())
    return 0


class _Live:
    """The frames' way from the source to the screen, with what is measured on it."""

    def __init__(
        self,
        args: argparse.Namespace,
        model: Any,
        asked: dict[str, Any] | None,
        *,
        film: "clips.Film | None",
        window: "screen.Window | None",
        is_camera: bool,
    ) -> None:
        self._args, self._model, self._asked = args, model, asked
        self._film, self._window, self._is_camera = film, window, is_camera
        self._track: Track | None = None
        self._born: deque[float] = deque()  # when the frames that are under way came
        self._shown: deque[float] = deque(maxlen=_RECENT)
        self._latencies: deque[float] = deque(maxlen=1000)
        self._count = self._found = 0
        self._started = time.perf_counter()

    def follow(self, frames: Any) -> None:
        """Go through the frames, which are a generator, and close it."""
        from samlet.sequence import embedded

        under_way: Any = embedded(self._model, self._timed(frames))
        with closing(frames), closing(under_way):
            for image, view in under_way:
                self._show(image, self._step(image, view))
                if self._count >= self._args.at_most or (self._window is not None and self._window.is_over):
                    return

    def summary(self) -> str:
        rate = self._count / max(time.perf_counter() - self._started, 1e-9)
        middle = sorted(self._latencies)[len(self._latencies) // 2] if self._latencies else 0.0
        place = "" if self._args.output is None else f" -> {shared.places([self._args.output])}"
        return (
            f"{self._count} frames, found in {self._found}, {rate:.1f} a second, {1000 * middle:.0f} ms from frame to "
            f"picture{place}"
        )

    def _timed(self, frames: "Iterator[Image]") -> "Iterator[Image]":
        for image in frames:
            self._born.append(time.perf_counter())
            yield image

    def _step(self, image: "Image", view: Any) -> "Step | None":
        from samlet.sequence import Track

        if self._window is not None:
            self._asked, self._window.asked = self._window.asked or self._asked, None
            if self._window.let_go:
                self._track, self._window.let_go = None, False
        if self._asked is None:
            return None if self._track is None else self._track.step(image, view)
        asked, self._asked = self._asked, None
        try:
            self._track = Track(self._model, image, view, asked)
        except InputError:  # nothing there; with a window one clicks again
            if self._window is None:
                raise
            self._track = None
            return None
        return self._track.first

    def _show(self, image: "Image", step: "Step | None") -> None:
        from samlet import drawing

        picture = drawing.overlay(image, [step.mask] if step is not None else [])
        now = time.perf_counter()
        latency = now - self._born.popleft()
        self._shown.append(now)
        self._latencies.append(latency)
        span = self._shown[-1] - self._shown[0]
        rate = (len(self._shown) - 1) / span if span > 0 else 0.0
        _label(picture, f"{rate:.1f} frames/s  {1000 * latency:.0f} ms{_state(step)}")
        if self._film is not None:
            seconds = now - self._started if self._is_camera else self._count / self._args.fps
            self._film.add(picture, seconds)
        if self._window is not None:
            self._window.show(picture)
        self._found += step is not None and step.found
        if self._args.json:
            print(json.dumps(_record(self._count, image, step, latency)), flush=True)
        self._count += 1


def _state(step: "Step | None") -> str:
    if step is None:
        return ""
    return "" if step.found else "  lost"


def _label(picture: "PillowImage.Image", text: str) -> None:
    """Write into the top left corner, on a dark plate that any picture shows."""
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size=max(11, picture.height // 32))
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = pen.textbbox((_ROOM, _ROOM), text, font=font)
    pen.rectangle((left - _ROOM, top - _ROOM, right + _ROOM, bottom + _ROOM), fill=(20, 22, 27))
    pen.text((_ROOM, _ROOM), text, fill=(236, 238, 243), font=font)


def _record(index: int, image: "Image", step: "Step | None", latency: float) -> dict[str, Any]:
    return {
        "frame": index,
        "image": image.source,
        "found": step is not None and step.found,
        "score": None if step is None else shared.rounded(step.score, 4),
        "area": 0 if step is None else int(step.mask.sum()),
        "milliseconds": shared.rounded(1000 * latency, 1),
    }
