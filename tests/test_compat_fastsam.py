"""FastSAM's own interface: its users' code runs with the import changed, and its faults stay away."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet.compat.fastsam import FastSAM, FastSAMPrompt
from samlet.errors import ImageError, InputError, MissingExtraError, PromptError
from samlet.image import Image
from samlet.registry import resolve
from samlet.session import Session
from tests.fastsam_scenes import CARD, HW, OBJECT_AWARE, Thing, model_of, picture

SCENE = (Thing((0, 0, 256, 120), 0.9), Thing((40, 20, 120, 100), 0.8), Thing((60, 40, 80, 60), 0.7))
FULL, MIDDLE, INNER = (thing.mask() for thing in SCENE)


def fast_sam(*things: Thing) -> FastSAM:
    return FastSAM(model_of(things)[0])


def prompt(*things: Thing, **options: Any) -> FastSAMPrompt:
    return FastSAMPrompt(picture(), fast_sam(*things)(picture()), **options)


def test_the_usual_code_runs_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README of the original shows, with a scene in place of its weights."""
    IMAGE_PATH, DEVICE = str(tmp_path / "dogs.png"), "cpu"
    PillowImage.fromarray(picture().pixels).save(IMAGE_PATH)
    monkeypatch.setattr("samlet.load", lambda name: {"./weights/FastSAM.pt": model_of(SCENE)[0]}[name])

    model = FastSAM("./weights/FastSAM.pt")
    everything_results = model(IMAGE_PATH, device=DEVICE, retina_masks=True, imgsz=1024, conf=0.4, iou=0.9)
    prompt_process = FastSAMPrompt(IMAGE_PATH, everything_results, device=DEVICE)

    ann = prompt_process.everything_prompt()
    np.testing.assert_array_equal(ann.cpu().numpy(), [FULL, MIDDLE, INNER])
    ann = prompt_process.box_prompt(bboxes=[[61, 41, 79, 59]])
    np.testing.assert_array_equal(ann, [INNER])
    ann = prompt_process.point_prompt(points=[[70, 50]], pointlabel=[1])
    np.testing.assert_array_equal(ann, [FULL])
    output = tmp_path / "output" / "dog.jpg"
    prompt_process.plot(annotations=ann, output_path=str(output))
    with PillowImage.open(output) as drawn:
        assert drawn.size == HW[::-1]


def test_results_look_like_the_originals() -> None:
    (result,) = fast_sam(*SCENE)(picture())
    assert len(result) == 3
    assert result.masks.data.shape == (3, *HW)
    assert (result.orig_shape, result.path) == (HW, "array")
    np.testing.assert_array_equal(result.orig_img, picture().pixels[:, :, ::-1])
    data = result.cpu().boxes.data.cpu().numpy()
    np.testing.assert_allclose(data, [[*thing.box, thing.score, 0] for thing in SCENE], rtol=1e-6)
    assert result.boxes.xyxy.shape == (3, 4)


def test_a_list_of_pictures_gives_a_result_each() -> None:
    results = fast_sam(*SCENE)([picture(), picture(seed=1)], conf=0.75, max_det=1)
    assert [len(result) for result in results] == [1, 1]


@pytest.mark.parametrize(("imgsz", "width"), [(256, 256), (250, 256), ([120, 512], 512), (1024, 1024)])
def test_the_networks_size_can_be_chosen(imgsz: Any, width: int) -> None:
    model, backend = model_of(SCENE)
    (result,) = FastSAM(model)(picture(), imgsz=imgsz)
    assert backend.fed[0].shape[3] == width
    assert result.masks.data.shape == (3, *HW)
    np.testing.assert_array_equal(result.masks.data[0], FULL)


@pytest.mark.parametrize("imgsz", [0, -32, 10**6, 640.5, "big", None])
def test_impossible_sizes_are_refused(imgsz: Any) -> None:
    with pytest.raises(InputError, match="imgsz"):
        fast_sam(*SCENE)(picture(), imgsz=imgsz)


