"""FastSAM called as Ultralytics' users call it, on a fake network whose regions are known."""

from typing import Any

import numpy as np
import pytest

import samlet.model
from samlet.compat.ultralytics import FastSAM, FastSAMPredictor, Results
from samlet.errors import InputError, MissingExtraError, ModelError, PromptError

from .compat_ultralytics_stubs import HW, REGIONS, fake_fastsam, fake_sam, picture

LEFT, PART, RIGHT = (np.array(box) for box, _ in REGIONS.values())


@pytest.fixture
def fast() -> FastSAM:
    return FastSAM(fake_fastsam()[0])


def covers(result: Results, row: int, box: Any) -> bool:
    """Whether a mask is the region of that box, give or take the network's coarse cells."""
    x0, y0, x1, y1 = box
    wanted = np.zeros(HW, bool)
    wanted[y0:y1, x0:x1] = True
    mask = result.masks.data[row].numpy()
    return bool((mask & wanted).sum() > 0.95 * (mask | wanted).sum())


def test_everything(fast: FastSAM) -> None:
    (result,) = fast(picture(), device="cpu", retina_masks=True, imgsz=1024, conf=0.4, iou=0.9)
    assert len(result) == 3
    assert result.boxes.conf.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert np.abs(result.boxes.xyxy.numpy() - [LEFT, PART, RIGHT]).max() < 1
    assert all(covers(result, row, box) for row, box in enumerate((LEFT, PART, RIGHT)))


def test_thresholds_and_number(fast: FastSAM) -> None:
    assert len(fast(picture(), conf=0.75)[0]) == 2
    assert len(fast(picture(), max_det=1)[0]) == 1
    assert len(fast(picture(), iou=0.05)[0]) == 2  # the part overlaps the left thing by 1/16


def test_each_box_has_its_mask_in_order_even_twice(fast: FastSAM) -> None:
    boxes = [RIGHT, LEFT, PART, RIGHT]
    (result,) = fast(picture(), bboxes=[box.tolist() for box in boxes])
    assert [covers(result, row, box) for row, box in enumerate(boxes)] == [True] * 4
    assert result.boxes.conf.tolist() == pytest.approx([0.7, 0.9, 0.8, 0.7])
    assert len(fast(picture(), bboxes=LEFT.tolist())[0]) == 1


def test_a_box_that_nothing_fits_keeps_its_place(fast: FastSAM) -> None:
    (result,) = fast(picture(), bboxes=[[330, 10, 380, 50], RIGHT.tolist()])
    assert len(result) == 2 and not result.masks.data[0].any() and covers(result, 1, RIGHT)
    assert result.boxes.xyxy[0].tolist() == [0, 0, 0, 0] and result.boxes.conf[0] == 0


def test_points_are_objects(fast: FastSAM) -> None:
    (result,) = fast(picture(), points=[[500, 200], [200, 200]], labels=[1, 1])
    assert len(result) == 2 and covers(result, 0, RIGHT) and covers(result, 1, LEFT)
    assert covers(fast(picture(), points=[200, 200], labels=[1])[0], 0, LEFT)


@pytest.mark.parametrize(
    ("points", "labels"), [([[200, 200], [100, 100]], [1, 0]), ([[[200, 200], [100, 100]]], [[1, 0]])]
)
def test_a_background_point_cuts_out(fast: FastSAM, points: Any, labels: Any) -> None:
    (result,) = fast(picture(), points=points, labels=labels)
    assert len(result) == 1
    mask = result.masks.data[0]
    assert mask[200, 200] and not mask[120, 120] and not mask[200, 500]


def test_a_region_that_agrees_with_all_points_goes_before_cutting() -> None:
    body = (180, 180, 300, 300)
    fast = FastSAM(fake_fastsam({**REGIONS, "body": (body, 0.6)})[0])
    (result,) = fast(picture(), points=[[200, 200], [20, 20]], labels=[1, 0])
    assert covers(result, 0, body) and result.boxes.conf.tolist() == pytest.approx([0.6])


@pytest.mark.parametrize("point", [[-5, 5], [5, -5], [HW[1] + 1, 5], [5, HW[0] + 1]])
def test_points_outside_the_picture_are_refused_and_never_wrap(fast: FastSAM, point: list[int]) -> None:
    with pytest.raises(PromptError, match="inside the picture"):
        fast(picture(), points=[point], labels=[1])


def test_a_point_on_nothing_gives_nothing(fast: FastSAM) -> None:
    (result,) = fast(picture(), points=[[360, 20]], labels=[1])
    assert result.masks is None and len(result.boxes) == 0 and len(result) == 0


