"""SAM called as Ultralytics' users call it: prompts in every nesting, sources, examples, and what is refused."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet
import samlet.model
from samlet.compat.ultralytics import SAM, MissingCallError, SAMPredictor
from samlet.errors import ImageError, InputError, ModelError, PromptError

from .compat_ultralytics_stubs import fake_fastsam, fake_sam, picture

HW = (60, 80)
SRC = Path(__file__).parent.parent / "src"


@pytest.fixture
def sam() -> SAM:
    return SAM(fake_sam())


@pytest.fixture
def array() -> np.ndarray:
    return picture(hw=HW)


@pytest.fixture(scope="module")
def nano() -> samlet.Model:
    return samlet.load()


def expected(array: np.ndarray, **prompts: Any) -> samlet.Masks:
    """What samlet itself answers; arrays are BGR here and RGB there."""
    return fake_sam().segment(np.ascontiguousarray(array[..., ::-1]), **prompts)


POINTS = [  # what is written here, and what it means there
    (dict(points=[20, 30]), dict(points=[[[20, 30]]])),
    (dict(points=[20, 30], labels=[1]), dict(points=[[[20, 30]]])),
    (dict(points=[20, 30], labels=1), dict(points=[[[20, 30]]])),
    (dict(points=[[20, 30]], labels=[[1]]), dict(points=[[[20, 30]]])),
    (dict(points=[[20, 30], [50, 40]], labels=[1, 1]), dict(points=[[[20, 30]], [[50, 40]]])),
    (dict(points=[[20, 30], [50, 40]]), dict(points=[[[20, 30]], [[50, 40]]])),
    (dict(points=[[20, 30], [50, 40]], labels=[[1], [1]]), dict(points=[[[20, 30]], [[50, 40]]])),
    (
        dict(points=[[[20, 30], [35, 30]]], labels=[[1, 0]]),
        dict(points=[[[20, 30], [35, 30]]], labels=[[1, 0]]),
    ),
    (
        dict(points=[[[20, 30], [35, 30]]], labels=[1, 0]),
        dict(points=[[[20, 30], [35, 30]]], labels=[[1, 0]]),
    ),
    (dict(points=[[20, 30], [35, 30]], labels=[[1, 0]]), dict(points=[[20, 30], [35, 30]], labels=[1, 0])),
    (
        dict(points=[[[20, 30], [35, 30]], [[50, 40]]], labels=[[1, 0], [1]]),
        dict(points=[[[20, 30], [35, 30]], [[50, 40]]], labels=[[1, 0], [1]]),
    ),
    (
        dict(points=[[20, 30], [[50, 40], [60, 40]]], labels=[[1], [1, 0]]),
        dict(points=[[[20, 30]], [[50, 40], [60, 40]]], labels=[[1], [1, 0]]),
    ),
    (dict(points=[(20, 30), (50, 40)], labels=(1, 1)), dict(points=[[[20, 30]], [[50, 40]]])),
    (dict(points=np.array([[20.5, 30.5]]), labels=np.array([1])), dict(points=[20.5, 30.5])),
    (dict(bboxes=[10, 12, 40, 50]), dict(boxes=[10, 12, 40, 50])),
    (
        dict(bboxes=[[10, 12, 40, 50], [5, 5, 20, 20], [10, 12, 40, 50]]),
        dict(boxes=[[10, 12, 40, 50], [5, 5, 20, 20], [10, 12, 40, 50]]),
    ),
    (
        dict(bboxes=[10, 12, 40, 50], points=[[[35, 30], [20, 20]]], labels=[[0, 1]]),
        dict(boxes=[10, 12, 40, 50], points=[[[35, 30], [20, 20]]], labels=[[0, 1]]),
    ),
    (
        dict(bboxes=[[10, 12, 40, 50], [5, 5, 20, 20]], points=[[35, 30], [15, 15]], labels=[0, 1]),
        dict(boxes=[[10, 12, 40, 50], [5, 5, 20, 20]], points=[[[35, 30]], [[15, 15]]], labels=[[0], [1]]),
    ),
]


@pytest.mark.parametrize(("written", "meant"), POINTS, ids=[str(each[0])[:60] for each in POINTS])
def test_every_nesting_means_what_it_says(
    sam: SAM, array: np.ndarray, written: dict[str, Any], meant: dict[str, Any]
) -> None:
    (result,) = sam(array, **written)
    answer = expected(array, **meant)
    assert len(result) == len(answer) > 0
    assert np.array_equal(result.masks.data, answer.masks)
    assert np.array_equal(result.boxes.xyxy, answer.boxes_xyxy)
    assert np.array_equal(result.boxes.conf, answer.scores)


def test_a_background_point_changes_the_mask(sam: SAM, array: np.ndarray) -> None:
    with_it = sam(array, points=[[[20, 30], [26, 30]]], labels=[[1, 0]])[0].masks.data[0]
    without = sam(array, points=[[[20, 30], [26, 30]]], labels=[[1, 1]])[0].masks.data[0]
    assert without[30, 26] and not with_it[30, 26]


WRONG = [
    (dict(points=[[20, 30], [50, 40]], labels=[1, 0]), "background points only; put points on one object"),
    (dict(points=[[20, 30], [50, 40]], labels=[1, 1, 1]), "one label a point, 2 in all, got 3"),
    (dict(points=[1, 2, 3]), "expected points as"),
    (dict(points="here"), "expected points as"),
    (dict(points=[[1, 2], [3, 4, 5]]), "expected points as"),
    (dict(points=[[1, 2], "here"]), "expected points as"),
    (dict(points=[20, 30], labels="inside"), "expected labels as 1 and 0"),
    (dict(points=[20, 30], labels=[[1], "in"]), "expected labels as 1 and 0"),
    (dict(labels=[1]), "labels alone"),
    (dict(labels=[1], bboxes=[1, 2, 3, 4]), "labels alone"),
    (dict(points=[20, 30], labels=[2]), "expected labels 1"),
    (dict(points=[200, 30]), "inside the picture"),
    (dict(points=[-1, 30]), "inside the picture"),
    (dict(bboxes=[1, 2, 3]), "expected bboxes as"),
    (dict(bboxes=[[1, 2, 3, 4], [1, 2]]), "expected bboxes as"),
    (dict(bboxes=[40, 2, 3, 4]), "swap its corners"),
    (dict(bboxes=[1, 2, 30, 40], points=[[5, 5], [9, 9]], labels=[1, 0]), "nest the points of one object"),
    (dict(masks=np.zeros((1, 7, 7))), "expected masks of the picture's size"),
    (dict(masks=np.zeros((1, *HW), bool)), "got an empty one"),
    (dict(masks=[["a"]]), "expected masks of shape"),
]


@pytest.mark.parametrize(("written", "sentence"), WRONG, ids=[each[1] for each in WRONG])
def test_prompts_that_make_no_sense(
    sam: SAM, array: np.ndarray, written: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PromptError, match=sentence):
        sam(array, **written)


def test_prompts_from_a_detector_that_found_nothing(sam: SAM, array: np.ndarray) -> None:
    for none in (dict(bboxes=[]), dict(bboxes=np.zeros((0, 4))), dict(points=[]), dict(points=[], labels=[])):
        (result,) = sam(array, **none)
        assert result.masks is None and len(result.boxes) == 0
    assert len(sam(array, bboxes=[1, 2, 30, 40], points=[])[0]) == 1


def test_boxes_of_one_result_prompt_the_next(sam: SAM, array: np.ndarray) -> None:
    boxes = sam(array, points=[[20, 30], [50, 40]])[0].boxes.xyxy
    assert len(sam(array, bboxes=boxes)[0]) == 2


def test_masks_as_hints(sam: SAM, array: np.ndarray) -> None:
    answer = expected(array, points=[20, 30])
    hinted = expected(array, points=[20, 30], hint=answer.hint)
    (result,) = sam(array, points=[20, 30], masks=answer.hint)
    assert np.array_equal(result.masks.data, hinted.masks)
    (alone,) = sam(array, masks=answer.masks)  # full size, without any point
    assert len(alone) == 1
    assert np.abs(alone.boxes.xyxy - answer.boxes_xyxy).max() <= 4


def test_three_candidates_each(sam: SAM, array: np.ndarray) -> None:
    (result,) = sam(array, points=[[20, 30], [50, 40]], multimask_output=True)
    answer = expected(array, points=[[[20, 30]], [[50, 40]]], multimask=True)
    assert np.array_equal(result.masks.data, answer.masks.reshape(-1, *HW))
    assert np.array_equal(result.boxes.conf, answer.scores.ravel())


def test_conf_and_max_det_leave_out_only_when_asked(sam: SAM, array: np.ndarray) -> None:
    prompts = dict(points=[[[20, 30]], [[50, 40], [70, 40]]], labels=[[1], [1, 0]])
    scores = sam(array, **prompts)[0].boxes.conf
    assert len(scores) == 2 and scores[1] < scores[0]
    assert len(sam(array, **prompts, conf=float(scores[1]))[0]) == 1
    assert len(sam(array, **prompts, max_det=1)[0]) == 1
    assert sam(array, **prompts, conf=1.0)[0].masks is None


def test_everything(sam: SAM, array: np.ndarray) -> None:
    pytest.importorskip("samlet.everything", exc_type=ImportError)
    options = dict(points_stride=3, conf_thres=0.5, stability_score_thresh=0.5)
    (result,) = sam(array, **options)
    assert len(result) > 1 and result.masks.data.shape[1:] == HW
    assert len(sam(array, **options, iou=0.01)[0]) < len(result)
    assert sam(array, points_stride=3, conf_thres=0.999)[0].masks is None
    with pytest.raises(InputError, match="for segmenting everything"):
        sam(array, points=[20, 30], points_stride=3)


def test_sources_give_the_same(sam: SAM, array: np.ndarray, tmp_path: Path) -> None:
    image = PillowImage.fromarray(array[..., ::-1])
    for name in ("b.png", "a.png"):
        image.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    file = tmp_path / "a.png"
    sources: list[Any] = [str(file), file, image, array, file.read_bytes(), [array], (file,)]
    first = sam(array, points=[20, 30])[0]
    for source in sources:
        (result,) = sam(source, points=[20, 30])
        assert np.array_equal(result.masks.data, first.masks.data)
        assert np.array_equal(result.orig_img, array), "orig_img is BGR"
        assert result.path == (str(file) if isinstance(source, str | Path | tuple) else "image0.jpg")
    both = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    for source in (tmp_path, str(tmp_path / "*"), str(tmp_path / "*.png"), both):
        assert [result.path for result in sam(source, points=[20, 30])] == both
    assert [result.path for result in sam([array, image], points=[20, 30])] == ["image0.jpg", "image1.jpg"]


def test_arrays_are_bgr_with_alpha_and_gray_too() -> None:
    from samlet.compat.ultralytics.sources import from_bgr

    assert from_bgr(np.array([[[1, 2, 3]]], np.uint8)).pixels.tolist() == [[[3, 2, 1]]]
    assert from_bgr(np.array([[[1, 2, 3, 255]]], np.uint8)).pixels.tolist() == [[[3, 2, 1]]]
    assert from_bgr(np.array([[7]], np.uint8)).pixels.tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize(
    ("source", "error", "sentence"),
    [
        ("https://example.org/bus.jpg", InputError, "nothing is fetched from the network"),
        ("rtsp://camera/1", InputError, "nothing is fetched from the network"),
        (Path("http://example.org/bus.jpg"), InputError, "nothing is fetched from the network"),
        ("film.mp4", InputError, "the video"),
        (0, InputError, "the camera"),
        (None, InputError, "no source"),
        ([], InputError, "empty list"),
        ("no/such/file.jpg", ImageError, "check the path"),
        ("no/such/*.jpg", ImageError, "found none"),
        (object(), ImageError, "BGR order"),
        (np.zeros((3, 8, 8), np.uint8), ImageError, "move the channels last"),
        (np.zeros((8, 8, 3), np.float32), ImageError, "expected uint8"),
    ],
)
def test_sources_that_are_refused(sam: SAM, source: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        sam(source, points=[1, 1])


def test_an_empty_folder(sam: SAM, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="found none"):
        sam(tmp_path, points=[1, 1])


def test_stream_gives_one_at_a_time_but_refuses_at_once(sam: SAM, array: np.ndarray) -> None:
    stream = sam([array, np.zeros((3, 3), np.float32)], stream=True, points=[1, 1])
    assert len(next(stream)) == 1
    with pytest.raises(ImageError):
        next(stream)
    with pytest.raises(PromptError):
        sam(array, stream=True, points="here")


def test_without_a_source_the_last_picture_is_asked_again(array: np.ndarray) -> None:
    model, embeds = fake_sam(), []
    embed = model.embed
    model.embed = lambda image: embeds.append(image) or embed(image)  # type: ignore[method-assign]
    sam = SAM(model)
    first = sam(array, points=[20, 30])[0]
    again = sam(points=[[50, 40]], labels=[1])[0]
    assert len(embeds) == 1 and np.array_equal(first.orig_img, again.orig_img)
    assert np.array_equal(again.masks.data, expected(array, points=[50, 40]).masks)


def test_speed_is_measured(sam: SAM, array: np.ndarray) -> None:
    speed = sam(array, points=[20, 30])[0].speed
    assert set(speed) == {"preprocess", "inference", "postprocess"}
    assert all(isinstance(value, float) and 0 < value < 60_000 for value in speed.values())


def test_keywords(sam: SAM, array: np.ndarray) -> None:
    idle = dict(imgsz=1024, retina_masks=True, half=False, device="cpu", verbose=False, show_labels=False)
    assert len(sam.predict(array, points=[20, 30], **idle)[0]) == 1
    with pytest.raises(InputError, match="got 'confidence'"):
        sam(array, points=[20, 30], confidence=0.5)
    with pytest.raises(InputError, match="did you mean bboxes"):
        sam(array, boxxes=[1, 2, 3, 4])
    with pytest.raises(InputError, match="did you mean points_stride"):
        sam(array, point_stride=3)
    with pytest.raises(InputError, match="conf from 0 to 1"):
        sam(array, points=[20, 30], conf=40)


def test_arguments_by_position(sam: SAM, array: np.ndarray) -> None:
    (result,) = sam.predict(array, False, [10, 12, 40, 50])
    assert np.array_equal(result.masks.data, expected(array, boxes=[10, 12, 40, 50]).masks)


def test_another_device_warns_once(sam: SAM, array: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="stays where its backend runs"):
        sam(array, points=[20, 30], device="cuda:0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sam(array, points=[20, 30], device=0)
        assert sam.to("cpu").cpu().eval().fuse() is sam


def test_verbose_is_logged(sam: SAM, array: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="samlet.compat.ultralytics"):
        sam(array, points=[20, 30])
        sam(array, points=[20, 30], verbose=False)
    assert len(caplog.messages) == 1 and "60x80 1 object" in caplog.messages[0]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [("export", "samlet convert"), ("train", "samlet.train.recipes.prompts"), ("track", "each frame")],
)
def test_calls_that_are_missing_say_what_to_do(sam: SAM, call: str, sentence: str) -> None:
    with pytest.raises(MissingCallError, match=sentence) as caught:
        getattr(sam, call)(data="coco8-seg.yaml")
    assert isinstance(caught.value, ModelError) and isinstance(caught.value, NotImplementedError)


def test_the_programs_named_exist() -> None:
    import importlib.util

    assert importlib.util.find_spec("samlet.train.recipes.prompts") is not None


def test_info(sam: SAM, capsys: pytest.CaptureFixture[str]) -> None:
    facts = sam.info(detailed=True)
    assert facts["name"] == "nano" and facts["files"] and "MiB" in capsys.readouterr().out
    assert sam.info(verbose=False)["side"] == 128 and not capsys.readouterr().out


def test_val(sam: SAM, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    PillowImage.fromarray(picture(hw=HW)).save(tmp_path / "images/a.png")
    ids = np.zeros(HW, np.uint8)
    ids[10:40, 20:60] = 1
    PillowImage.fromarray(ids).save(tmp_path / "masks/a.png")
    found = sam.val(data=tmp_path)
    assert found["miou_box"] > 0.9 and found["objects"] == found["pictures"] == 1
    with pytest.raises(InputError, match="a folder with images/ and masks/"):
        sam.val(data="coco8-seg.yaml")
    PillowImage.fromarray(ids * 0).save(tmp_path / "masks/a.png")
    with pytest.raises(InputError, match="found none"):
        sam.val(data=tmp_path)


def test_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(samlet.model, "load", lambda name, **options: asked.append(name) or fake_sam())
    file = tmp_path / "mobile_sam.pt"
    file.touch()
    SAM(str(file))
    SAM("mobile_sam.pt")
    SAM()
    assert asked == [file, "mobile_sam.pt", "sam_b.pt"]
    with pytest.raises(ModelError, match="no SAM 2"):
        SAM("sam2.1_b.pt")
    with pytest.raises(ModelError, match="use FastSAM"):
        SAM(fake_fastsam()[0])


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("mobile_sam.pt", "mobile_sam"),
        ("sam_b.pt", "sam_vit_b"),
        ("sam_l.pt", "sam_vit_l"),
        ("sam_h.pt", "sam_vit_h"),
        ("FastSAM-s.pt", "fastsam_s"),
        ("FastSAM-x.pt", "fastsam_x"),
    ],
)
def test_their_names_of_files_are_known(name: str, card: str) -> None:
    from samlet.registry import resolve

    assert resolve(name).name == card


EXAMPLES = {
    "sam": """
