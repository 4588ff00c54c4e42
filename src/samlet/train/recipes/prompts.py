"""Train a promptable mask model from pictures with masks: SAM's training, sized for a CPU.

    python -m samlet.train.recipes.prompts --data PATH/train --init lite0.pth --out runs/nano --minutes 90

Per step a few pictures, five prompts each. Two thirds of the prompts are first prompts (boxes, clicks); for the
others the model first answers and is corrected by one to four clicks on its largest mistake, without gradient,
and the last answer is trained. Mask 0 is trained on every prompt; of masks 1 to 3 the best one on single clicks.
With `--steps` a resumed run is bit-for-bit the unbroken one on a CPU; with `--minutes` the plan follows the clock.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from samlet.errors import SamletError
from samlet.nets.nano import Nano
from samlet.train.forward import Forward, Scales, precision_of
from samlet.train.losses import grid_iou, mask_loss
from samlet.train.optim import WeightAverage, cosine, parameter_groups
from samlet.train.pictures import Batch, Loader, read_sets
from samlet.train.sampling import corrective_click
from samlet.train.state import load_state, save_state
from samlet.train.validation import validate


@dataclass(frozen=True)
class Recipe:
    """Every number of a run; saved beside its weights."""

    minutes: float = 0.0
    steps: int = 0
    seed: int = 1
    batch: int = 6
    prompts: int = 5
    corrected: float = 0.34  # share of prompts trained after corrective clicks
    rounds: int = 4  # at most so many of them
    lr: float = 1e-3
    lr_backbone: float = 3e-4
    decay: float = 0.02
    warmup: int = 100
    clip: float = 1.0
    loss: str = "bce"
    sizes: tuple[tuple[float, int], ...] = field(default=((0.2, 256), (0.55, 320), (0.85, 384), (1.0, 448)))
    average: float = 0.999
    precision: str = "auto"
    drawn: bool = True  # ablation switch: False trains without the drawn prompt


class Trainer:
    """The pieces of a run that a step needs."""

    def __init__(self, recipe: Recipe, network: Nano, device: torch.device) -> None:
        self.recipe = recipe
        self.forward = Forward(network, device, precision_of(recipe.precision, device))
        backbone = network.encoder.backbone
        for frozen in (backbone.stem, backbone.stages[0], backbone.stages[1]):
            frozen.requires_grad_(False)  # generic edges and colours, a quarter of the backward pass
        slow = list(backbone.parameters())
        ids = {id(p) for p in slow}
        groups = parameter_groups(
            (p for p in network.parameters() if id(p) not in ids), slow,
            lr_fast=recipe.lr, lr_slow=recipe.lr_backbone, decay=recipe.decay,
        )  # fmt: skip
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self.average = WeightAverage(network, recipe.average)
        if not recipe.drawn:  # the decoder then sees earlier logits only
            keep = torch.tensor([0.0, 0, 0, 1, 1], device=device).reshape(1, -1, 1, 1)
            network.decoder.hint4.register_forward_pre_hook(lambda _, args: (args[0] * keep,))

    def correct(
        self,
        scales: Scales,
        coords: Tensor,
        labels: Tensor,
        target: Tensor,
        valid: Tensor,
        dice: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Let the model answer and be corrected a random number of times, without gradient."""
        rounds = int(torch.randint(1, self.recipe.rounds + 1, (1,), generator=dice))
        n, (h, w) = coords.shape[0], target.shape[1:]
        previous, has = coords.new_zeros(n, 1, h, w), coords.new_zeros(n)
        fed = (torch.rand(n, generator=dice) < 0.9).to(coords)  # some learn to do without the hint
        with torch.no_grad():
            for _ in range(rounds):
                _, masks = self.forward.decode(scales, coords, labels, previous, has)
                xy, label = corrective_click(masks[:, 0], target, valid, dice)
                coords, labels = torch.cat([coords, xy.to(coords)], 1), torch.cat([labels, label], 1)
                previous, has = masks[:, :1], fed
        return coords, labels, previous, has

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """One optimiser step; returns the numbers to log."""
        recipe, dev, network = self.recipe, self.forward.device, self.forward.network
        dice = torch.Generator().manual_seed(recipe.seed * 1_000_003 + batch.step)
        scales = self.forward.encode(batch.pixels, batch.inside)
        b, p = batch.targets.shape[:2]
        target = torch.from_numpy(batch.targets).to(dev).flatten(0, 1)
        valid = torch.from_numpy(batch.valid).to(dev).repeat_interleave(p, 0)
        coords = torch.from_numpy(batch.coords).to(dev).flatten(0, 1)
        labels = torch.from_numpy(batch.labels).to(dev).flatten(0, 1)
        n, k = b * p, coords.shape[1] + recipe.rounds
        many = max(0, min(n, round(n * recipe.corrected)))
        picked = torch.randperm(n, generator=dice)[:many].sort().values.to(dev)
        all_coords, all_labels = coords.new_zeros(n, k, 2), labels.new_full((n, k), -1)
        all_coords[:, : coords.shape[1]], all_labels[:, : coords.shape[1]] = coords, labels
        previous, has = target.new_zeros(n, 1, *target.shape[1:]), target.new_zeros(n)
        per_prompt = tuple(s.repeat_interleave(p, 0) for s in scales)
        if many:
            mine = tuple(s.detach()[picked] for s in per_prompt)
            c, lab, prev, h = self.correct(
                mine, coords[picked], labels[picked], target[picked], valid[picked], dice
            )
            all_coords[picked, : c.shape[1]], all_labels[picked, : c.shape[1]] = c, lab
            previous[picked], has[picked] = prev, h
        iou, masks = self.forward.decode(per_prompt, all_coords, all_labels, previous, has)
        truth, known = target.unsqueeze(1), valid.unsqueeze(1)
        single = mask_loss(masks[:, 0], target, valid, kind=recipe.loss)
        loss = single.mean()
        one_click = ((labels[:, 0] == 1) & (labels[:, 1] == -1)).nonzero()[:, 0]
        one_click = one_click[~torch.isin(one_click, picked)]
        if len(one_click):
            three = mask_loss(masks[one_click, 1:], truth[one_click], known[one_click], kind=recipe.loss)
            loss = loss + (three.amin(1) + 0.05 * three.mean(1)).sum() / n
        real = grid_iou(masks.detach(), truth, known)
        loss = loss + (iou - real).square().mean()
        factor = cosine(progress) * min(1.0, (batch.step + 1) / recipe.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip))
        if not math.isfinite(norm):  # one bad step is dropped; the weights and moments stay as they were
            return {"loss": float("nan"), "norm": norm}
        self.optimiser.step()
        self.average.update()
        first = torch.ones(n, dtype=torch.bool)
        first[picked.cpu()] = False
        best = real[:, 0].cpu()
        box, click = first & (labels[:, 0] == 2).cpu(), first & (labels[:, 0] == 1).cpu()
        out = {"loss": float(loss.detach()), "norm": norm, "lr": factor * recipe.lr}
        for name, where in (("box", box), ("click", click), ("corrected", ~first)):
            if where.any():
                out[name] = float(best[where].mean())
        if len(one_click):
            out["best3"] = float(real[one_click, 1:].amax(1).mean())
        return out


