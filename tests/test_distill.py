"""Distillation: students, distances, prompts from the teacher, all presets end to end, and what a run leaves."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("cv2") is None:
    pytest.skip("needs torch and OpenCV (samlet[train])", allow_module_level=True)

import torch

from samlet import registry
from samlet.backends.onnx import OnnxBackend
from samlet.cli import main
from samlet.errors import InputError
from samlet.evaluate.datasets import Dataset
from samlet.image import Image
from samlet.nets.nano import Nano
from samlet.nets.tiny_vit import TinyViT
from samlet.prompt import Prompt
from samlet.session import Session
from samlet.train import lessons as lessons_room
from samlet.train.agreement import compare
from samlet.train.finished import write_model
from samlet.train.lessons import Lessons, Live, Stored
from samlet.train.promptable import Promptable, freeze_prompts, load_network, parts_of
from samlet.train.recipes.distill import (
    DistillTask,
    Place,
    Recipe,
    check,
    distance,
    lessons_of,
    networks,
    run,
)
from samlet.train.sources import open_source
from samlet.train.students import STUDENTS, student_of
from samlet.train.teacher_embed import Job, embed
from samlet.train.teacher_prompts import ask_teacher, boxes_of, inside_of, jittered, middles_of
from samlet.train.teacher_store import Facts, TeacherStore
from tests.distill_pictures import SIZE, folder_of, set_of
from tests.train_runs import curve, weights


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="module")
def store(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    list(embed(Job("nano", (str(photos),), str(folder), size=SIZE, views=2, threads=1)))
    return folder


@pytest.fixture(scope="module")
def card():
    return registry.resolve("nano").resized(SIZE)


SMALL = Recipe(
    student="nano_plain_s",
    steps=3,
    batch=2,
    prompts=2,
    warmup=1,
    precision="fp32",
    layer_decay=1.0,
    average=0.0,
)


def place_of(photos, store, out, **changes):
    return Place("nano", (str(photos),), out, store=store, size=SIZE, log_steps=1, **changes)


def few_held_out(monkeypatch):
    monkeypatch.setattr(lessons_room, "HELD_OUT_EVERY", 4)


# ---- lessons and distances


def test_padding_does_not_count():
    taught = torch.randn(2, 4, 3, 3)
    made, valid = taught.clone(), torch.ones(2, 3, 3)
    valid[:, 2] = 0
    made[:, :, 2] += 100
    for kind in ("mse", "cosine", "mse+cosine", "weighted"):
        assert distance(made, taught, valid, kind).item() == pytest.approx(0, abs=1e-6)
    made[:, :, 0] += 1
    assert distance(made, taught, valid, "mse").item() == pytest.approx(0.5)
    assert distance(2 * taught, taught, valid, "cosine").item() == pytest.approx(0, abs=1e-6)


def test_weighted_distance_hears_quiet_channels():
    torch.manual_seed(0)
    taught = torch.randn(8, 4, 16, 16) * torch.tensor([100.0, 1, 1, 1]).reshape(1, 4, 1, 1)
    valid = torch.ones(8, 16, 16)
    quiet, loud = taught.clone(), taught.clone()
    quiet[:, 1] += 1
    loud[:, 0] += 100
    ratio = distance(quiet, taught, valid, "weighted") / distance(loud, taught, valid, "weighted")
    assert 0.7 < ratio < 1.3
    assert distance(quiet, taught, valid, "mse") < distance(loud, taught, valid, "mse") / 1000


def test_lessons_depend_on_seed_and_number_and_cover_an_epoch(photos, store, card):
    def lessons(seed):
        return Lessons(
            Stored(TeacherStore.open(store)), open_source([photos]), card, ratio=1, batch=3, seed=seed
        )

    one = lessons(1)
    assert one.per_epoch == 3 and one.canvases == ((128, 128), (128, 128), (128, 128))
    first = [one.make(i) for i in range(3)]
    seen = {key for lesson in first for key in lesson.keys}
    assert seen == set(one.keys) and len(seen) == 8
    again = lessons(1)
    again.make(2)
    for lesson, other in zip(first, map(again.make, range(3)), strict=True):
        assert lesson.keys == other.keys and np.array_equal(lesson.pixels, other.pixels)
    orders = [[lesson.keys for lesson in first], [one.make(i).keys for i in range(3, 6)]]
    assert orders[0] != orders[1] and orders[0] != [lessons(2).make(i).keys for i in range(3)]
    with pytest.raises(InputError, match="at least 9 pictures"):
        Lessons(Stored(TeacherStore.open(store)), open_source([photos]), card, ratio=1, batch=9, seed=1)


def test_student_and_teacher_see_the_same_view(photos, store, card):
    """The stored embedding of the pixels in a lesson is what the teacher says of them now."""
    teaching = Stored(TeacherStore.open(store))
    lessons = Lessons(teaching, open_source([photos]), card, ratio=1, batch=2, seed=1)
    session = Session(card, OnnxBackend(), threads=1)
    for view in (0, 1):
        lesson = lessons.lesson(["01.png", "03.png"], [view, view])
        h, w = (int(side) for side in lesson.scaled[1])
        assert lesson.inside[1].sum() == h * w
        image = (lesson.pixels[1:2].astype(np.float32) - 127) / 128 * lesson.inside[1:2, ..., None]
        frame = replace(teaching.read("03.png", view).frame, canvas_hw=lesson.pixels.shape[1:3])
        now = session.encode({"image": image.transpose(0, 3, 1, 2)}, frame).arrays["image_embeddings"][0]
        # Away from the padding, which is larger here than on the teacher's own canvas.
        part = np.s_[:, : h // 8 - 3, : w // 8 - 3]
        errors = [
            np.abs(now[part] - lessons.lesson(["01.png", "03.png"], [other, other]).taught[1][part]).mean()
            for other in (view, 1 - view)
        ]
        assert errors[0] < 0.1 * np.abs(now[part]).mean() and errors[1] > 3 * errors[0]


def test_live_teaching_needs_no_store(photos, card):
    source = open_source([photos])
    live = Live(Session(card, OnnxBackend(), threads=1), source, Facts.of(card, views=3))
    lessons = Lessons(live, source, card, ratio=2, batch=2, seed=1)
    lesson = lessons.make(0)
    assert lesson.pixels.shape == (2, 256, 256, 3) and lesson.taught.shape == (2, 256, 16, 16)


def test_a_changed_picture_is_refused(photos, store, card, tmp_path):
    other = folder_of(tmp_path / "other", 8, hw=(48, 80))
    lessons = Lessons(Stored(TeacherStore.open(store)), open_source([other]), card, ratio=1, batch=2, seed=1)
    with pytest.raises(InputError, match="embed the pictures again"):
        lessons.make(0)


# ---- prompts


def test_boxes_middles_and_insides_by_hand():
    masks = torch.zeros(2, 8, 10, dtype=torch.bool)
    masks[0, 2:5, 3:8] = True
    assert boxes_of(masks)[0].tolist() == [[12, 8], [32, 20]]
    assert middles_of(masks)[0].tolist() in ([4 * x + 1.5, 13.5] for x in (4, 5, 6))
    inside = inside_of(torch.tensor([[14.0, 9.0]]), (4, 5))
    assert inside[0].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0] * 5, [0] * 5]
    size = torch.tensor([[40.0, 32.0]] * 50)
    moved = jittered(torch.tensor([[[0.0, 0], [38, 30]]] * 50), size, torch.Generator().manual_seed(0))
    assert (moved >= 0).all() and (moved[:, 1] <= size).all() and (moved[:, 1] - moved[:, 0] >= 2).all()
    assert len(moved[:, 1, 0].unique()) > 10


def test_the_teacher_finds_objects_and_answers_for_them(photos, store, card):
    lessons = Lessons(Stored(TeacherStore.open(store)), open_source([photos]), card, ratio=1, batch=4, seed=1)
    lesson = lessons.make(0)
    teacher = load_network(card)
    asked = ask_teacher(
        teacher, torch.from_numpy(lesson.taught), torch.from_numpy(lesson.scaled), prompts=6, columns=3,
        dice=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert asked.coords.shape == (24, 3, 2) and asked.target.shape == (24, 4, 32, 32)
    assert asked.box.tolist() == [True, False] * 12
    assert asked.labels[0].tolist() == [2, 3, -1] and asked.labels[1].tolist() == [1, -1, -1]
    kept = asked.keep > 0
    assert kept.sum() >= 12
    for i in torch.nonzero(kept & asked.box)[:, 0].tolist():
        x0, y0, x1, y1 = (asked.coords[i, :2] / 4).reshape(4).tolist()
        mask = asked.target[i, 0]
        inner = mask[max(0, int(y0) - 2) : int(y1) + 3, max(0, int(x0) - 2) : int(x1) + 3].sum()
        assert inner / mask.sum() > 0.7
    assert (asked.target.amax(1)[asked.valid == 0] == 0).all()


# ---- runs


@pytest.mark.parametrize("preset", ["decoupled", "semi", "coupled", "prompts"])
def test_each_preset_trains_what_it_should(photos, store, card, tmp_path, monkeypatch, preset):
    few_held_out(monkeypatch)
    recipe = replace(SMALL, preset=preset, rounds=int(preset == "prompts"), fresh_decoder=preset == "coupled")
    path = run(recipe, place_of(photos, store, tmp_path))
    rows = curve(tmp_path)
    assert [r["step"] for r in rows if "loss" in r] == [1, 2, 3]
    assert {"mse", "box", "click"} <= rows[-1]["held_out"].keys()
    torch.manual_seed(recipe.seed)
    before, after = (
        networks(recipe, place_of(photos, store, tmp_path), card)[1],
        load_network(registry.resolve(path)),
    )
    moved = {
        name: any(
            not torch.allclose(a, b, atol=2e-3, rtol=2e-3)
            for a, b in zip(
                getattr(before, name).parameters(), getattr(after, name).parameters(), strict=True
            )
        )
        for name in ("encoder", "decoder")
    }
    assert moved == {"encoder": True, "decoder": preset in ("coupled", "prompts")}
    if preset == "prompts":
        assert "box+1" in rows[0] and "click+1" in rows[0]
        assert (tmp_path / "samples.png").stat().st_size > 1000


def task_of(recipe, photos, store, out, card):
    place = place_of(photos, store, out)
    student, network, teacher = networks(recipe, place, card)
    lessons = lessons_of(recipe, place, card, student, open_source(place.images))
    return DistillTask(recipe, student, network, teacher, lessons, torch.device("cpu"))


def test_held_out_figures_do_not_depend_on_how_many_prompts_are_trained(
    photos, store, card, tmp_path, monkeypatch
):
    few_held_out(monkeypatch)
    task = task_of(replace(SMALL, preset="semi", prompts=1), photos, store, tmp_path, card)
    with task.average.in_place():
        before = task.look()
        task.recipe = replace(task.recipe, prompts=3)
        assert task.look() == before


def test_each_part_learns_at_the_rate_it_was_given(photos, store, card, tmp_path):
    recipe = replace(
        SMALL, preset="prompts", student="nano_lite0", layer_decay=0.5, decoder_share=0.1, lr=1.0
    )
    task = task_of(recipe, photos, store, tmp_path, card)
    rates = {
        id(parameter): group["base_lr"]
        for group in task.optimiser.param_groups
        for parameter in group["params"]
    }
    encoder, decoder = task.network.encoder, task.network.decoder
    assert rates[id(encoder.backbone.stages[0][0].project.weight)] == pytest.approx(0.5**6)
    assert rates[id(encoder.neck.tokens[0].weight)] == 1
    assert {rates[id(p)] for p in decoder.parameters()} == {0.1}


@pytest.mark.parametrize("name", ["nano", "mobile_sam"])
def test_a_tuned_decoder_reads_prompts_as_before(name):
    decoder = parts_of(registry.resolve(name)).decoder.build()
    freeze_prompts(decoder)
    trained = {key for key, parameter in decoder.named_parameters() if parameter.requires_grad}
    frozen = {key for key, _ in decoder.named_parameters()} - trained
    assert {key.split(".")[0] for key in frozen} == (
        {"points", "hint4", "hint4_out", "hint8", "hint8_out", "hint16"}
        if name == "nano"
        else {"prompt_encoder"}
    )
    assert any("transformer" in key for key in trained) and not any("hint" in key for key in trained)


def test_masks_can_be_learnt_beside_the_embedding(photos, store, card, tmp_path):
    losses = {}
    for weight in (0.0, 0.5):
        task = task_of(replace(SMALL, preset="semi", embedding=weight), photos, store, tmp_path, card)
        loss, numbers = task.loss(task.batch(0, 0, 0.0), 0, 0)
        losses[weight] = loss.item(), numbers
    assert "apart" not in losses[0.0][1]
    apart = losses[0.5][1]["apart"]
    assert apart > 0 and losses[0.5][0] == pytest.approx(losses[0.0][0] + 0.5 * apart, rel=1e-5)


def test_distilling_brings_the_student_closer(photos, store, tmp_path, monkeypatch):
    few_held_out(monkeypatch)
    run(replace(SMALL, steps=30, lr=5e-3), place_of(photos, store, tmp_path))
    losses = [r["loss"] for r in curve(tmp_path) if "loss" in r]
    assert losses[-1] < 0.8 * losses[0]


def test_a_resumed_distillation_is_the_unbroken_one(photos, store, tmp_path):
    recipe = replace(SMALL, steps=4, preset="semi", average=0.9)
    run(recipe, place_of(photos, store, tmp_path / "whole", save_steps=2))
    run(recipe, place_of(photos, store, tmp_path / "parts", save_steps=2), stop=2)
    run(recipe, place_of(photos, store, tmp_path / "parts", save_steps=2), resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(np.array_equal(whole[k], parts[k]) for k in whole)
    assert curve(tmp_path / "whole") == curve(tmp_path / "parts")


def test_the_result_is_a_model_and_epochs_give_its_length(photos, store, tmp_path, capsys):
    words = [
        "distill",
        "--teacher",
        "nano",
        "--size",
        str(SIZE),
        "--images",
        str(photos),
        "--store",
        str(store),
    ]
    words += [
        "--student",
        "nano_plain_s",
        "--epochs",
        "0.5",
        "--batch",
        "2",
        "--precision",
        "fp32",
        "--name",
        "tiny",
    ]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "8 pictures, 0 held out, 4 batches an epoch" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["layer_decay"] == 0.8
    path = tmp_path / "run" / "student.safetensors"
    assert registry.resolve(path).name == "tiny"
    assert (
        main(
            [
                "segment",
                str(photos / "01.png"),
                "--model",
                str(path),
                "--point",
                "16,24",
                "--output",
                str(tmp_path),
            ]
        )
        == 0
    )
    assert list(tmp_path.glob("01.*.png"))
    assert not path.with_suffix(".pt").exists()  # nano's decoder is not SAM's


def test_sam_shaped_students_also_leave_mobile_sams_layout(tmp_path):
    sam = registry.resolve("mobile_sam")
    network = Promptable(TinyViT("5m"), registry_decoder())
    path = write_model(
        network,
        student_of("tiny_vit_5m").card(sam, name="mine", decoder_graph="sam_decoder.onnx"),
        tmp_path / "student.safetensors",
    )
    loaded = torch.load(tmp_path / "student.pt", weights_only=True)
    assert len(loaded) == 439  # as many as mobile_sam.pt has
    assert torch.equal(loaded["image_encoder.neck.0.weight"], network.encoder.neck[0].weight)
    official = registry.resolve(tmp_path / "student.pt")
    assert official.graphs == registry.resolve(path).graphs == sam.graphs


def registry_decoder():
    from samlet.nets.mask_decoder import SamDecoder

    return SamDecoder()


def test_a_student_of_twice_the_pixels_prompts_in_the_right_place(card, tmp_path):
    """Its card says so: the decoder's canvas pixels are not the encoder's."""
    student = student_of("tiny_vit_5m")
    network = Promptable(student.build().eval(), Nano().decoder)
    path = write_model(
        network,
        student.card(card, name="twice", decoder_graph="nano_decoder.onnx"),
        tmp_path / "s.safetensors",
    )
    session = Session(registry.resolve(path), OnnxBackend(), threads=1)
    image = Image.load(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))
    view = session.embed(image)
    assert view.arrays["image_embeddings"].shape == (1, 256, SIZE // 8, SIZE // 8)
    logits = session.segment(view, Prompt.make(image_hw=image.hw, points=[[40, 90]])).logits[0]
    stored = load_network(registry.resolve(path)).eval()  # float16, as the file has it
    with torch.no_grad():
        embedding = torch.tensor(view.arrays["image_embeddings"])
        grid = SIZE // 4
        coords, labels = torch.tensor([[[40.0, 90.0], [0, 0]]]), torch.tensor([[1.0, -1.0]])
        _, masks = stored.decode(embedding, coords, labels, torch.zeros(1, 1, grid, grid), torch.zeros(1))
    wanted = torch.nn.functional.interpolate(masks, scale_factor=2.0, mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()
    assert np.abs(logits - wanted).max() < 1e-3 * wanted.std() + 1e-4


def test_options_that_do_not_fit_are_one_sentence(photos, store, tmp_path):
    for changes, message in (
        ({"embedding": -1.0}, "at least 0"),
        ({"decoder_share": 0.0}, "above 0, got 0.0 and 0.0"),
        ({"preset": "fast"}, "expected a preset"),
        ({"distance": "l1"}, "expected a distance"),
        ({"optimiser": "lion"}, "expected an? optimiser"),
        ({"batch": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            check(replace(SMALL, **changes))
    with pytest.raises(InputError, match="give its teacher and --size"):
        run(SMALL, replace(place_of(photos, store, tmp_path), size=64))
    sam_like = replace(SMALL, student="efficientvit_l0", batch=9)
    with pytest.raises(InputError, match="at least 9 pictures"):
        run(sam_like, place_of(photos, store, tmp_path))
    assert main(["distill", "--teacher", "nano"]) == 2
    assert (
        main(
            [
                "distill",
                "--teacher",
                "nano",
                "--images",
                str(photos),
                "--out",
                str(tmp_path),
                "--preset",
                "prompts",
            ]
        )
        == 2
    )


def test_agreement_with_oneself_is_one(card, tmp_path, capsys):
    session = Session(card, OnnxBackend(), threads=1)
    root = set_of(tmp_path / "discs", 2)
    found = compare(session, session, Dataset.open(root))
    assert found.box == [1.0] * 4 and found.click == [1.0] * 4
    assert found.summary("truth_box").mean > 0.5
    assert main(["distill", "compare", "nano", "--teacher", "nano", "--on", str(root), "--every", "2"]) == 0
    assert "nano: " in capsys.readouterr().out


def test_every_student_has_its_graph():
    for student in STUDENTS.values():
        assert any(f"{student.graph}.onnx" == path.name for path in graphs())


def graphs():
    from pathlib import Path

    import samlet

    return list((Path(samlet.__path__[0]) / "graphs").glob("*.onnx"))