@pytest.mark.parametrize(
    "prompts", [{}, {"bboxes": [1, 2, 30, 40]}, {"points": [[5, 5]], "labels": [1]}, {"texts": "a dog"}]
)
def test_a_picture_without_objects_gives_an_empty_result(prompts: dict[str, Any]) -> None:
    fast = FastSAM(fake_fastsam({})[0], scorer=lambda crops, text: [1.0] * len(crops))
    (result,) = fast(picture(), **prompts)
    assert result.masks is None and result.boxes.xyxy.shape == (0, 4)
    assert result.verbose() == "(no detections), " and result.plot().shape == (*HW, 3)
    assert result.summary() == [] and list(result) == []


def test_a_detector_that_found_nothing_before(fast: FastSAM) -> None:
    assert fast(picture(), bboxes=np.zeros((0, 4)))[0].masks is None
    assert fast(picture(), points=[])[0].masks is None


def test_all_kinds_of_prompts_at_once(fast: FastSAM) -> None:
    fast.scorer = lambda crops, text: [-abs(crop.shape[0] - 80) for crop in crops]  # likes the part
    (result,) = fast(
        picture(), bboxes=[439, 150, 524, 290], points=[[200, 200]], labels=[1], texts="a photo of a dog"
    )
    assert [covers(result, row, box) for row, box in enumerate((RIGHT, LEFT, PART))] == [True] * 3


def test_texts_need_a_scorer(fast: FastSAM) -> None:
    with pytest.raises(MissingExtraError, match="scorer=rate"):
        fast(picture(), texts="a photo of a dog")
    with pytest.raises(PromptError, match="expected texts"):
        fast(picture(), texts=[""])


def test_the_network_runs_once_and_in_the_size_asked_for() -> None:
    model, network = fake_fastsam()
    fast = FastSAM(model)
    fast(picture())
    fast(points=[[200, 200]], labels=[1])
    assert network.shapes == [(1, 3, 512, 1024)]
    assert covers(fast(imgsz=640, bboxes=RIGHT.tolist())[0], 0, RIGHT)
    assert network.shapes[1:] == [(1, 3, 320, 640)]
    with pytest.raises(InputError, match="imgsz from 32"):
        fast(imgsz=7)


def test_masks_have_the_size_of_the_picture_either_way(fast: FastSAM) -> None:
    (result,) = fast(picture(), retina_masks=False)
    assert result.masks.data.shape == (3, *HW) and covers(result, 2, RIGHT)


def test_only_fastsam_is_taken() -> None:
    with pytest.raises(ModelError, match="use SAM"):
        FastSAM(fake_sam())


EXAMPLE = """
from samlet.compat.ultralytics import FastSAM
source = "path/to/bus.jpg"
model = FastSAM("FastSAM-s.pt")
everything_results = model(source, device="cpu", retina_masks=True, imgsz=1024, conf=0.4, iou=0.9)
box_results = model(source, bboxes=[439, 137, 524, 309])
point_results = model(source, points=[[200, 200]], labels=[1])
"""
PREDICTOR = """
from samlet.compat.ultralytics import FastSAMPredictor
overrides = dict(conf=0.25, task="segment", mode="predict", model="FastSAM-s.pt", save=False, imgsz=1024)
predictor = FastSAMPredictor(overrides=overrides)
everything_results = predictor("path/to/bus.jpg")
box_results = predictor.prompt(everything_results, bboxes=[[200, 200, 300, 300]])
point_results = predictor.prompt(everything_results, points=[200, 200])
"""


@pytest.mark.parametrize("example", [EXAMPLE, PREDICTOR])
def test_examples_of_the_documentation(example: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image as PillowImage

    (tmp_path / "path/to").mkdir(parents=True)
    PillowImage.fromarray(picture()).save(tmp_path / "path/to/bus.jpg")
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(samlet.model, "load", lambda name, **_: asked.append(str(name)) or fake_fastsam()[0])
    names: dict[str, Any] = {}
    exec(example, names)
    assert asked == ["FastSAM-s.pt"]
    assert len(names["everything_results"][0]) == 3  # not changed by what was chosen from it
    assert len(names["box_results"][0]) == 1
    assert covers(names["point_results"][0], 0, LEFT)


def test_a_predictor_chooses_from_earlier_results() -> None:
    predictor = FastSAMPredictor(
        overrides={"model": fake_fastsam()[0], "scorer": lambda crops, text: [len(crop) for crop in crops]}
    )
    results = predictor(picture())
    assert covers(predictor.prompt(results, texts="the largest thing")[0], 0, LEFT)
    assert covers(predictor.prompt(results[0], bboxes=[PART.tolist(), RIGHT.tolist()])[0], 1, RIGHT)
    assert predictor.prompt(results)[0] is results[0]
    assert predictor.prompt(results, points=[[360, 20]])[0].masks is None
    with pytest.raises(InputError, match="earlier call"):
        predictor.prompt(None)
    with pytest.raises(InputError, match="earlier call"):
        predictor.prompt(["x"], points=[1, 2])
