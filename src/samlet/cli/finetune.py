"""`samlet finetune`: a model tuned on your own labelled pictures."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from samlet.errors import InputError

_DESCRIPTION = """\
Tune a model on labelled pictures of your own: the decoder alone, or with low-rank adapters in the encoder too.

  samlet finetune --data annotations.json --images photos/ --out runs/mine --minutes 20
  samlet segment new.jpg --model runs/mine/model.safetensors --box 40,40,80,90

DATA is a COCO file, a folder with images/ and masks/ (PNGs of region ids, or black and white), a folder of labelme
files, or any other data set by kind, such as yolo:FOLDER (docs/how-to/data-sets.md).
Every eighth picture is held out and drawn before and after. Needs pip install 'samlet[train]'.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "finetune",
        help="tune a model on your own labelled pictures",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", default="nano", help="what to begin with (default: nano)")
    parser.add_argument("--data", required=True, metavar="[KIND:]PATH", help="labelled pictures")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="pictures of a COCO file (default: looked for near it)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's events too")
    parser.add_argument(
        "--save-minutes", type=float, default=5.0, metavar="N", help="between states (default: 5)"
    )
    parser.add_argument("--name", default="tuned", help="name on the model's card")
    group = parser.add_argument_group("recipe")
    group.add_argument(
        "--part", choices=("decoder", "adapters", "all"), help="what to tune (default: decoder)"
    )
    for name, kind, words in (
        ("rank", int, "of the adapters (8)"),
        ("steps", int, "length in steps"),
        ("minutes", float, "length in minutes (10, if there are no --steps)"),
        ("size", int, "longest side while training (the model's own)"),
        ("batch", int, "pictures of a part of a step (4)"),
        ("accumulate", int, "parts of a step (1)"),
        ("prompts", int, "objects of a picture (6)"),
        ("rounds", int, "most corrective clicks (3)"),
        ("corrected", float, "share of prompts that are corrected (0.34)"),
        ("seed", int, "of all random numbers (1)"),
        ("lr", float, "highest learning rate (0.0003)"),
        ("average", float, "decay of the weight average (0.99)"),
    ):
        group.add_argument(f"--{name}", type=kind, metavar="N", help=words)
    group.add_argument("--clock", choices=("wall", "cpu"), help="what --minutes counts")
    group.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tune a model.

    Returns:
        0.

    Raises:
        SamletError: The options do not fit together, or training failed.
    """
    from samlet.cli.distill import need_training

    need_training()
    from samlet.train.recipes.finetune import Place, Recipe
    from samlet.train.recipes.finetune import run as tune

    given: dict[str, Any] = {
        f.name: getattr(args, f.name) for f in fields(Recipe) if getattr(args, f.name, None) is not None
    }
    if "steps" in given and "minutes" in given:
        raise InputError("expected either --steps or --minutes, got both; leave one out")
    if not given.get("steps"):
        given.setdefault("minutes", 10.0)
    place = Place(
        model=args.model, data=args.data, out=args.out, images=args.images, device=args.device,
        save_minutes=args.save_minutes, tensorboard=args.tensorboard, name=args.name,
    )  # fmt: skip
    path = tune(replace(Recipe(), **given), place, resume=args.resume)
    print(f"{path}: samlet segment PICTURE --model {path} --box X0,Y0,X1,Y1")
    return 0
