"""The training loop: one, plain, for every recipe.

A recipe brings a `Task` (a network and what one step of it means) and a `Plan` (how long, how fast, how often to
look). The loop does the rest: batches made ahead, accumulation, clipping, the schedule, the weight average, logs,
states and resuming. Every random number comes from (seed, step, part), so a run that is killed anywhere and resumed
ends with the same loss curve and weights, bit for bit on a CPU with the same number of threads, if its length is
counted in steps.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from samlet.errors import InputError, MissingExtraError, TrainingError
from samlet.train.journal import Journal
from samlet.train.memory import advice_on_memory
from samlet.train.optim import WeightAverage, cosine
from samlet.train.parallel import Team
from samlet.train.state import load_state, save_state

STATE, SHEET = "state.safetensors", "samples.png"
DROPPED = 10  # so many steps in a row whose gradient is not finite are an end, fewer an accident


@dataclass(frozen=True)
class Plan:
    """How a run goes, whatever it trains.

    Attributes:
        steps: Length in optimiser steps; 0 if `minutes` says it.
        minutes: Length in minutes of `clock`; a resumed run then is no longer exactly the unbroken one.
        clock: "wall", or "cpu" for the processor time of this process: a fair measure on a busy machine.
        seed: Of all random numbers.
        accumulate: Parts of a step whose gradients are averaged before the weights change.
        warmup: Steps over which the learning rate rises.
        floor: The learning rate's last share of its highest value (cosine).
        clip: Largest norm of the gradient; 0 leaves it alone.
        half: Whether gradients are scaled, as float16 needs it.
        log_steps: Steps between two rows of the log.
        save_steps: Steps between two states; 0 leaves it to `save_minutes`.
        save_minutes: Minutes of wall clock between two states, at each of which the held-out part is looked at.
        ahead: Parts of steps that are made ahead of time.
    """

    steps: int = 0
    minutes: float = 0.0
    clock: str = "wall"
    seed: int = 1
    accumulate: int = 1
    warmup: int = 100
    floor: float = 0.02
    clip: float = 1.0
    half: bool = False
    log_steps: int = 20
    save_steps: int = 0
    save_minutes: float = 8.0
    ahead: int = 6


class Shares:
    """Seconds by what they were spent on: "loading", "teacher", "student", "optimiser"."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    @contextlib.contextmanager
    def spent_on(self, what: str) -> Iterator[None]:
        """Count the time of the block, less that of blocks inside it."""
        began = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.seconds[what] = self.seconds.get(what, 0.0) + took - self._inside.pop()
            if self._inside:
                self._inside[-1] += took


class Task(Protocol):
    """What a recipe brings to the loop.

    Attributes:
        optimiser: Its groups carry "base_lr", which the schedule scales.
        average: The weight average.
        shares: Where time goes; the loop fills in what it knows.
    """

    @property
    def network(self) -> nn.Module:
        """All weights that are saved, trained or not."""

    optimiser: torch.optim.Optimizer
    average: WeightAverage
    shares: Shares

    @property
    def size_words(self) -> str:
        """What to lower if memory runs out, for instance "--batch (now 8)"."""

    def batch(self, step: int, part: int, progress: float) -> Any:
        """Make one part of a step, on another thread; depends on nothing but the seed and the arguments."""

    def loss(self, batch: Any, step: int, part: int) -> tuple[Tensor, dict[str, float]]:
        """The part's mean loss, and numbers to log."""

    def look(self) -> dict[str, float]:
        """Held-out figures of the network as it is: the loop has put the averaged weights into it."""

    def sheet(self) -> PillowImage.Image | None:
        """Draw sample answers of the network as it is."""

    def pictures(self, batch: Any) -> int:
        """How many pictures are in a part."""