def run(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    init: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    every: float = 8.0,
    stop: int | None = None,
) -> None:
    """Train and leave `metrics.jsonl`, `state.safetensors`, `recipe.json` in `out`.

    Args:
        recipe: The numbers.
        data: Folder with `<set>/images` and `<set>/masks`.
        out: Where the run lives; made if missing.
        init: EfficientNet-Lite0 ImageNet weights.
        resume: Go on from `out/state.safetensors` if there is one.
        device: Torch's name of the device.
        every: Minutes between saved states (each followed by a look at the held-out pictures).
        stop: Save and return after so many steps although the plan goes on (to resume later).
    """  # fmt: skip
    dev = torch.device(device)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    network = Nano()
    if init is not None:
        network.encoder.backbone.load_imagenet(torch.load(init, map_location="cpu", weights_only=True))
    network = network.to(dev, memory_format=torch.channels_last)
    trainer = Trainer(recipe, network, dev)
    step, spent = 0, 0.0
    state = out / "state.safetensors"
    if resume and state.exists():
        facts = load_state(state, network, trainer.optimiser, trainer.average)
        step, spent = int(facts["step"]), float(facts["spent"])
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    pictures = read_sets(data, dev=False, max_side=512)
    held_out = read_sets(data, dev=True, max_side=512, limit=100)
    print(
        f"{len(pictures)} pictures to train on, {len(held_out)} held out; {trainer.forward.dtype}", flush=True
    )
    loader = Loader(pictures, seed=recipe.seed, batch=recipe.batch, prompts=recipe.prompts)

    def progress() -> float:
        return step / recipe.steps if recipe.steps else spent / (60 * recipe.minutes)

    def planned(done: float) -> int:
        return next(size for until, size in recipe.sizes if done < until or until >= 1)

    def save() -> None:
        save_state(state, network, trainer.optimiser, trainer.average, {"step": step, "spent": spent})

    running: dict[str, float] = {}
    clock, saved, reported = time.monotonic(), spent, spent
    loader.size = planned(progress())
    with (out / "metrics.jsonl").open("a") as log:
        for batch in loader.batches(step):
            numbers = trainer.step(batch, progress())
            step += 1
            now = time.monotonic()
            spent, clock = spent + now - clock, now
            loader.size = planned(progress())
            for key, value in numbers.items():
                running[key] = value if key not in running else 0.98 * running[key] + 0.02 * value
            done = progress() >= 1 or step == stop
            if spent - reported > 20 or done:
                reported = spent
                facts = {
                    "step": step,
                    "minutes": round(spent / 60, 2),
                    "size": batch.pixels.shape[1:3],
                    **running,
                }
                log.write(
                    json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in facts.items()})
                    + "\n"
                )
                log.flush()
                print(
                    " ".join(
                        f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items()
                    ),
                    flush=True,
                )
            if spent - saved > 60 * every or done:
                save()
                checked = validate(trainer.forward, trainer.average, held_out)
                log.write(
                    json.dumps({"step": step, "minutes": round(spent / 60, 2), "held_out": checked}) + "\n"
                )
                log.flush()
                print("held out", " ".join(f"{k} {v:.4f}" for k, v in checked.items()), flush=True)
                clock = time.monotonic()
                saved = spent
            if done:
                return


