"""The training loop: killed runs, several processes, accumulation, runs that diverge, and memory that runs out."""

import importlib.util
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch (samlet[train])", allow_module_level=True)

import torch

from samlet.errors import CheckpointError, InputError, LimitError, TrainingError
from samlet.train.engine import DROPPED, Plan, Run, Shares
from samlet.train.memory import advice_on_memory
from samlet.train.optim import WeightAverage, optimiser_of, scaled_groups
from tests.train_runs import LineTask, curve, killed_run, same_end, weights

PLAN = Plan(steps=12, warmup=2, log_steps=1, save_steps=4)


@pytest.fixture(autouse=True)
def one_thread():
    """Compute here as the programs that are compared do: sums over two threads end in other last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def go(out, task=None, plan=PLAN, recipe=None, *, resume=False, stop=None):
    run = Run(task or LineTask(), plan, out, recipe or {"lr": 0.01}, resume=resume)
    run.go(stop=stop)
    return run


def test_a_run_killed_at_random_moments_ends_as_the_unbroken_one(tmp_path):
    """`python -m tests.train_runs --kills 20 OUT` is the long version."""
    go(tmp_path / "whole", plan=Plan(steps=60, warmup=5, log_steps=1, save_steps=7))
    died = killed_run(tmp_path / "killed", kills=2, steps=60, pause=0.01, chance=random.Random(3))
    assert died == [-9, -9]
    assert len(curve(tmp_path / "whole")) == 60 + 9  # 60 rows, and a look at each of 9 states
    assert same_end(tmp_path / "whole", tmp_path / "killed")


def test_a_run_in_pieces_is_the_unbroken_one_and_another_seed_is_not(tmp_path):
    go(tmp_path / "whole")
    go(tmp_path / "pieces", stop=5)
    go(tmp_path / "pieces", resume=True, stop=6)
    go(tmp_path / "pieces", resume=True)
    assert weights(tmp_path / "whole").keys() == weights(tmp_path / "pieces").keys()
    whole, pieces = ([r for r in curve(tmp_path / n) if "loss" in r] for n in ("whole", "pieces"))
    assert whole == pieces
    go(tmp_path / "other", LineTask(seed=2))
    assert not same_end(tmp_path / "whole", tmp_path / "other")


def test_two_processes_do_what_one_does_with_twice_the_parts(tmp_path):
    """Without a batch norm's running statistics, which stay those of the first process."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*torchrun, "-m", "tests.train_runs", str(tmp_path / "two"), "--steps", "9"],
        check=True,
        timeout=240,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    go(tmp_path / "one", plan=Plan(steps=9, accumulate=2, warmup=5, log_steps=1, save_steps=7))
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    trained = [k for k in one if k.startswith("model.") and "running" not in k and "num_batches" not in k]
    assert len(trained) == 6
    assert all(np.allclose(one[k], two[k], atol=1e-6) for k in trained)
    losses = [[r["loss"] for r in curve(tmp_path / n) if "loss" in r] for n in ("one", "two")]
    assert np.allclose(*losses, rtol=1e-5)


def test_accumulation_scales_the_loss(tmp_path):
    """Two parts of the same batch step as one part does: the gradient is their mean, not their sum."""

    class Same(LineTask):
        def batch(self, step, part, progress):
            return super().batch(step, 0, progress)

        def loss(self, batch, step, part):
            torch.manual_seed(step)  # the same units drop out in both parts
            return super().loss(batch, step, part)

    for accumulate in (1, 2):
        go(
            tmp_path / str(accumulate),
            Same(),
            Plan(steps=3, accumulate=accumulate, warmup=1, log_steps=1, save_steps=3),
        )
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    for key in ("model.0.weight", "model.4.weight", "model.4.bias"):
        assert np.allclose(one[key], two[key], atol=1e-6)


def poison_weights(task):
    with torch.no_grad():
        task.network[0].weight.fill_(float("nan"))


def test_not_a_number_stops_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(TrainingError, match=r"step 6.*last good state is .*state\.safetensors.*lower --lr"):
        go(tmp_path, LineTask(poison=(6, poison_weights)))
    kept = weights(tmp_path)
    assert all(np.isfinite(a).all() for a in kept.values())
    go(tmp_path, resume=True)  # from step 4, without the poison
    assert [r["step"] for r in curve(tmp_path) if "loss" in r] == list(range(1, 13))


