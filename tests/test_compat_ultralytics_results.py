"""What people do with a result: read it, index it, draw it, save it; and the array that stands in for a tensor."""

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.codecs import polygon_to_mask
from samlet.compat.ultralytics import SAM, Boxes, Masks, Results
from samlet.compat.ultralytics.arrays import HostArray, host
from samlet.errors import InputError, MissingExtraError, OutputError

from .compat_ultralytics_stubs import fake_sam, picture

HW = (60, 80)


@pytest.fixture
def array() -> np.ndarray:
    return picture(hw=HW)


@pytest.fixture
def result(array: np.ndarray) -> Results:
    """Two boxes and, last, a disk."""
    return made(array)


def made(array: np.ndarray) -> Results:
    masks = np.zeros((3, *HW), bool)
    masks[0, 10:40, 20:50] = True
    masks[0, 20:30, 30:40] = False  # a hole
    masks[1, 50:60, 70:80] = True
    masks[1, 0:5, 0:5] = True  # a second part
    boxes = np.array([[20, 10, 50, 40, 0.9, 0], [0, 0, 80, 60, 0.8, 0], [0, 0, 0, 0, 0.5, 0]])
    return Results(array, "photos/cat.png", boxes=boxes, masks=masks)


def test_attributes(result: Results, array: np.ndarray) -> None:
    assert result.orig_img is array and result.orig_shape == HW and result.path == "photos/cat.png"
    assert result.names == {0: "object"} and result.probs is result.keypoints is result.obb is None
    assert result.masks.data.shape == result.masks.shape == (3, *HW) and result.masks.orig_shape == HW
    assert result.boxes.cls.tolist() == [0, 0, 0] and result.boxes.id is None and not result.boxes.is_track
    assert result.boxes.xywh.tolist()[0] == [35, 25, 30, 30]
    assert result.boxes.xyxyn.tolist()[1] == [0, 0, 1, 1]
    assert result.boxes.xywhn.tolist()[1] == [0.5, 0.5, 1, 1]
    assert result.boxes.data.shape == result.boxes.shape == (3, 6) and result.boxes.data.dtype == np.float32
    assert "3 objects in photos/cat.png" in repr(result) and "3 of 60 x 80" in repr(result.masks)


def test_outlines_fill_to_the_masks_again(result: Results) -> None:
    for mask, ring in zip(result.masks.data, result.masks.xy, strict=True):
        assert ring.dtype == np.float32 and ring.shape[1] == 2
        assert np.array_equal(polygon_to_mask([ring.astype(np.float64)] if len(ring) else [], HW), mask)
    assert result.masks.xy[2].shape == (0, 2)
    assert np.allclose(result.masks.xyn[0] * (HW[1], HW[0]), result.masks.xy[0])
    assert 0 <= result.masks.xyn[1].min() and result.masks.xyn[1].max() == 1


def test_indexing_and_iterating(result: Results) -> None:
    assert len(result) == len(result.boxes) == len(result.masks) == 3
    one = result[1]
    assert isinstance(one, Results) and len(one) == 1 and one.boxes.conf.item() == pytest.approx(0.8)
    assert np.array_equal(one.masks.data[0], result.masks.data[1])
    assert [each.boxes.conf.item() for each in result] == pytest.approx([0.9, 0.8, 0.5])
    for index in ([2, 0], np.array([2, 0]), slice(None, None, -2)):
        assert result[index].boxes.conf.tolist() == pytest.approx([0.5, 0.9])
        assert not result[index].masks.data[0].any()
    assert len(result[result.boxes.conf > 0.6]) == 2
    assert [len(box) for box in result.boxes] == [1, 1, 1] == [len(mask) for mask in result.masks]
    assert result.boxes[0].xyxy[0].tolist() == [20, 10, 50, 40]
    assert result.masks[0].xy[0].shape == result.masks.xy[0].shape
    with pytest.raises(IndexError):
        result[3]


def test_masks_are_made_for_those_only_that_are_asked_for(array: np.ndarray) -> None:
    answer = fake_sam().segment(array, points=[[[20, 30]], [[50, 40]]])
    masks = Masks(answer, HW)
    assert len(masks) == 2 and masks.shape == (2, *HW)
    for part in (masks[1], masks[[1]], masks[np.array([False, True])]):
        assert np.array_equal(part.data, answer.masks[1:])
    assert "data" not in vars(masks)
    masks.data[0] = False  # yours to write into
    assert not masks[0].data.any() and answer.masks[0].any()