def main() -> int:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with <set>/images and <set>/masks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--init", type=Path, help="EfficientNet-Lite0 ImageNet weights (.pth, read with weights_only)"
    )
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=float, default=8.0, help="minutes between saved states")
    for name in ("minutes", "lr", "lr_backbone", "corrected", "decay"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(Recipe(), name))
    for name in ("steps", "seed", "batch", "prompts", "rounds"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe(), name))
    parser.add_argument(
        "--no-drawn", dest="drawn", action="store_false", help="ablation: do not draw the prompt"
    )
    parser.add_argument("--loss", choices=("bce", "focal"), default="bce")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    parser.add_argument(
        "--sizes", default="0.2:256,0.55:320,0.85:384,1:448", help="progress:canvas side, ..."
    )
    args = parser.parse_args()
    sizes = tuple((float(a), int(b)) for a, b in (pair.split(":") for pair in args.sizes.split(",")))
    names = ("minutes", "lr", "lr_backbone", "corrected", "decay", "steps", "seed", "batch", "prompts", "rounds",
             "loss", "precision", "drawn")  # fmt: skip
    recipe = Recipe(sizes=sizes, **{k: getattr(args, k) for k in names})
    if bool(recipe.minutes) == bool(recipe.steps):
        parser.error("give either --minutes or --steps")
    try:
        run(
            recipe,
            data=args.data,
            out=args.out,
            init=args.init,
            resume=args.resume,
            device=args.device,
            every=args.every,
        )
    except SamletError as error:
        print(f"samlet: error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
