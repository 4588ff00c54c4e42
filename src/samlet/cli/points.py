"""Clicks and boxes as words of the command line."""

import argparse
import math
from typing import Any

from samlet.errors import InputError, PromptError

FOREGROUND, BACKGROUND = 1, 0


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --point, --not-point and --box to a command.

    Args:
        parser: The parser of the command.
    """
    group = parser.add_argument_group(
        "prompt",
        "All --point and --not-point together describe ONE object. Each --box is an object of its own. "
        "Points and exactly one --box describe one object together. Positions are in pixels of the picture, "
        "counted from its top left corner, x to the right and y down.",
    )
    group.add_argument(
        "--point", dest="clicks", action="append", type=foreground, metavar="x,y", help="is on the object"
    )
    group.add_argument(
        "--not-point",
        dest="clicks",
        action="append",
        type=background,
        metavar="x,y",
        help="is not on the object",
    )
    group.add_argument(
        "--box", dest="boxes", action="append", type=box, metavar="x0,y0,x1,y1", help="frames an object"
    )


def foreground(text: str) -> tuple[float, float, int]:
    """Read the value of --point.

    Args:
        text: "x,y".

    Returns:
        x, y and the label 1.

    Raises:
        PromptError: It is not two numbers.

    Example:
        >>> foreground("520,360.5")
        (520.0, 360.5, 1)
    """
    x, y = _numbers(text, "--point", "x,y")
    return x, y, FOREGROUND


def background(text: str) -> tuple[float, float, int]:
    """Read the value of --not-point.

    Args:
        text: "x,y".

    Returns:
        x, y and the label 0.

    Raises:
        PromptError: It is not two numbers.

    Example:
        >>> background("7,8")
        (7.0, 8.0, 0)
    """
    x, y = _numbers(text, "--not-point", "x,y")
    return x, y, BACKGROUND


def box(text: str) -> tuple[float, float, float, float]:
    """Read the value of --box.

    Args:
        text: "x0,y0,x1,y1".

    Returns:
        The four numbers.

    Raises:
        PromptError: It is not four numbers.

    Example:
        >>> box("1,2,30,40")
        (1.0, 2.0, 30.0, 40.0)
    """
    x0, y0, x1, y1 = _numbers(text, "--box", "x0,y0,x1,y1")
    return x0, y0, x1, y1


def prompt_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Turn what was typed into the prompt arguments of `Model.segment`.

    Args:
        args: Parsed words of a command with `add_prompt_arguments`.

    Returns:
        `points` (K, 2) with `labels` (K,), `boxes` (N, 4), or both with N = 1, in picture pixels.

    Raises:
        PromptError: There is no prompt, or there are points with several boxes.

    Example:
        >>> prompt_arguments(argparse.Namespace(clicks=[(5.0, 6.0, 1)], boxes=None))
        {'points': [[5.0, 6.0]], 'labels': [1]}
    """
    clicks, boxes = args.clicks or [], args.boxes or []
    if not clicks and not boxes:
        raise PromptError(
            "expected a prompt, got none; point at the object with --point x,y or frame it with "
            "--box x0,y0,x1,y1"
        )
    if clicks and len(boxes) > 1:
        raise PromptError(
            f"expected at most one --box along with points, got {len(boxes)}; points belong to one object, "
            "so run samlet once for each box"
        )
    asked: dict[str, Any] = {}
    if clicks:
        asked["points"] = [[x, y] for x, y, _ in clicks]
        asked["labels"] = [label for _, _, label in clicks]
    if boxes:
        asked["boxes"] = [list(corners) for corners in boxes]
    return asked


def one_object(args: argparse.Namespace) -> dict[str, Any]:
    """Do as `prompt_arguments`, for commands that take one object.

    Raises:
        PromptError: There is no prompt.
        InputError: There are several boxes.
    """
    asked = prompt_arguments(args)
    if len(asked.get("boxes", [])) > 1:
        raise InputError("expected one object, got several boxes; run samlet once for each")
    return asked


def _numbers(text: str, option: str, form: str) -> list[float]:
    wanted = form.count(",") + 1
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != wanted or not all(map(math.isfinite, numbers)):
        words = {2: "two", 4: "four"}[wanted]
        raise PromptError(
            f"expected {words} numbers {form} after {option}, got {text!r:.80}; "
            "give pixel positions separated by commas"
        )
    return numbers