def test_chains_of_a_tensor(result: Results) -> None:
    assert result.cpu().numpy().cuda().to("cpu") is result
    assert result.boxes.cpu().numpy().cuda().to("cpu") is result.boxes
    assert result.masks.cpu().numpy() is result.masks
    plain = result.masks.data.cpu().numpy()
    assert type(plain) is np.ndarray and plain.dtype == bool
    assert type(result.boxes.xyxy.detach().cpu().numpy()) is np.ndarray
    x0, y0, x1, y1 = (int(side) for side in result.boxes.xyxy[0])
    assert (x0, y0, x1, y1) == (20, 10, 50, 40)
    assert f"{result.boxes.conf[0]:.2f}" == "0.90" and result.names[int(result.boxes.cls[0])] == "object"
    assert [round(float(conf), 1) for conf in result.boxes.conf] == [0.9, 0.8, 0.5]
    assert ((result.masks.data[0] * 255).byte().numpy() == plain[0] * 255).all()


def test_the_array() -> None:
    array = host(np.arange(6.0).reshape(2, 3))
    kinds = {"float": "f4", "double": "f8", "int": "i4", "long": "i8", "bool": "?", "byte": "u1"}
    for name, kind in kinds.items():
        assert getattr(array, name)().dtype == np.dtype(kind)
    assert array.to("cuda:0") is array and array.to(np.float32).dtype == np.float32
    assert array.to("cpu", dtype="uint8").dtype == np.uint8 and array.to(array.int()).dtype == np.int32
    assert array.cuda(0) is array.detach() is array.cpu() and array.clone() is not array
    assert array.T.contiguous().flags.c_contiguous and array.unsqueeze(0).shape == (1, 2, 3)
    assert array.dim() == 2 and array.numel() == 6 and array.device == "cpu" and not array.requires_grad
    assert isinstance(array[0, 0], HostArray) and array[1, 2].item() == 5 and round(array[1, 1], 1) == 4.0
    assert isinstance(array[0] * 2, HostArray) and [each.tolist() for each in array] == array.tolist()
    assert round(array / 7, 1).tolist() == [[0, 0.1, 0.3], [0.4, 0.6, 0.7]]


@pytest.mark.torch
def test_the_array_takes_torch_for_what_it_means() -> None:
    torch = pytest.importorskip("torch")
    array = host(np.ones((2, 2)))
    assert array.to(torch.device("cpu")) is array
    assert array.to(torch.float32).dtype == np.float32
    assert torch.equal(torch.as_tensor(array), torch.ones(2, 2, dtype=torch.float64))


def test_plot(result: Results, array: np.ndarray) -> None:
    drawn = result.plot()
    assert drawn.shape == (*HW, 3) and drawn.dtype == np.uint8 and drawn.flags.c_contiguous
    assert np.array_equal(result.plot(masks=False, boxes=False), array), "the picture itself, in BGR order"
    assert not np.array_equal(result.plot(boxes=False), array)
    assert not np.array_equal(result.plot(labels=False), drawn)
    assert not np.array_equal(result.plot(conf=False), drawn)
    assert not np.array_equal(result.plot(masks=False, line_width=1), result.plot(masks=False, line_width=5))
    assert not np.array_equal(result.plot(masks=False, font_size=9), result.plot(masks=False, font_size=20))
    pillow = result.plot(pil=True, color_mode="instance")
    assert np.array_equal(np.asarray(pillow)[..., ::-1], drawn)
    blank = np.zeros_like(array)
    assert not result.plot(img=blank, masks=False, boxes=False).any()
    with pytest.raises(InputError, match="60 x 80 pixels to draw on"):
        result.plot(img=blank[1:])
    with pytest.raises(InputError, match="did you mean labels"):
        result.plot(label=False)