def test_gradients_that_are_not_finite_are_dropped_but_not_for_ever(tmp_path):
    class Wild(LineTask):
        def loss(self, batch, step, part):
            loss, numbers = super().loss(batch, step, part)
            if step < self.wild:
                loss = loss + (self.network[4].bias.sum() * 0).sqrt()  # finite, with an infinite slope
            return loss, numbers

    calm = Wild()
    calm.wild = 1
    before = calm.network[0].weight.detach().clone()
    go(tmp_path / "calm", calm, stop=1)
    assert torch.equal(calm.network[0].weight, before)
    wild = Wild()
    wild.wild = 99
    with pytest.raises(TrainingError, match=f"{DROPPED + 1} steps in a row"):
        go(tmp_path / "wild", wild, Plan(steps=50, warmup=1))


def test_memory_that_runs_out_names_the_setting_to_lower(tmp_path):
    def exhaust(_):
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"
        )

    with pytest.raises(LimitError, match=r"lower --batch \(now 6\), and raise --accumulate"):
        go(tmp_path, LineTask(poison=(2, exhaust)))
    with pytest.raises(LimitError), advice_on_memory("--batch"):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), advice_on_memory("--batch"):
        raise RuntimeError("shapes differ")


def test_another_recipe_or_a_damaged_state_is_not_resumed(tmp_path):
    go(tmp_path, recipe={"lr": 0.01, "steps": 12})
    go(
        tmp_path, plan=Plan(steps=14, warmup=2), recipe={"lr": 0.01, "steps": 14}, resume=True
    )  # longer is welcome
    with pytest.raises(InputError, match=r"got lr 0\.02 instead of 0\.01; resume with the same"):
        go(tmp_path, recipe={"lr": 0.02}, resume=True)
    (tmp_path / "state.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="training state"):
        go(tmp_path, recipe={"lr": 0.01, "steps": 12}, resume=True)
    with pytest.raises(InputError, match="either steps or minutes"):
        go(tmp_path, plan=Plan())


def test_a_row_cut_off_by_a_kill_is_written_again(tmp_path):
    go(tmp_path, stop=5)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 1}\n{"step": 7, "lo')
    go(tmp_path, resume=True)
    assert [r["step"] for r in curve(tmp_path) if "loss" in r] == list(range(1, 13))


def test_shares_count_inner_time_once():
    shares = Shares()
    with shares.spent_on("student"), shares.spent_on("teacher"):
        sum(range(200_000))
    assert shares.seconds["teacher"] > 10 * shares.seconds["student"]


def test_a_plan_by_the_clock_ends_and_sgd_and_no_average_work(tmp_path):
    task = LineTask(average=0.0)
    task.optimiser = optimiser_of(
        "sgd", scaled_groups([("w", p, 1.0) for p in task.network.parameters()], lr=0.01, decay=0)
    )
    run = go(tmp_path, task, Plan(minutes=0.0005, clock="cpu", warmup=1))
    assert run.progress >= 1 and run.step >= 1
    for name, value in task.network.state_dict().items():
        assert torch.allclose(task.average.shadow[name].float(), value.float(), atol=1e-6)


def test_tensorboard_gets_the_rows(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard (samlet[train]); CI installs it")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Run(LineTask(), PLAN, tmp_path, {}, tensorboard=True).go()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("loss")] == list(range(1, 13))
    assert "held_out/box" in events.Tags()["scalars"]


def test_groups_of_their_own_rate(tmp_path):
    layer, frozen = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).requires_grad_(False)
    table = torch.nn.Parameter(torch.zeros(2, 3))
    named = [("a.weight", layer.weight, 0.5), ("a.bias", layer.bias, 0.5), ("x.attention_biases", table, 1.0)]
    groups = scaled_groups([*named, ("f.weight", frozen.weight, 1.0)], lr=0.1, decay=0.2)
    told = [(g["base_lr"], g["weight_decay"], len(g["params"])) for g in groups]
    assert told == [(0.05, 0.2, 1), (0.05, 0.0, 1), (0.1, 0.0, 1)]
    average = WeightAverage(torch.nn.BatchNorm1d(2), 0.9)
    average.update()
    assert average.shadow["num_batches_tracked"].dtype == torch.int64


def test_the_recipe_lies_beside_the_state(tmp_path):
    go(tmp_path, recipe={"lr": 0.01, "sizes": [[1.0, 64]]}, stop=1)
    assert json.loads((tmp_path / "recipe.json").read_text()) == {"lr": 0.01, "sizes": [[1.0, 64]]}
