"""`samlet distill`: a teacher and a folder of pictures make a student; `embed` and `compare` are its two helpers."""

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.errors import InputError, MissingExtraError, PartialFailureError

if TYPE_CHECKING:
    from samlet.train.agreement import Agreement
    from samlet.train.teacher_embed import Progress

_DESCRIPTION = """\
Train a small image encoder to stand in for a large one. The teacher's embeddings are made once:

  samlet distill embed --teacher sam_vit_h --images photos/ --store embeddings/
  samlet distill --teacher sam_vit_h --images photos/ --store embeddings/ --student tiny_vit_5m --out runs/mine
  samlet segment dog.jpg --model runs/mine/student.safetensors --point 520,360

Pictures come from folders, lists (.txt), WebDataset tars, parquet files or data sets (coco:FILE, sa1b:FOLDER).
Needs pip install 'samlet[train]'.
"""
_EPILOG = """\
presets: decoupled (imitate the embeddings; MobileSAM's way), semi (learn from masks through the frozen decoder),
coupled (encoder and a fresh decoder together), prompts (the stage after, EdgeSAM's: --start a student, tune both).
Several GPUs: torchrun --nproc-per-node 4 -m samlet distill ...
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "distill",
        help="train a small model from a large one and a folder of pictures",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_shared(parser)
    _add_training(parser)
    _add_recipe(parser)
    parser.set_defaults(run=run)
    helpers = parser.add_subparsers(title="helpers", metavar="HELPER")
    _add_embed(helpers)
    _add_compare(helpers)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--teacher", metavar="MODEL", help="name or file of the teacher")
    parser.add_argument("--images", action="append", metavar="PATH", help="pictures; may be repeated")
    parser.add_argument("--store", type=Path, metavar="DIR", help="the teacher's embeddings")
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="the teacher's longest side (default: its card's)"
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--student", metavar="NAME", help="tiny_vit_5m (default), tiny_vit_11m, tiny_vit_21m, "
                        "efficientvit_l0, lite0, plain_m, nano, nano_lite0, nano_plain_s")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run")
    parser.add_argument("--start", type=Path, metavar="FILE", help="student.safetensors of an earlier run")
    parser.add_argument(
        "--init", type=Path, metavar="FILE", help="ImageNet weights of the student's backbone"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--compile", action="store_true", help="compile the encoder (torch.compile)")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's events too")
    parser.add_argument(
        "--save-minutes", type=float, default=8.0, metavar="N", help="between states (default: 8)"
    )
    parser.add_argument("--save-steps", type=int, default=0, metavar="N", help="between states, in steps")
    parser.add_argument(
        "--log-steps", type=int, default=20, metavar="N", help="between rows of the log (default: 20)"
    )
    parser.add_argument(
        "--views", type=int, default=1, metavar="N", help="views of a picture, without --store"
    )
    parser.add_argument("--name", default="student", help="name on the student's card")


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recipe (defaults: the preset's)")
    group.add_argument("--preset", choices=("decoupled", "semi", "coupled", "prompts"), default="decoupled")
    for name, kind, words in (
        ("epochs", float, "passes over the pictures (8)"),
        ("steps", int, "length in steps, in place of epochs"),
        ("minutes", float, "length in minutes, in place of epochs"),
        ("batch", int, "pictures of a part of a step (8)"),
        ("accumulate", int, "parts of a step (1)"),
        ("seed", int, "of all random numbers (1)"),
        ("lr", float, "highest learning rate (0.001)"),
        ("decay", float, "weight decay (0.02)"),
        ("layer-decay", float, "share of the rate from block to block (0.8)"),
        ("warmup", int, "steps until the highest rate (100)"),
        ("clip", float, "largest norm of the gradient, 0: any (1)"),
        ("average", float, "decay of the weight average, 0: none (0.999)"),
        ("prompts", int, "prompts of a picture, in presets with masks (4)"),
        ("rounds", int, "corrective clicks (prompts: 1, else 0)"),
        ("embedding", float, "weight of the embeddings' distance beside the masks' loss (0)"),
        ("decoder-share", float, "share of the rate for a decoder that is trained (1)"),
    ):
        group.add_argument(f"--{name}", type=kind, metavar="N", help=words)
    group.add_argument("--clock", choices=("wall", "cpu"), help="what --minutes counts")
    group.add_argument("--optimiser", choices=("adamw", "sgd"))
    group.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"))
    group.add_argument(
        "--distance", choices=("mse", "cosine", "mse+cosine", "weighted"), help="of embeddings (mse)"
    )
    group.add_argument(
        "--mask-loss", choices=("bce", "focal"), help="BCE and dice 5:5, or SAM's focal and dice 20:1"
    )
    group.add_argument(
        "--freeze", choices=("none", "early", "backbone"), help="part of the encoder that stays as it is"
    )
    group.add_argument("--keep-prompts", action=argparse.BooleanOptionalAction, default=None,
                       help="a trained decoder reads prompts as before (prompts: yes)")  # fmt: skip
    group.add_argument("--fresh-decoder", action=argparse.BooleanOptionalAction, default=None,
                       help="begin with a decoder that knows nothing (coupled: yes)")  # fmt: skip


def _add_embed(helpers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = helpers.add_parser(
        "embed",
        help="make the teacher's embeddings",
        description="Embed pictures with a teacher into a store of shards. What is there already is not made again; "
        "a killed process loses the shard it was writing. Needs no torch.",
        allow_abbrev=False,
    )
    _add_shared(parser)
    parser.add_argument(
        "--kind", choices=("float16", "int8"), default="float16", help="2 bytes a number, or 1"
    )
    parser.add_argument(
        "--views", type=int, default=1, metavar="N", help="whole, mirrored, then crops (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the crops")
    parser.add_argument(
        "--per-shard", type=int, default=256, metavar="N", help="pictures of a shard (default: 256)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="that work at once (default: 1)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of each process (default: the runtime's)")
    parser.add_argument("--limit", type=int, metavar="N", help="only so many pictures, evenly spread")
    parser.set_defaults(run=run_embed)


def _add_compare(helpers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = helpers.add_parser(
        "compare",
        help="measure how alike student and teacher answer",
        description="Mean IoU of the student's masks with the teacher's, for the box and the most interior point of "
        "every object of a set (SET/images, SET/masks). Needs pip install 'samlet[eval]'.",
        allow_abbrev=False,
    )
    parser.add_argument("student", nargs="+", help="files of students")
    parser.add_argument("--teacher", required=True, metavar="MODEL")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="the teacher's longest side")
    parser.add_argument("--on", required=True, metavar="[KIND:]PATH", help="folder of a set, or KIND:PATH")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only each K-th picture")
    parser.set_defaults(run=run_compare)


def run(args: argparse.Namespace) -> int:
    """Train a student.

    Returns:
        0.

    Raises:
        SamletError: The options do not fit together, or training failed.
    """
    _require(args, "teacher", "images", "out")
    need_training()
    from samlet.train.recipes.distill import CHANGES, Place, Recipe
    from samlet.train.recipes.distill import run as train

    given = {f.name: getattr(args, f.name) for f in fields(Recipe) if getattr(args, f.name, None) is not None}
    changed: dict[str, Any] = {**CHANGES[args.preset], **given}
    recipe = replace(Recipe(), **changed)
    if args.preset == "prompts" and args.start is None:
        raise InputError(
            "expected --start FILE with the preset prompts, which tunes a student that was distilled before; add it"
        )
    place = Place(
        teacher=args.teacher, images=tuple(args.images), out=args.out, store=args.store, start=args.start,
        init=args.init, size=args.size, device=args.device, compiled=args.compile, tensorboard=args.tensorboard,
        save_minutes=args.save_minutes, save_steps=args.save_steps, log_steps=args.log_steps, views=args.views,
        name=args.name,
    )  # fmt: skip
    path = train(recipe, place, resume=args.resume)
    print(f"{path}: samlet segment PICTURE --model {path} --point X,Y")
    return 0


def run_embed(args: argparse.Namespace) -> int:
    """Fill a store.

    Returns:
        0, or the code of a partial failure if some pictures could not be read.

    Raises:
        SamletError: The store, the teacher or the pictures cannot be used.
    """
    _require(args, "teacher", "images", "store")
    from samlet.train.teacher_embed import Job, embed
    from samlet.train.teacher_store import TeacherStore

    job = Job(
        teacher=args.teacher, images=tuple(args.images), folder=str(args.store), size=args.size, kind=args.kind,
        views=args.views, seed=args.seed, threads=args.threads,
    )  # fmt: skip
    broken: dict[str, str] = {}
    for progress in embed(job, per_shard=args.per_shard, processes=args.processes, limit=args.limit):
        print(_progress_line(progress), file=sys.stderr, flush=True)
        broken = progress.broken
    store = TeacherStore.open(args.store)
    size = sum(path.stat().st_size for path in args.store.glob("shard-*.safetensors"))
    print(
        f"{args.store}: {len(store):,} embeddings of {store.facts.teacher}, {size / 1e6:,.1f} MB, {store.facts.kind}, "
        f"relative error {store.lost.relative:.2g}"
    )
    for key, reason in broken.items():
        print(f"left out {key}: {reason}", file=sys.stderr)
    return PartialFailureError.exit_code if broken else 0


def _progress_line(progress: "Progress") -> str:
    line = f"{progress.done + progress.skipped:,} of {progress.total + progress.skipped:,} pictures"
    if progress.done:
        line += f", {progress.speed:.1f} a second, about {progress.left / 60:.0f} min left"
    return line + (f", {len(progress.broken)} unreadable" if progress.broken else "")


def run_compare(args: argparse.Namespace) -> int:
    """Measure students against their teacher.

    Returns:
        0.

    Raises:
        SamletError: A model or the set cannot be used.
    """
    from samlet import backends, registry
    from samlet.evaluate.datasets import Dataset
    from samlet.session import Session
    from samlet.train.agreement import compare

    backend = backends.create("onnx")
    card = registry.resolve(args.teacher)
    teacher = Session(card if args.size is None else card.resized(args.size), backend)
    dataset = Dataset.open(args.on).select(every=args.every)
    print(f"{dataset.name}, {len(dataset)} pictures, teacher {card.name} at {teacher.card.side} pixels")
    print(
        "student: mIoU with the teacher box / click; with the labels box / click (95 % intervals of the first two)"
    )
    for name in args.student:
        found = compare(Session(registry.resolve(name), backend), teacher, dataset)
        print(f"{name}: {_agreement_line(found)}", flush=True)
        for each in found.broken:
            print(f"left out {each.name}: {each.reason}", file=sys.stderr)
    return 0


def _agreement_line(found: "Agreement") -> str:
    parts = {column: found.summary(column) for column in ("box", "click", "truth_box", "truth_click")}
    if any(part is None for part in parts.values()):
        return "no labelled objects"
    means = {column: part.mean for column, part in parts.items() if part is not None}
    spans = [f"{p.low:.3f}-{p.high:.3f}" for p in (parts["box"], parts["click"]) if p is not None]
    return (
        f"{means['box']:.4f} / {means['click']:.4f}; {means['truth_box']:.4f} / {means['truth_click']:.4f} "
        f"({', '.join(spans)}; {len(found.box)} objects)"
    )


def _require(args: argparse.Namespace, *names: str) -> None:
    missing = [f"--{name}" for name in names if not getattr(args, name)]
    if missing:
        raise InputError(f"expected {', '.join(missing)}, got none; see samlet distill --help")


def need_training() -> None:
    """Say what to install before anything is read.

    Raises:
        MissingExtraError: PyTorch or OpenCV is not installed.
    """
    from importlib.util import find_spec

    if find_spec("torch") is None or find_spec("cv2") is None:
        raise MissingExtraError(
            "this needs PyTorch and OpenCV; install them with pip install 'samlet[train]'"
        )