from samlet.compat.ultralytics import SAM
model = SAM("sam_b.pt")
model.info()
results = [model("path/to/image.jpg", bboxes=[439, 437, 524, 709])]
results += [model(points=[900, 370], labels=[1])]
results += [model(points=[[400, 370], [900, 370]], labels=[1, 1])]
results += [model(points=[[[400, 370], [900, 370]]], labels=[[1, 1]])]
results += [model(points=[[[400, 370], [900, 370]]], labels=[[1, 0]])]
""",
    "mobile_sam": """
from samlet.compat.ultralytics import SAM
model = SAM("mobile_sam.pt")
source = "path/to/image.jpg"
results = [model.predict(source, bboxes=[439, 437, 524, 709])]
results += [model.predict(source, points=[900, 370], labels=[1])]
results += [model.predict(source, points=[[400, 370], [900, 370]], labels=[1, 1])]
results += [model.predict(source, points=[[[400, 370], [900, 370]]], labels=[[1, 1]])]
results += [model.predict(source, points=[[[400, 370], [900, 370]]], labels=[[1, 0]])]
""",
    "predictor": """
from samlet.compat.ultralytics import SAMPredictor
overrides = dict(conf=0.25, task="segment", mode="predict", imgsz=1024, model="mobile_sam.pt")
predictor = SAMPredictor(overrides=overrides)
predictor.set_image("path/to/image.jpg")
results = [predictor(bboxes=[439, 437, 524, 709])]
results += [predictor(points=[900, 370], labels=[1])]
results += [predictor(points=[[400, 370], [900, 370]], labels=[1, 1])]
results += [predictor(points=[[[400, 370], [900, 370]]], labels=[[1, 1]])]
results += [predictor(points=[[[400, 370], [900, 370]]], labels=[[1, 0]])]
predictor.reset_image()
""",
}
MEANT: list[dict[str, Any]] = [
    dict(boxes=[439, 437, 524, 709]),
    dict(points=[900, 370]),
    dict(points=[[[400, 370]], [[900, 370]]]),
    dict(points=[[[400, 370], [900, 370]]]),
    dict(points=[[[400, 370], [900, 370]]], labels=[[1, 0]]),
]


@pytest.mark.parametrize("example", list(EXAMPLES))
def test_examples_of_the_documentation_on_a_real_model(
    example: str,
    nano: samlet.Model,
    sample: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "path/to").mkdir(parents=True)
    with PillowImage.open(sample("coffee")) as image:  # large enough for the examples' coordinates
        image.resize((1280, 853)).save(tmp_path / "path/to/image.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samlet.model, "load", lambda name, **_: nano)
    names: dict[str, Any] = {}
    exec(EXAMPLES[example], names)
    view = nano.embed("path/to/image.jpg")
    for (result,), meant in zip(names["results"], MEANT, strict=True):
        answer = nano.segment(view, **meant)
        assert np.array_equal(result.masks.data, answer.masks) and answer.masks.any()
        assert np.array_equal(result.boxes.xyxy, answer.boxes_xyxy)
        assert result.boxes.conf.tolist() == answer.scores.tolist()


def test_a_predictor_forgets_its_picture(array: np.ndarray) -> None:
    predictor = SAMPredictor(overrides={"model": fake_sam(), "conf": 0.25})
    predictor.set_image(array)
    assert len(predictor(points=[20, 30])[0]) == 1
    predictor.reset_image()
    with pytest.raises(InputError, match="no source"):
        predictor(points=[20, 30])


def test_it_runs_without_torch(sample: Callable[[str], Path]) -> None:
    program = (
        "import sys; sys.modules.update(torch=None, torchvision=None, ultralytics=None, cv2=None)\n"
        "from samlet.compat.ultralytics import SAM\n"
        f"(r,) = SAM('nano', threads=1)({str(sample('coffee'))!r}, points=[300, 150], labels=[1])\n"
        "assert r.masks.data.cpu().numpy().any() and r.plot().any() and r.to_json()\n"
        "print(len(r), sorted(n for n, m in sys.modules.items() if m and n.split('.')[0] in ('torch', 'cv2')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(SRC), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1 []\n", done.stderr


def test_the_how_to_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (SRC.parent / "docs/how-to/from-ultralytics.md").read_text("utf-8")
    blocks = [part.split("```", 1)[0] for part in text.split("```python\n")[1:]]
    PillowImage.fromarray(picture(hw=(480, 960))).save(tmp_path / "dogs.jpg")
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []

    def load(name: str, **_: Any) -> samlet.Model:
        asked.append(str(name))
        return fake_fastsam()[0] if "FastSAM" in str(name) else fake_sam()

    monkeypatch.setattr(samlet.model, "load", load)
    monkeypatch.setattr(samlet, "load", load)
    for block in blocks:
        exec(block, {})
    assert asked == ["mobile_sam.pt", "FastSAM-s.pt", "mobile_sam"]
    assert (tmp_path / "dogs_masks.jpg").is_file()