def test_save(result: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert result.save() == "results_cat.png"
    with PillowImage.open("results_cat.png") as saved:
        assert np.array_equal(np.asarray(saved)[..., ::-1], result.plot())
    assert result.save(tmp_path / "a.jpg", boxes=False) == str(tmp_path / "a.jpg")
    result.plot(save=True, filename="b.png")
    assert (tmp_path / "b.png").is_file()
    result.path = "scan.tif"
    assert result.save() == "results_scan.jpg"
    with pytest.raises(InputError, match="choose one of them"):
        result.save("a.gif")
    with pytest.raises(OutputError):
        result.save("no/folder/a.png")


def test_show_without_a_screen(result: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems always have a screen")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for show in (result.show, lambda: result.plot(show=True)):
        with pytest.raises(OutputError, match="expected a screen"):
            show()
    shown: list[Any] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(PillowImage.Image, "show", lambda self: shown.append(self.size))
    result.show(labels=False)
    assert shown == [(80, 60)]


def test_save_txt(result: Results, tmp_path: Path) -> None:
    file = tmp_path / "labels/cat.txt"
    assert result.save_txt(file, save_conf=True) == str(file)
    lines = [line.split(" ") for line in file.read_text().splitlines()]
    assert len(lines) == 2, "an empty mask has no line"
    assert [line[0] for line in lines] == ["0", "0"] and [line[-1] for line in lines] == ["0.9", "0.8"]
    ring = np.array(lines[0][1:-1], float).reshape(-1, 2)
    assert np.allclose(ring, result.masks.xyn[0], atol=1e-6)
    result.save_txt(file)
    assert [line.split(" ")[-1] for line in file.read_text().splitlines()] != ["0.9", "0.8"]
    result.new().save_txt(file)
    assert file.read_text() == ""
    Results(result.orig_img, "a.png", boxes=result.boxes[:1]).save_txt(file)
    assert file.read_text() == "0 0.4375 0.416667 0.375 0.5\n"
    with pytest.raises(OutputError, match="cannot be made"):
        result.save_txt(file / "under/a/file.txt")


def test_save_crop(result: Results, tmp_path: Path) -> None:
    names = [Path(name) for name in result.save_crop(tmp_path, "cat.png")]
    assert names == [tmp_path / "object/cat.png", tmp_path / "object/cat2.png"], "an empty box has no crop"
    with PillowImage.open(names[0]) as crop:
        assert np.array_equal(np.asarray(crop), result.orig_img[10:40, 20:50, ::-1])
    assert Path(result[0].save_crop(tmp_path, "cat.png")[0]).name == "cat3.png"
    assert Path(result[0].save_crop(tmp_path, "dog")[0]).name == "dog.jpg"


def test_plain_data(result: Results) -> None:
    rows = result.summary()
    assert rows == json.loads(result.to_json()) == json.loads(result.tojson())
    assert rows[0]["name"] == "object" and rows[0]["class"] == 0 and rows[0]["confidence"] == 0.9
    assert rows[0]["box"] == {"x1": 20, "y1": 10, "x2": 50, "y2": 40}
    assert list(zip(*rows[0]["segments"].values(), strict=True)) == [
        tuple(xy) for xy in result.masks.xy[0].tolist()
    ]
    assert rows[2]["segments"] == {"x": [], "y": []}
    assert result.summary(normalize=True, decimals=3)[0]["box"] == {
        "x1": 0.25,
        "y1": 0.167,
        "x2": 0.625,
        "y2": 0.667,
    }
    assert "segments" not in Results(result.orig_img, "a", boxes=result.boxes).summary()[0]


def test_data_frames_need_pandas(result: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    class Frames:
        DataFrame = list

    def without(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setitem(sys.modules, "pandas", Frames)
    assert result.to_df(decimals=2) == result.summary(decimals=2)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match="pip install pandas"):
        result.to_df()


def test_nothing_found(array: np.ndarray) -> None:
    nothing = Results(array, "a.jpg")
    assert nothing.masks is None and nothing.boxes.xyxy.shape == (0, 4) and len(nothing) == 0
    assert (
        nothing.boxes.xywhn.tolist() == []
        and list(nothing) == []
        and nothing.verbose() == "(no detections), "
    )
    assert np.array_equal(nothing.plot(), array) and json.loads(nothing.to_json()) == []
    assert len(nothing[[]]) == 0 and len(Boxes(np.zeros((0, 6)), HW)) == 0


def test_names_of_their_own(array: np.ndarray, tmp_path: Path) -> None:
    boxes = np.array([[1, 1, 9, 9, 0.9, 2], [1, 1, 9, 9, 0.8, 2], [1, 1, 9, 9, 0.7, 5]])
    result = Results(array, "a.jpg", {2: "cat"}, boxes)
    assert result.verbose() == "2 cats, 1 5, "
    assert [row["name"] for row in result.summary()] == ["cat", "cat", "5"]
    assert (tmp_path / "cat/im2.jpg") == Path(result.save_crop(tmp_path)[1])


def test_a_call_that_saves(array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sam, options = SAM(fake_sam()), dict(points=[20, 30], save=True, save_txt=True, save_crop=True)
    for folder in ("a", "b"):
        Path(folder).mkdir()
        PillowImage.fromarray(array).save(f"{folder}/cat.tif")
    results = sam(["a/cat.tif", "b/cat.tif"], **options)
    files = {
        "cat.jpg",
        "cat2.jpg",
        "labels/cat.txt",
        "labels/cat2.txt",
        "crops/object/cat.jpg",
        "crops/object/cat2.jpg",
    }
    run = Path("runs/segment/predict")
    assert {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} == files
    assert [result.save_dir for result in results] == [str(run)] * 2 and results[0][0].save_dir == str(run)
    assert sam(array, **options)[0].save_dir == "runs/segment/predict2"
    assert sam(array, **options, exist_ok=True, show_boxes=False)[0].save_dir == str(run)
    assert sam(array, **options, project="mine", name="cats")[0].save_dir == "mine/cats"
    assert sam(array, points=[20, 30])[0].save_dir is None
    Path("file").touch()
    with pytest.raises(OutputError, match="pass project= and name="):
        sam(array, **options, project="file")