def test_arrays_are_in_opencvs_order_and_the_rest_in_its_own(tmp_path: Path) -> None:
    model, backend = model_of(SCENE)
    rgb = picture().pixels
    path = tmp_path / "a.png"
    PillowImage.fromarray(rgb).save(path)
    sources: list[Any] = [rgb[:, :, ::-1], PillowImage.fromarray(rgb), path, str(path), path.read_bytes()]
    FastSAM(model)(sources, imgsz=256)
    for fed in backend.fed:
        np.testing.assert_array_equal(fed, backend.fed[0])
    np.testing.assert_allclose(fed[0, :, 4:124].transpose(1, 2, 0) * 255, rgb, atol=1e-3)
    assert FastSAMPrompt(rgb[:, :, ::-1]).image.digest() == Image.load(rgb).digest()
    assert FastSAMPrompt(rgb[:, :, 0]).image.hw == HW
    with pytest.raises(ImageError, match="BGR"):
        FastSAM(model)(np.zeros((4, 4, 4), np.uint8))


def test_coarse_masks_have_the_pictures_size() -> None:
    (result,) = fast_sam(*SCENE)(picture(), retina_masks=False, imgsz=256)
    assert result.masks.data.shape == (3, *HW)
    assert (result.masks.data[1] & MIDDLE).sum() == MIDDLE.sum()


# --- nothing found -------------------------------------------------------------------------------------------------


def test_nothing_found_is_an_empty_result(tmp_path: Path) -> None:
    """The original gives [] and fails at results[0]; older ones give None."""
    results = fast_sam()(picture())
    assert results[0].masks.data.shape == (0, *HW)
    assert results[0].boxes.data.shape == (0, 6)
    for found in (results, [], None, np.zeros((0, 7, 7)), SimpleNamespace(masks=None)):
        process = FastSAMPrompt(picture(), found, scorer=lambda crops, text: [0.0] * len(crops))
        assert process.everything_prompt().shape == (0, *HW)
        answers = [
            process.point_prompt([[5, 5]], [1]),
            process.box_prompt(bbox=[1, 1, 9, 9]),
            process.text_prompt("a dog"),
        ]
        assert [answer.shape for answer in answers] == [(1, *HW)] * 3
        assert not any(answer.any() for answer in answers)
        assert process.box_prompt(bboxes=[[1, 1, 9, 9]] * 4).shape == (4, *HW)
        process.plot(process.everything_prompt(), tmp_path / "empty.png")
        np.testing.assert_array_equal(Image.load(tmp_path / "empty.png").pixels, picture().pixels)


# --- points --------------------------------------------------------------------------------------------------------


def test_points_with_labels_carve() -> None:
    process = prompt(*SCENE)
    answer = process.point_prompt(points=[[70, 50], [50, 30]], pointlabel=[0, 1])
    np.testing.assert_array_equal(answer, [FULL & ~INNER])


def test_each_object_has_its_mask() -> None:
    process = prompt(*SCENE[1:])
    points = [[[70, 50]], [[50, 30], [70, 50]], [[250, 5]]]
    answer = process.point_prompt(points=points, pointlabel=[[1], [1, 0], [1]])
    assert answer.shape == (3, *HW)
    np.testing.assert_array_equal(answer[0], MIDDLE)
    assert not answer[1].any()  # its background click lies in both masks, and it is the last
    assert not answer[2].any()
    np.testing.assert_array_equal(process.point_prompt(np.array([[[70, 50]]]))[0], MIDDLE)


@pytest.mark.parametrize("point", [[-1, -1], [256.5, 5], [5, 500], [-100000, 3]])
def test_points_outside_the_picture_hit_nothing(point: Any) -> None:
    assert not prompt(*SCENE).point_prompt([point], [1]).any()


def test_points_without_labels_are_foreground_and_none_are_nothing() -> None:
    process = prompt(*SCENE)
    np.testing.assert_array_equal(process.point_prompt([[70, 50]]), [FULL])
    assert not process.point_prompt([], []).any()
    with pytest.raises(PromptError, match="one label a point"):
        process.point_prompt([[70, 50]], [1, 0])


# --- boxes ---------------------------------------------------------------------------------------------------------


def test_boxes_have_one_mask_each_in_order() -> None:
    boxes = [[61, 41, 79, 59], [0, 0, 256, 120], [41, 21, 119, 99], [60, 40, 80, 60]]
    given = [list(box) for box in boxes]
    answer = prompt(*SCENE).box_prompt(bboxes=boxes)
    np.testing.assert_array_equal(answer, [INNER, FULL, MIDDLE, INNER])
    assert boxes == given
    np.testing.assert_array_equal(prompt(*SCENE).box_prompt(bboxes=boxes[0]), [INNER])
    np.testing.assert_array_equal(prompt(*SCENE).box_prompt(bbox=np.array(boxes[2])), [MIDDLE])


