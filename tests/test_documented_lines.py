"""Call lines as the originals' own documentation writes them, each beside what samlet itself would be asked.

The lines are those of the READMEs and pages of SAM, MobileSAM, FastSAM and Ultralytics; only packages' names and
pictures differ.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet
import samlet.model
from samlet.backends.fake import FakeBackend
from samlet.errors import ModelError

from .compat_ultralytics_stubs import REGIONS, fake_fastsam, fake_sam, picture

HW = (720, 960)  # large enough for the pages' coordinates


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures that the pages name."""
    folder = tmp_path_factory.mktemp("photos")
    photo = PillowImage.fromarray(picture(hw=(18, 24))[..., ::-1]).resize(HW[::-1])
    for name in ("path/to/image.jpg", "images/picture1.jpg", "path/to/bus.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(folder / name, quality=95)
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    PillowImage.fromarray(red).save(folder / "images/red.jpg")
    return folder


@pytest.fixture
def folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where those pictures are the working folder, there is no network, and the cache is empty."""
    monkeypatch.chdir(photos)
    monkeypatch.setenv("SAMLET_OFFLINE", "1")
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    return tmp_path


MOBILE_SAM = "from ultralytics import SAM\nmodel = SAM('mobile_sam.pt')\n"
PREDICTOR = """
from ultralytics.models.sam import Predictor as SAMPredictor
overrides = dict(conf=0.25, task="segment", mode="predict", imgsz=1024, model="mobile_sam.pt")
predictor = SAMPredictor(overrides=overrides)
predictor.set_image(cv2.imread("path/to/image.jpg"))
"""
TWO = [[[400, 370]], [[900, 370]]]
SAM_LINES: list[tuple[str, str, dict[str, Any]]] = [
    (
        MOBILE_SAM,
        'model.predict("path/to/image.jpg", points=[900, 370], labels=[1])',
        dict(points=[900, 370]),
    ),
    (
        MOBILE_SAM,
        'model.predict("path/to/image.jpg", points=[[400, 370], [900, 370]], labels=[1, 1])',
        dict(points=TWO),
    ),
    (
        MOBILE_SAM,
        'model.predict("path/to/image.jpg", points=[[[400, 370], [900, 370]]], labels=[[1, 0]])',
        dict(points=[[400, 370], [900, 370]], labels=[1, 0]),
    ),
    (
        MOBILE_SAM,
        'model("path/to/image.jpg", bboxes=[439, 437, 524, 709])',
        dict(boxes=[439, 437, 524, 709]),
    ),
    (
        MOBILE_SAM,
        'model(cv2.imread("path/to/image.jpg"), bboxes=[439, 437, 524, 709], device="cpu")',
        dict(boxes=[439, 437, 524, 709]),
    ),
    (
        MOBILE_SAM,
        'model.to("cpu")("path/to/image.jpg", bboxes=[[439, 437, 524, 709]])',
        dict(boxes=[439, 437, 524, 709]),
    ),
    (PREDICTOR, "predictor(bboxes=[439, 437, 524, 709])", dict(boxes=[439, 437, 524, 709])),
    (PREDICTOR, "predictor(points=[900, 370], labels=[1])", dict(points=[900, 370])),
    (
        PREDICTOR,
        "predictor(points=[[400, 370], [900, 370]], labels=[[1, 1]])",
        dict(points=[TWO[0] + TWO[1]]),
    ),
]


class Opencv:
    """`cv2.imread`, and nothing else of OpenCV: it gives BGR."""

    COLOR_BGR2RGB = 4

    @staticmethod
    def imread(path: str) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(PillowImage.open(path).convert("RGB"))[..., ::-1])

    @staticmethod
    def cvtColor(array: np.ndarray, code: int) -> np.ndarray:
        assert code == Opencv.COLOR_BGR2RGB
        return np.ascontiguousarray(array[..., ::-1])


def typed(program: str, line: str, package: str) -> Any:
    """Run what people have and give the value of its last line, with the package's name changed."""
    names: dict[str, Any] = {"cv2": Opencv, "np": np}
    exec(program.replace(f"from {package}", f"from samlet.compat.{package}"), names)
    return eval(line, names)


@pytest.mark.parametrize(("program", "line", "meant"), SAM_LINES, ids=[line for _, line, _ in SAM_LINES])
def test_ultralytics_sam(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, line: str, meant: dict[str, Any]
) -> None:
    monkeypatch.setattr(samlet.model, "load", lambda name, **_: fake_sam())
    (result,) = typed(program, line, "ultralytics")
    answer = fake_sam().segment("path/to/image.jpg", **meant)  # RGB, as the file has it
    assert answer.masks.any() and np.array_equal(result.masks.data, answer.masks)
    assert np.array_equal(result.boxes.conf, answer.scores)


FAST = 'from ultralytics import FastSAM\nsource = "path/to/bus.png"\nmodel = FastSAM("FastSAM-s.pt")\n'
CHOOSER = """
from ultralytics.models.fastsam import FastSAMPredictor
overrides = dict(conf=0.25, task="segment", mode="predict", model="FastSAM-s.pt", save=False, imgsz=1024)
predictor = FastSAMPredictor(overrides=overrides)
everything_results = predictor("path/to/bus.png")
"""
FAST_LINES = [  # names of the regions that come out, see compat_ultralytics_stubs
    (
        FAST,
        'model(source, device="cpu", retina_masks=True, imgsz=1024, conf=0.4, iou=0.9)',
        ["left", "part", "right"],
    ),
    (FAST, "model(source, bboxes=[600, 150, 900, 450])", ["right"]),
    (FAST, "model(source, points=[[200, 200]], labels=[1])", ["left"]),
    (
        FAST,
        "model(source, bboxes=[600, 150, 900, 450], points=[[200, 400]], labels=[1])",
        ["right", "left"],
    ),
    (CHOOSER, "predictor.prompt(everything_results, bboxes=[[600, 150, 900, 450]])", ["right"]),
    (CHOOSER, "predictor.prompt(everything_results, points=[200, 200])", ["left"]),
    (CHOOSER, "predictor.prompt(everything_results)", ["left", "part", "right"]),
]


@pytest.mark.parametrize(("program", "line", "regions"), FAST_LINES, ids=[line for _, line, _ in FAST_LINES])
def test_ultralytics_fastsam(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, line: str, regions: list[str]
) -> None:
    monkeypatch.setattr(samlet.model, "load", lambda name, **_: fake_fastsam()[0])
    (result,) = typed(program, line, "ultralytics")
    wanted = np.array([REGIONS[name][0] for name in regions]) * (HW[1] / 640)  # regions scale with the width
    assert np.abs(result.boxes.xyxy.numpy() - wanted).max() <= 2


ORIGINAL = """
from segment_anything import SamPredictor, sam_model_registry
sam = sam_model_registry["vit_h"](checkpoint="sam_vit_h_4b8939.pth")
sam.to(device="cpu")
predictor = SamPredictor(sam)
image = cv2.imread("images/picture1.jpg")
image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
predictor.set_image(image)
"""
BATCHED = (
    ORIGINAL
    + """
from segment_anything.utils.transforms import ResizeLongestSide
resize_transform = ResizeLongestSide(sam.image_encoder.img_size)
batched_input = [
    {
        'image': resize_transform.apply_image(image).transpose(2, 0, 1),
        'boxes': resize_transform.apply_boxes_torch(np.array([[439, 437, 524, 709]]), image.shape[:2]),
        'original_size': image.shape[:2],
    },
]
"""
)
SIZE, BOX = (1, *HW), "box=np.array([439, 437, 524, 709])"
SEGMENT_ANYTHING: list[tuple[str, str, tuple[int, ...]]] = [
    (ORIGINAL, "predictor.predict(point_coords=np.array([[500, 375]]), point_labels=np.array([1]), "
     "multimask_output=True,)[0]", (3, *HW)),
    (ORIGINAL, f"predictor.predict(point_coords=None, point_labels=None, {BOX}[None, :], "
     "multimask_output=False,)[0]", SIZE),
    (ORIGINAL, f"predictor.predict(point_coords=np.array([[500, 600]]), point_labels=np.array([0]), {BOX}, "
     "multimask_output=False,)[0]", SIZE),
    (BATCHED, "sam(batched_input, multimask_output=False)[0]['masks']", (1, *SIZE)),
    (BATCHED, "sam.forward(batched_input, multimask_output=False)[0]['masks']", (1, *SIZE)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "line", "shape"), SEGMENT_ANYTHING, ids=[line for _, line, _ in SEGMENT_ANYTHING]
)
def test_segment_anything(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, line: str, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr("samlet.backends.create", lambda name: FakeBackend(stride=16))
    masks = np.asarray(typed(program, line, "segment_anything"))
    assert (masks.shape, masks.dtype) == (shape, np.bool_)
    inside = masks.reshape(-1, *HW)[0]
    assert inside[450, 500] and not inside[10, 10]  # every line above points at that pixel's surroundings


def test_the_predictor_takes_rgb_and_the_drop_in_of_ultralytics_bgr(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lines are their documentation's, and both networks get to see the same colours."""
    seen: list[np.ndarray] = []

    class Watching(FakeBackend):
        def open(self, role: str, *args: Any, **options: Any) -> Any:
            graph = super().open(role, *args, **options)
            run = graph.run
            if role == "encoder":
                graph.run = lambda feeds: seen.append(feeds["image"].mean(axis=(2, 3))) or run(feeds)
            return graph

    monkeypatch.setattr("samlet.backends.create", lambda name: Watching(stride=16))
    typed(ORIGINAL.replace("picture1", "red"), "predictor", "segment_anything")
    typed(MOBILE_SAM, 'model(cv2.imread("images/red.jpg"), points=[30, 30], labels=[1])', "ultralytics")
    assert len(seen) == 2 and np.array_equal(*seen) and seen[0][0, 0] > 2 > seen[0][0, 2]


AMG = "from segment_anything.utils.amg import *\nmask = np.zeros((4, 6), bool)\nmask[1:3, 2:5] = True\n"
AMG_LINES: list[tuple[str, Any]] = [
    ("batched_mask_to_box(mask).tolist()", [2, 1, 4, 2]),
    ("box_xyxy_to_xywh(np.array([2, 1, 4, 2])).tolist()", [2, 1, 2, 1]),
    ("mask_to_rle_pytorch(mask[None])[0]['counts']", [9, 2, 2, 2, 2, 2, 5]),
    ("area_from_rle(mask_to_rle_pytorch(mask[None])[0])", 6),
    ("np.array_equal(rle_to_mask(mask_to_rle_pytorch(mask[None])[0]), mask)", True),
    ("coco_encode_rle(mask_to_rle_pytorch(mask[None])[0])['size']", [4, 6]),
    ("build_point_grid(2).tolist()", [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]),
    ("[len(grid) for grid in build_all_layer_point_grids(4, 2, 2)]", [16, 4, 1]),
    ("len(generate_crop_boxes((100, 200), 1, 512 / 1500)[0])", 5),
    ("float(calculate_stability_score(np.where(mask, 5.0, -5.0)[None], 0.0, 1.0)[0])", 1.0),
    ("remove_small_regions(mask, 100, mode='islands')[1]", True),
    ("[len(batch[0]) for batch in batch_iterator(2, np.arange(5))]", [2, 2, 1]),
    ("uncrop_boxes_xyxy(np.array([[1, 1, 2, 2]]), [10, 20, 30, 40]).tolist()", [[11, 21, 12, 22]]),
    ("uncrop_points(np.array([[1, 1]]), [10, 20, 30, 40]).tolist()", [[11, 21]]),
    ("uncrop_masks(mask[None], [1, 1, 7, 5], 10, 10).shape", (1, 10, 10)),
    ("is_box_near_crop_edge(np.array([[0, 5, 9, 9]]), [30, 0, 60, 60], [0, 0, 90, 60]).tolist()", [True]),
    ("MaskData(a=[1, 2])['a']", [1, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "value"), AMG_LINES, ids=[line for line, _ in AMG_LINES])
def test_helpers_of_amg_by_name(line: str, value: Any) -> None:
    assert typed(AMG, line, "segment_anything") == value


MISSING = [
    (
        "from ultralytics import SAM",
        'SAM("mobile_sam.pt")',
        r"SAMLET_OFFLINE is set; download https.*by_hand/mobile_sam\.pt",
    ),
    ("from ultralytics import FastSAM", 'FastSAM("FastSAM-s.pt")', r"by_hand/FastSAM-s\.pt"),
    (
        "from segment_anything import sam_model_registry",
        'sam_model_registry["vit_t"](checkpoint="./weights/mobile_sam.pt")',
        r"at 'weights/mobile_sam\.pt', found none; put it there from https://\S+ \(40,728,226 bytes\), or say "
        r"mobile_sam\.pt without a folder",
    ),
    (
        "from ultralytics import SAM",
        'SAM("runs/best.pt")',
        r"at 'runs/best\.pt', found none; correct the path, or give the name of a model",
    ),
]


@pytest.mark.parametrize(("program", "line", "sentence"), MISSING, ids=[line for _, line, _ in MISSING])
def test_a_file_that_is_not_there(folder: Path, program: str, line: str, sentence: str) -> None:
    """Nothing may be fetched in this folder, so the sentence has to say where the file belongs."""
    package = program.split()[1]
    with pytest.raises(ModelError, match=sentence):
        typed(program, line, package)


def test_a_file_put_by_hand_is_found_by_the_line_of_the_page(folder: Path) -> None:
    """What the sentence says helps: the file in the cache's folder is looked at, and another file is refused."""
    (folder / "cache/by_hand").mkdir(parents=True)
    (folder / "cache/by_hand/mobile_sam.pt").write_bytes(b"not the official file")
    with pytest.raises(ModelError, match=r"expected 40,728,226 bytes in the model file .*by_hand"):
        typed("from ultralytics import SAM", 'SAM("mobile_sam.pt")', "ultralytics")


def test_samlets_own_call_takes_the_flat_forms() -> None:
    model = fake_sam()
    view = model.embed(picture(hw=HW))
    for flat, nested in (
        (dict(points=[900, 370], labels=[1]), dict(points=[[[900, 370]]], labels=[[1]])),
        (dict(boxes=[439, 437, 524, 709]), dict(boxes=[[439, 437, 524, 709]])),
    ):
        assert np.array_equal(model.segment(view, **flat).masks, model.segment(view, **nested).masks)
