"""Tune a model on your own labelled pictures: the decoder alone, or low-rank adapters in the encoder too.

    samlet finetune --data train/dsb2018 --out runs/nuclei --minutes 10
    samlet segment cells.png --model runs/nuclei/model.safetensors --box 40,40,80,90

The steps are those of the recipe `prompts`: boxes and clicks on your objects, a third of them corrected by clicks.
"""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from samlet import registry, store
from samlet.card import Card
from samlet.errors import InputError
from samlet.evaluate.datasets import Broken
from samlet.train.adapters import add_adapters, merge
from samlet.train.before_after import before_after
from samlet.train.engine import Plan, Run
from samlet.train.finished import write_model
from samlet.train.forward import Forward, channels_last, precision_of
from samlet.train.optim import parameter_groups
from samlet.train.own_data import read_own
from samlet.train.parallel import Team
from samlet.train.pictures import Loader, Picture
from samlet.train.promptable import Promptable, is_sam, load_network
from samlet.train.recipes import prompts

PARTS = ("decoder", "adapters", "all")
HELD_OUT_EVERY, HELD_OUT_MOST = 8, 24


@dataclass(frozen=True)
class Recipe:
    """Every number of a run; saved beside its weights.

    Attributes:
        part: "decoder", "adapters" (the decoder, and low-rank adapters in the encoder), or "all".
        rank: Of the adapters.
        steps: Length in steps, or
        minutes: in minutes of `clock`.
        size: Longest side on the canvas while training; 0 is the model's own.
        batch: Pictures of a part of a step.
        prompts: Objects of a picture.
        corrected: Share of prompts that are trained after corrective clicks.
        lr: Highest learning rate, of decoder and adapters; the encoder as a whole learns at a tenth.
    """

    part: str = "decoder"
    rank: int = 8
    steps: int = 0
    minutes: float = 0.0
    clock: str = "wall"
    size: int = 0
    batch: int = 4
    accumulate: int = 1
    prompts: int = 6
    corrected: float = 0.34
    rounds: int = 3
    seed: int = 1
    lr: float = 3e-4
    decay: float = 0.02
    warmup: int = 30
    clip: float = 1.0
    average: float = 0.99
    precision: str = "auto"


@dataclass(frozen=True)
class Place:
    """Where a run reads, writes and computes.

    Attributes:
        model: Name or file of the model to begin with.
        data: What `read_own` takes.
        out: The run's folder, made if missing.
        images: Folder of a COCO file's pictures.
        device: "cpu" or "cuda".
        save_minutes: Minutes between two states.
        tensorboard: Write TensorBoard's events too.
        name: Of the tuned model's card.
    """

    model: str
    data: str | Path
    out: Path
    images: Path | None = None
    device: str = "cpu"
    save_minutes: float = 5.0
    tensorboard: bool = False
    name: str = "tuned"


def task_of(
    recipe: Recipe, network: Promptable, card: Card, pictures: list[Picture], device: torch.device
) -> prompts.PromptTask:
    """Freeze what stays and put the parts together."""
    network.to(device)
    network.eval()  # batch norms keep the statistics of many more pictures than these
    fast = list(network.decoder.parameters())
    slow: list[torch.nn.Parameter] = []
    if recipe.part == "adapters":
        fast += add_adapters(network.encoder, recipe.rank)
    elif recipe.part == "all":
        slow = list(network.encoder.parameters())
    else:
        network.encoder.requires_grad_(False)
    channels_last(network)
    held_out = pictures[::HELD_OUT_EVERY][:HELD_OUT_MOST] if len(pictures) > HELD_OUT_EVERY else []
    chosen = {id(p) for p in held_out}
    loader = Loader(
        [p for p in pictures if id(p) not in chosen],
        seed=recipe.seed,
        batch=recipe.batch,
        prompts=recipe.prompts,
    )
    size = recipe.size or card.side
    numbers = prompts.Recipe(
        steps=recipe.steps, minutes=recipe.minutes, seed=recipe.seed, batch=recipe.batch, prompts=recipe.prompts,
        corrected=recipe.corrected, rounds=recipe.rounds, lr=recipe.lr, decay=recipe.decay, warmup=recipe.warmup,
        clip=recipe.clip, sizes=((1.0, size),), average=recipe.average, precision=recipe.precision, look_size=size,
    )  # fmt: skip
    groups = parameter_groups(fast, slow, lr_fast=recipe.lr, lr_slow=recipe.lr / 10, decay=recipe.decay)
    forward = Forward(network, device, precision_of(recipe.precision, device), card.mean, card.std)
    return prompts.PromptTask(numbers, forward, loader, held_out, groups, square=card.pad == "square")