def test_boxes_out_of_range_are_cut() -> None:
    np.testing.assert_array_equal(prompt(*SCENE).box_prompt(bbox=[-50, -50, 900, 900]), [FULL])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bbox": [0, 0, 0, 0]},
        {"bbox": [9, 9, 9, 20]},
        {"bboxes": [[1, 1, 5, 5], [300, 1, 400, 9]]},
        {"bbox": [1, 2, 3]},
    ],
)
def test_boxes_that_are_none_are_refused(options: Any) -> None:
    with pytest.raises(PromptError, match="expected"):
        prompt(*SCENE).box_prompt(**options)


# --- words ---------------------------------------------------------------------------------------------------------


def narrowest(crops: list[NDArray[np.uint8]], text: str) -> list[float]:
    return [-float(crop.shape[0]) for crop in crops]


def test_words_need_a_scorer() -> None:
    with pytest.raises(MissingExtraError, match="pass FastSAMPrompt"):
        prompt(*SCENE).text_prompt("a dog")


def test_words_choose_a_mask() -> None:
    """The original fails with a NameError here, and repairs its index wrongly."""
    np.testing.assert_array_equal(prompt(*SCENE, scorer=narrowest).text_prompt("small"), [INNER])
    np.testing.assert_array_equal(prompt(*SCENE).text_prompt("small", scorer=narrowest, crop="box"), [INNER])
    np.testing.assert_array_equal(prompt(*SCENE, scorer=narrowest).text_prompt("small", wider=True), [FULL])


# --- other people's results ----------------------------------------------------------------------------------------


def test_masks_of_another_size_are_prompted_in_picture_pixels() -> None:
    """Results of the original have the network's size without `retina_masks`."""
    half = np.stack([FULL, MIDDLE, INNER])[:, ::2, ::2].astype(np.float32)
    other = [SimpleNamespace(masks=SimpleNamespace(data=half))]
    process = FastSAMPrompt(picture(), other, scorer=narrowest)
    assert process.everything_prompt().shape == (3, 60, 128)
    np.testing.assert_array_equal(process.box_prompt(bbox=[60, 40, 80, 60]), half[2:] > 0)
    np.testing.assert_array_equal(process.point_prompt([[250, 110]], [1]), half[:1] > 0)
    # The smallest has 100 pixels at this size and takes no part.
    np.testing.assert_array_equal(process.text_prompt("small"), half[1:2] > 0)
    assert process.plot_to_result(half).shape == (*HW, 3)
    with pytest.raises(InputError, match="N, H, W"):
        FastSAMPrompt(picture(), half[0]).everything_prompt()


# --- drawing -------------------------------------------------------------------------------------------------------


def test_drawings_show_masks_boxes_and_clicks(tmp_path: Path) -> None:
    process = prompt(*SCENE)
    plain = process.plot_to_result([])
    np.testing.assert_array_equal(plain, picture().pixels)
    masks = process.plot_to_result([{"segmentation": MIDDLE}, INNER])
    assert (masks[60, 100] != plain[60, 100]).any()
    np.testing.assert_array_equal(masks[5, 5], plain[5, 5])
    asked = process.plot_to_result(
        [], bboxes=[[10, 10, 60, 60]], points=[[200, 60], [100, 60]], point_label=[1, 0]
    )
    assert (asked != plain).any(axis=2)[10, 30]
    assert asked[60, 200].min() > 200 and asked[60, 100].min() > 200  # the white plus and minus
    process.plot(FULL[None], tmp_path / "a" / "b.png", withContours=False, retina=True, better_quality=False)
    assert (tmp_path / "a" / "b.png").exists()
    with pytest.raises(InputError, match=r"\.png"):
        process.plot(FULL[None], tmp_path / "a.gif")


# --- models --------------------------------------------------------------------------------------------------------


def test_models_of_other_families_are_refused() -> None:
    with pytest.raises(InputError, match=r"FastSAM-s\.pt"):
        FastSAM(model_of(SCENE, card=OBJECT_AWARE)[0])


def test_answers_are_those_of_samlets_own_interface() -> None:
    model, _ = model_of(SCENE)
    (result,) = FastSAM(model)(picture(), imgsz=256)
    mine = model.segment(picture(), boxes=[[60, 40, 80, 60]])
    np.testing.assert_array_equal(
        mine.masks, FastSAMPrompt(picture(), [result]).box_prompt(bbox=[60, 40, 80, 60])
    )
    assert resolve("nano").family != CARD.family
    assert isinstance(model.session, Session)


def test_torch_is_not_imported() -> None:
    code = "import sys, samlet.compat.fastsam; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
