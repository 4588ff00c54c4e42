"""A small task for the training loop, and a program that runs it: `python -m tests.train_runs OUT [--resume]`.

As a program it can be killed, or started twice by torchrun. `python -m tests.train_runs --kills 20 OUT` kills it that
often at random moments and compares with an unbroken run.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from samlet.train.engine import Plan, Run, Shares
from samlet.train.optim import WeightAverage, optimiser_of, scaled_groups
from samlet.train.parallel import Team


class LineTask:
    """Fit a line through noise, with dropout and a batch norm so that hidden randomness would show."""

    def __init__(self, *, seed=1, lr=0.01, pause=0.0, poison=None, average=0.9):
        torch.manual_seed(seed)
        self.network = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1)
        )
        groups = scaled_groups([(n, p, 1.0) for n, p in self.network.named_parameters()], lr=lr, decay=0.01)
        self.optimiser = optimiser_of("adamw", groups)
        self.average = WeightAverage(self.network, average)
        self.shares, self.seed, self.pause, self.poison = Shares(), seed, pause, poison
        self.size_words = "--batch (now 6)"

    def batch(self, step, part, progress):
        rng = np.random.default_rng((self.seed, step, part))
        x = rng.normal(size=(6, 4)).astype(np.float32)
        return x, (x @ np.array([1, -2, 3, 0.5], np.float32))[:, None]

    def loss(self, batch, step, part):
        time.sleep(self.pause)  # so that there is something to kill
        if self.poison is not None and step == self.poison[0]:
            self.poison[1](self)
        x, y = (torch.from_numpy(each) for each in batch)
        error = (self.network(x) - y).square().mean()
        return error, {"iou": float(torch.exp(-error.detach()))}

    def look(self):
        x, y = (torch.from_numpy(each) for each in self.batch(10**6, 0, 0.0))
        with torch.no_grad():
            return {"box": float((self.network(x) - y).abs().mean())}

    def sheet(self):
        return None

    def pictures(self, batch):
        return len(batch[0])


def curve(out):
    """The rows of a run without what the clock says."""
    rows = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    clocks = ("minutes", "wall", "pictures_per_s", "share")
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows]


def weights(out):
    from safetensors.numpy import load_file

    return load_file(Path(out) / "state.safetensors")


def same_end(one, other):
    """Whether two runs have the same curve and the same weights, moments and averages, bit for bit."""
    a, b = weights(one), weights(other)
    equal = a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    return equal and curve(one) == curve(other)


def command(out, *, steps, pause, resume=False):
    words = [sys.executable, "-m", "tests.train_runs", str(out), "--steps", str(steps), "--pause", str(pause)]
    return words + (["--resume"] if resume else [])


def killed_run(out, *, kills, steps, pause, chance):
    """Run and kill at random moments after the first state, `kills` times, then let it end; the steps it died at."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    died = []
    for number in range(kills):
        process = subprocess.Popen(
            command(out, steps=steps, pause=pause, resume=number > 0),
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Steps are counted in the program's own words, so a slow machine kills no earlier.
        goal = (number + chance.random()) * steps / (kills + 1)
        for line in process.stdout:
            if line.startswith("step ") and int(line.split()[1].rstrip(",")) >= goal:
                break
        process.kill()
        process.communicate()
        died.append(process.returncode)
    subprocess.run(
        command(out, steps=steps, pause=pause, resume=True),
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return died


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    args = parser.parse_args()
    if args.kills:
        subprocess.run(
            command(args.out / "whole", steps=args.steps, pause=0), check=True, stdout=subprocess.DEVNULL
        )
        seed = random.randrange(10**6)
        died = killed_run(
            args.out / "killed",
            kills=args.kills,
            steps=args.steps,
            pause=args.pause,
            chance=random.Random(seed),
        )
        equal = same_end(args.out / "whole", args.out / "killed")
        print(f"seed {seed}: killed {died.count(-9)} times; curve and weights bit for bit the same: {equal}")
        return 0 if equal else 1
    torch.set_num_threads(1)
    team = Team.join("cpu")
    plan = Plan(steps=args.steps, accumulate=args.accumulate, warmup=5, log_steps=1, save_steps=7)
    Run(LineTask(pause=args.pause), plan, args.out, {"lr": 0.01}, resume=args.resume, team=team).go()
    team.leave()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