def run(recipe: Recipe, place: Place, *, resume: bool = False, stop: int | None = None) -> Path:
    """Tune, and leave `model.safetensors`, and `before_after.png` of held-out pictures, in `place.out`.

    Args:
        recipe: The numbers.
        place: Folders and device.
        resume: Go on from the state in `place.out` if there is one.
        stop: Save and return after so many steps although the plan goes on (to resume later).

    Returns:
        The tuned model's file.

    Raises:
        SamletError: The model, the pictures or the options cannot be used, or training failed.
    """
    if recipe.part not in PARTS:
        raise InputError(
            f"expected a part to tune ({', '.join(PARTS)}), got {recipe.part!r:.40}; name one of them"
        )
    card = registry.resolve(place.model)
    team = Team.join(place.device)
    try:
        torch.manual_seed(recipe.seed)
        network = load_network(card)
        _check_size(recipe, card, network)
        broken: list[Broken] = []
        pictures = read_own(place.data, images=place.images, broken=broken)
        for each in broken:
            print(f"left out {each.name}: {each.reason}", flush=True)
        task = task_of(recipe, network, card, pictures, torch.device(place.device))
        plan = Plan(
            steps=recipe.steps, minutes=recipe.minutes, clock=recipe.clock, seed=recipe.seed,
            accumulate=recipe.accumulate, warmup=recipe.warmup, clip=recipe.clip, half=recipe.precision == "fp16",
            save_minutes=place.save_minutes,
        )  # fmt: skip
        facts = {**asdict(recipe), "model": card.name, "digest": card.digest}
        now = Run(task, plan, place.out, facts, resume=resume, team=team, tensorboard=place.tensorboard)
        trained = sum(p.numel() for group in task.optimiser.param_groups for p in group["params"])
        print(
            f"{card.name}: {trained:,} numbers to tune ({recipe.part}) on {len(task.loader.pictures)} pictures, "
            f"{len(task.held_out)} held out; {task.forward.dtype}",
            flush=True,
        )
        now.go(stop=stop)
        path = place.out / "model.safetensors"
        if team.leads:
            with task.average.in_place():
                write_tuned(recipe, network, card, path, name=place.name)
            if task.held_out:
                before_after(card, registry.resolve(path), task.held_out).save(place.out / "before_after.png")
        team.wait()
        return path
    finally:
        team.leave()


def _check_size(recipe: Recipe, card: Card, network: Promptable) -> None:
    if card.stride != network.stride:
        raise InputError(
            f"expected a model whose encoder and decoder share a stride, got {card.stride} and {network.stride}; "
            "tune another"
        )
    step = card.stride if card.pad == "square" else max(int(card.pad), 32)
    if recipe.size % step:
        raise InputError(
            f"expected --size as a multiple of {step} for {card.name}, got {recipe.size}; correct it"
        )
    if is_sam(network) and recipe.size > card.side:
        raise InputError(
            f"expected --size of at most {card.side} for {card.name}, got {recipe.size}; lower it"
        )


def write_tuned(recipe: Recipe, network: Promptable, base: Card, path: Path, *, name: str) -> None:
    """Write the tuned model with the card of the one it began with; an object head stays if the encoder did."""
    kept: dict[str, NDArray[Any]] = {}
    graphs = dict(base.graphs)
    if recipe.part == "decoder":
        from samlet import checkpoint

        for file in base.files:
            arrays = checkpoint.parse(store.read_verified(file), origin=file.file_name).arrays
            kept |= {key: array for key, array in arrays.items() if key.startswith("objects.")}
    else:
        graphs.pop("objects", None)
    if recipe.part == "adapters":
        network = copy.deepcopy(network)  # the one that is trained keeps its adapters
        merge(network.encoder)
    card = replace(
        base,
        name=name,
        graphs=graphs,
        aliases=(),
        title=f"{name}: {base.name}, tuned on pictures of your own ({recipe.part})",
        weights_licence=f"As your pictures allow; begun with {base.name}: {base.weights_licence}",
        quality={},
        notes="Measure it: samlet evaluate.",
    )
    write_model(network, card, path, kept=kept)