@dataclass
class Run:
    """A run on disk, from its first step or from the state it was left in.

    Attributes:
        task: What is trained.
        plan: How.
        out: Its folder, with `recipe.json`, `metrics.jsonl`, `curves.png`, `samples.png` and the state.
        recipe: Every number of the run; a resumed run must have the same.
        resume: Go on from the state in `out` if there is one.
        team: The processes that train together.
        tensorboard: Write TensorBoard's events too.
    """

    task: Task
    plan: Plan
    out: Path
    recipe: Mapping[str, Any]
    resume: bool = False
    team: Team = field(default_factory=Team)
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Take up the state, if there is one to take up."""
        if bool(self.plan.steps) == bool(self.plan.minutes):
            raise InputError("expected the length of a run in either steps or minutes; give one of them")
        self.step, self.spent, self.dropped = 0, 0.0, 0
        self.running: dict[str, float] = {}
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=self.plan.half)
        state = self.out / STATE
        if self.team.leads:
            self.out.mkdir(parents=True, exist_ok=True)
        self.team.wait()
        facts: dict[str, Any] = {}
        if self.resume and state.exists():
            self._check_recipe()
            facts = load_state(state, self.task.network, self.task.optimiser, self.task.average)
            self.step, self.spent = facts["step"], facts["spent"]
            everyone = facts["running"]
            if len(everyone) != self.team.world:
                raise InputError(
                    f"expected {len(everyone)} processes, as the run in {self.out} had, got {self.team.world}; "
                    "start as many, or choose another --out"
                )
            self.running = everyone[self.team.rank]
            self.scaler.load_state_dict(facts["scaler"])
        self.team.share_weights(self.task.network)
        self.journal = Journal(
            self.out, from_step=self.step, tensorboard=self.tensorboard, active=self.team.leads
        )
        if self.team.leads:
            (self.out / "recipe.json").write_text(json.dumps(self.recipe, indent=1))

    @property
    def _device(self) -> torch.device:
        return next(self.task.network.parameters()).device

    @property
    def progress(self) -> float:
        """How much of the plan is done, 0 to 1."""
        return self._progress_at(self.step)

    def _progress_at(self, step: int) -> float:
        if self.plan.steps:
            return step / self.plan.steps
        return self.spent / (60 * self.plan.minutes)

    def go(self, *, stop: int | None = None) -> None:
        """Train to the end of the plan.

        Args:
            stop: Save and return at this step although the plan goes on.

        Raises:
            TrainingError: The loss is not a number any more; the last good state is kept.
            LimitError: Memory ran out.
        """
        saved = reported = began = time.monotonic()
        clock, seen, since = self._now(), 0, 0
        parts = self._parts()
        while self.progress < 1:
            numbers, pictures = self._one_step(parts)
            seen += pictures
            self._note(numbers)
            self.step += 1
            self.spent += self._now() - clock
            clock = self._now()
            done = self.progress >= 1 or self.step == stop
            if done or self.step % self.plan.log_steps == 0:
                now = time.monotonic()
                self._report(seen - since, now - reported, now - began)
                reported, since = now, seen
            every = self.plan.save_steps
            due = (
                self.step % every == 0
                if every
                else self.team.agreed(time.monotonic() - saved > 60 * self.plan.save_minutes)
            )
            if done or due:
                self._save()
                saved = reported = time.monotonic()
                clock = self._now()  # looking at held-out pictures is not training time
            if done:
                return

    def _now(self) -> float:
        return time.process_time() if self.plan.clock == "cpu" else time.monotonic()

    def _parts(self) -> Iterator[Any]:
        """This process's parts of all steps from here on, made ahead of time by one thread."""
        plan, team = self.plan, self.team
        mine = range(team.rank * plan.accumulate, (team.rank + 1) * plan.accumulate)
        wanted = ((step, part) for step in _from(self.step) for part in mine)
        with ThreadPoolExecutor(1) as pool:
            queue: list[Future[Any]] = []
            while True:
                while len(queue) < plan.ahead:
                    step, part = next(wanted)
                    if plan.steps and step >= plan.steps:
                        break
                    queue.append(pool.submit(self.task.batch, step, part, self._progress_at(step)))
                yield queue.pop(0).result()

    def _one_step(self, parts: Iterator[Any]) -> tuple[dict[str, float], int]:
        """One change of the weights: all parts of this process, the average over processes, the optimiser."""
        task, plan, team = self.task, self.plan, self.team
        count = plan.accumulate * team.world
        factor = cosine(self.progress, floor=plan.floor) * min(1.0, (self.step + 1) / max(1, plan.warmup))
        for group in task.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        task.optimiser.zero_grad(set_to_none=True)
        means: dict[str, list[float]] = {}
        pictures = 0
        for part in range(plan.accumulate):
            with task.shares.spent_on("loading"):
                batch = next(parts)
            pictures += task.pictures(batch)
            number = team.rank * plan.accumulate + part
            torch.manual_seed(hash((plan.seed, self.step, number)) % 2**63)
            with task.shares.spent_on("student"), advice_on_memory(task.size_words):
                loss, numbers = task.loss(batch, self.step, number)
                self.scaler.scale(loss / count).backward()
            for key, value in ({"loss": float(loss.detach())} | numbers).items():
                means.setdefault(key, []).append(value)
        with task.shares.spent_on("optimiser"), advice_on_memory(task.size_words):
            norm = self._update(means["loss"])
        told = {key: sum(values) / len(values) for key, values in means.items()}
        return told | {"norm": norm, "lr": factor}, pictures * team.world

    def _update(self, losses: list[float]) -> float:
        """Change the weights and return the gradient's norm; a step whose gradient is not finite is dropped."""
        task, plan = self.task, self.plan
        trained = [p for group in task.optimiser.param_groups for p in group["params"]]
        self.team.sum_gradients(trained)
        if not self.team.agreed_all(all(map(_finite, losses))):
            raise self._diverged(f"the loss is {losses[0]}")
        self.scaler.unscale_(task.optimiser)
        norm = float(torch.nn.utils.clip_grad_norm_(trained, plan.clip or float("inf")))
        if _finite(norm):
            self.dropped = 0
        elif (dropped := self.dropped + 1) > DROPPED:
            raise self._diverged(f"the gradient was not finite in {dropped} steps in a row")
        else:
            self.dropped = dropped
        if _finite(norm) or plan.half:  # float16's scaler itself skips the step, and lowers its scale
            self.scaler.step(task.optimiser)
        self.scaler.update()
        if _finite(norm):
            task.average.update()
        return norm

    def _diverged(self, what: str) -> TrainingError:
        state = self.out / STATE
        kept = f"the last good state is {state}" if state.exists() else "no state was written yet"
        return TrainingError(
            f"expected finite numbers at step {self.step}, but {what}; {kept}: resume with a lower --lr, "
            "or with --precision fp32"
        )

    def _note(self, numbers: Mapping[str, float]) -> None:
        """Take a step's numbers into the running means."""
        for key, value in numbers.items():
            if key in ("norm", "lr") or not _finite(value):
                if _finite(value):
                    self.running[key] = value
                continue
            self.running[key] = value if key not in self.running else 0.98 * self.running[key] + 0.02 * value

    def _report(self, pictures: int, seconds: float, wall: float) -> None:
        """Log the running means and say them, with speed and time left."""
        means = self.team.mean(self.running)
        speed = pictures / seconds if seconds > 0 else 0.0
        minutes = self.spent / 60
        left = minutes / self.progress - minutes if self.progress > 0 else 0.0
        total = sum(self.task.shares.seconds.values()) or 1.0
        share = {key: round(value / total, 4) for key, value in self.task.shares.seconds.items()}
        self.journal.row(
            {"step": self.step, "minutes": minutes, "wall": wall / 60, "pictures_per_s": speed}
            | means
            | {"share": share}
        )
        if self.team.leads:
            said = " ".join(f"{k} {v:.4g}" for k, v in means.items())
            print(
                f"step {self.step}, {minutes:.1f} min, about {left:.0f} left, {speed:.1f} pictures/s: {said}",
                flush=True,
            )

    def _save(self) -> None:
        """Write the state, then look at held-out pictures with the averaged weights and draw."""
        task, everyone = self.task, self.team.everyone(self.running)
        if self.team.leads:
            broken = [name for name, value in task.network.state_dict().items() if not _all_finite(value)]
            if broken:
                raise self._diverged(f"the weights {broken[0]} are not finite any more")
            facts = {
                "step": self.step,
                "spent": self.spent,
                "running": everyone,
                "scaler": self.scaler.state_dict(),
            }
            save_state(self.out / STATE, task.network, task.optimiser, task.average, facts)
            with task.average.in_place():
                figures, sheet = task.look(), task.sheet()
            if figures:
                self.journal.row({"step": self.step, "minutes": self.spent / 60, "held_out": figures})
                print("held out:", " ".join(f"{k} {v:.4f}" for k, v in figures.items()), flush=True)
            if sheet is not None:
                sheet.save(self.out / SHEET)
            with contextlib.suppress(MissingExtraError):  # no matplotlib: the log has the numbers
                self.journal.draw()
        self.team.wait()

    def _check_recipe(self) -> None:
        """Refuse to go on with other numbers; only the run's length may change."""
        path = self.out / "recipe.json"
        if not path.exists():
            return
        before = json.loads(path.read_text())
        now = json.loads(json.dumps(self.recipe))
        other = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
        other = [k for k in other if k not in ("steps", "minutes")]
        if other:
            told = ", ".join(f"{k} {now.get(k)!r} instead of {before.get(k)!r}" for k in other[:3])
            raise InputError(
                f"expected the numbers of the run in {self.out}, got {told:.300}; resume with the same ones "
                "or choose another --out"
            )


def _from(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1


def _finite(value: float) -> bool:
    return math.isfinite(value)


def _all_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
