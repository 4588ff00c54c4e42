"""Every layout of a data set is read in its true form; what is broken is named and never fatal."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.data import IGNORE, KINDS, Broken, Dataset, Region, Sample
from samlet.errors import InputError, LimitError, MissingExtraError
from samlet.image import image_size
from samlet.limits import Limits
from tests import data_sets
from tests.data_sets import HW, other, picture, rectangle


def open_kind(kind: str, root: Path) -> Dataset:
    """Make a set of the kind and open it."""
    if kind == "bsds":
        pytest.importorskip("scipy")
    root.mkdir(exist_ok=True)
    words = {
        "coco": lambda: f"coco:{data_sets.coco(root)}",
        "lvis": lambda: f"lvis:{data_sets.lvis(root)}",
        "sa1b": lambda: f"sa1b:{data_sets.sa1b(root)}",
        "tar": lambda: f"sa1b:{data_sets.sa1b_tar(root / 'sa_000020.tar')}",
        "voc": lambda: f"voc:{data_sets.voc(root)}",
        "yolo": lambda: f"yolo:{data_sets.yolo(root)}@val",
        "labelme": lambda: f"labelme:{data_sets.labelme(root)}",
        "davis": lambda: f"davis:{data_sets.davis(root)}@val",
        "bsds": lambda: f"bsds:{data_sets.bsds(root)}@test",
    }[kind]()
    return Dataset.open(words)


@pytest.mark.parametrize(
    ("kind", "names", "labels", "second", "ignored", "broken"),
    [
        (
            "coco",
            ["a.jpg", "b.jpg", "gone.jpg"],
            ["cat", "dog"],
            other(),
            80,
            ["image 4 of the file", "annotation 9", "annotation 6", "a.jpg, annotation 8"],
        ),
        ("lvis", ["train2017/000000000007.jpg"], ["aerosol_can"], None, 0, []),
        ("sa1b", ["sa_1", "sa_10", "sa_2"], ["object", "object"], other(), 0, ["sa_10", "sa_2"]),
        ("tar", ["sa_000020.tar/./sa_1"], ["object", "object"], other(), 0, []),
        ("voc", ["2007_000001"], ["cat", "person"], other() & ~rectangle(), 40, []),
        ("yolo", ["val/a", "val/empty"], ["dog"], None, 0, ["val/a, line 4", "val/a, line 5", "val/a, 2"]),
        ("davis", ["two-dogs/00000", "two-dogs/00001"], ["object", "object"], other() & ~rectangle(), 0, []),
    ],
)
def test_each_kind_is_read(tmp_path: Path, kind, names, labels, second, ignored, broken) -> None:
    dataset = open_kind(kind, tmp_path / "set")
    assert [item.name for item in dataset.items] == names
    found: list[Broken] = []
    sample, *_ = dataset.samples(broken=found)
    assert [region.label for region in sample.regions] == labels
    assert np.array_equal(sample.regions[0].mask, rectangle())
    if second is not None:
        assert np.array_equal(sample.regions[1].mask, second)
    assert int(sample.ignore.sum()) == ignored
    assert [one.name for one in found] == broken and all(one.reason.startswith("expected") for one in found)
    assert sample.load_image().hw == HW


@pytest.mark.parametrize(
    ("kind", "boxes"),
    [
        ("coco", [("cat", (4, 6, 16, 18)), ("dog", (14, 10, 34, 24))]),
        ("lvis", [("aerosol_can", (4, 6, 16, 18))]),
        ("voc", [("cat", (4, 6, 16, 18))]),
        ("yolo", [("dog", (4, 6, 16, 18)), ("cat", (14, 9, 34, 21))]),
        ("labelme", [("cat", (4, 6, 16, 18)), ("dog", (14, 10, 38, 24)), ("sun", (27, 2, 33, 8))]),
        ("davis", [("object", (4, 6, 16, 18)), ("object", (14, 10, 34, 24))]),
    ],
)
def test_each_kind_gives_boxes(tmp_path: Path, kind, boxes) -> None:
    dataset = open_kind(kind, tmp_path / "set")
    found = dataset.boxes(dataset.items[0]).boxes
    assert [label for label, _ in found] == [label for label, _ in boxes]
    assert np.allclose([box for _, box in found], [box for _, box in boxes], atol=0.01)


def test_pictures_that_have_boxes_alone_are_listed_where_boxes_are_wanted(tmp_path: Path) -> None:
    root = data_sets.voc(tmp_path)
    assert [item.name for item in Dataset.open(f"voc:{root}", boxes=True).items] == [
        "2007_000001",
        "2007_000002",
    ]
    both = Dataset.open(f"voc:{root}@val", boxes=True)
    assert both.boxes(both.items[1]).boxes == (("dog", (4, 6, 16, 18)),)
    assert [one.name for one in both.boxes(both.items[1]).broken] == ["2007_000002, object 2"]
    with pytest.raises(InputError, match="samlet annotate"):
        both.read(both.items[1])


def test_labelme_groups_circles_and_bad_shapes(tmp_path: Path) -> None:
    (sample,) = Dataset.open(data_sets.labelme(tmp_path)).samples(broken=(found := []))
    cat, dog, sun = sample.regions
    two = np.zeros(HW, bool)
    two[10:24, 14:34] = two[10:24, 36:38] = True
    assert np.array_equal(cat.mask, rectangle()) and np.array_equal(dog.mask, two)
    assert sun.mask.sum() == pytest.approx(np.pi * 9, abs=4)
    assert [one.name for one in found] == ["a, shape 6"]


def test_a_mask_that_labelme_painted(tmp_path: Path) -> None:
    import base64
    import json

    picture(tmp_path / "a.png")
    buffer = io.BytesIO()
    PillowImage.fromarray(np.full((12, 12), 255, np.uint8)).save(buffer, "PNG")
    shape = {"label": "x", "shape_type": "mask", "points": [[4, 6], [15, 17]],
             "mask": base64.b64encode(buffer.getvalue()).decode()}  # fmt: skip
    beyond = shape | {"points": [[30, 20], [41, 31]]}
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": [shape, beyond]}))
    (sample,) = Dataset.open(tmp_path).samples(broken=(found := []))
    assert np.array_equal(sample.regions[0].mask, rectangle()) and len(found) == 1


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}"])
def test_names_of_yolo_in_yaml(tmp_path: Path, names: str) -> None:
    pytest.importorskip("yaml")
    root = data_sets.yolo(tmp_path)
    (root / "classes.txt").unlink()
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames: {names}\n")
    dataset = Dataset.open(root)
    assert [label for label, _ in dataset.boxes(dataset.items[0]).boxes] == ["dog", "cat"]
    (root / "data.yaml").write_text("names: [")
    with pytest.raises(InputError, match="expected YAML"):
        Dataset.open(root)


def test_davis_of_2016_is_white_on_black(tmp_path: Path) -> None:
    dataset = Dataset.open(f"davis:{data_sets.davis(tmp_path)}@train")
    sample, *rest = dataset.samples(broken=(found := []))
    assert np.array_equal(sample.regions[0].mask, rectangle()) and not sample.ignore.any() and not rest
    assert [one.name for one in found] == ["bear/00001"]


def test_bsds_has_every_person_and_their_boundaries(tmp_path: Path) -> None:
    dataset = open_kind("bsds", tmp_path / "BSR")
    one, two = dataset.segmentations(dataset.items[0])
    assert [one.name, two.name] == ["2018_h1", "2018_h2"]
    assert [len(dataset.read(item).regions) for item in (one, two)] == [2, 4]
    assert [int(lines.sum()) for lines in dataset.layout.boundaries(one, Limits())] == [12, 12]
    found: list[Broken] = []
    assert [sample.name for sample in dataset.samples(broken=found)] == ["2018"]
    assert "a .mat file" in found[0].reason
    second = Dataset.open(f"bsds:{tmp_path / 'BSR'}@test", human=3)
    with pytest.raises(InputError, match="expected a person 3"):
        second.read(second.items[0])


def test_bsds_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtraError, match=r"samlet\[mat\]"):
        Dataset.open(f"bsds:{tmp_path}")


def test_a_table_has_boxes_and_no_masks(tmp_path: Path) -> None:
    dataset = Dataset.open(f"csv:{data_sets.table(tmp_path)}@photos")
    away, one = dataset.items
    found = dataset.boxes(one)
    assert found.boxes == (("cat", (4, 6, 16, 18)), ("object", (14, 10, 34, 24)))
    assert [broken.name for broken in found.broken] == ["a.jpg, line 4"]
    assert one.load_image().hw == HW
    with pytest.raises(InputError, match="below the folder"):
        dataset.boxes(away)
    with pytest.raises(InputError, match="samlet annotate"):
        dataset.read(one)


@pytest.mark.parametrize("part", ["marks", "{root}/marks"])
def test_a_folder_of_pictures_with_a_folder_of_masks(tmp_path: Path, part: str) -> None:
    picture(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "marks").mkdir()
    (tmp_path / "marks").mkdir()
    for folder in (tmp_path / "photos" / "marks", tmp_path / "marks"):
        PillowImage.fromarray(data_sets.ids()).save(folder / "a.png")
    dataset = Dataset.open(f"masks:{tmp_path / 'photos'}@{part.format(root=tmp_path)}")
    assert np.array_equal(dataset.read(dataset.items[0]).regions[0].mask, rectangle())


def test_black_and_white_is_taken_apart(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    white = rectangle()
    white[20:28, 30:38] = True
    PillowImage.fromarray(white.astype(np.uint8) * 255).save(tmp_path / "masks" / "a.png")
    (sample,) = Dataset.open(f"binary:{tmp_path}").samples(broken=[])
    assert [int(region.mask.sum()) for region in sample.regions] == [144, 64]
    (sample,) = Dataset.open(tmp_path).samples(broken=[])
    assert not len(sample.regions) and sample.ignore.sum() == 208


@pytest.mark.parametrize("kind", ["coco", "lvis", "sa1b", "tar", "voc", "yolo", "labelme", "davis", "bsds"])
def test_a_plain_path_says_what_kind_it_is(tmp_path: Path, kind: str) -> None:
    named = open_kind(kind, tmp_path / "set")
    guessed = Dataset.open(named.root)
    assert guessed.kind == {"lvis": "coco"}.get(named.kind, named.kind)
    assert {item.file_name for item in named.items} <= {item.file_name for item in guessed.items}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("coco:{}/nothing.json", "nothing at"),
        ("voc:{}", "JPEGImages"),
        ("davis:{}", "JPEGImages/480p/"),
        ("yolo:{}@val", "expected a folder"),
        ("yolo:{}", "expected pictures in"),
        ("labelme:{}", "expected pictures in"),
        ("labelme:{}/a.csv", "a folder of labelme"),
        ("sa1b:{}", "expected pictures in"),
        ("sa1b:{}/a.csv", "uncompressed tar"),
        ("coco:{}/a.csv", "expected JSON"),
        ("csv:{}/a.csv", "a header with name"),
        ("masks:{}@masks", "expected pictures"),
    ],
)
def test_what_is_no_such_set_is_refused_in_a_sentence(tmp_path: Path, words: str, message: str) -> None:
    (tmp_path / "a.csv").write_text("nothing\n1\n")
    with pytest.raises(InputError, match=message):
        Dataset.open(words.format(tmp_path))


@pytest.mark.parametrize("kind", ["sa1b", "labelme"])
@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"image": 3, "shapes": 4, "annotations": {}}', '{"shapes": [4]}', "\x00"]
)
def test_nonsense_in_a_file_is_named_and_the_rest_is_read(tmp_path: Path, kind: str, text: str) -> None:
    dataset = open_kind(kind, tmp_path / "set")
    stem = "sa_2" if kind == "sa1b" else "b"
    picture(tmp_path / "set" / f"{stem}.jpg")
    (tmp_path / "set" / f"{stem}.json").write_text(text)
    found: list[Broken] = []
    samples = list(Dataset.open(dataset.root).samples(broken=found))
    assert samples[0].name in ("a", "sa_1") and any(one.name.startswith(stem) for one in found)


def test_xml_with_a_document_type_is_not_expanded(tmp_path: Path) -> None:
    root = data_sets.voc(tmp_path)
    laughs = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation><name>&c;</name></annotation>'
    for encoding in ("utf-8", "utf-16"):
        (root / "Annotations" / "2007_000002.xml").write_text(laughs, encoding=encoding)
        dataset = Dataset.open(f"voc:{root}@val", boxes=True)
        with pytest.raises(InputError, match="document type"):
            dataset.boxes(dataset.items[1])


def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = data_sets.coco(tmp_path)
    for name in ("../a.jpg", "/etc/a.jpg", "..\\\\a.jpg"):
        path.write_text(path.read_text().replace("gone.jpg", name))
        dataset = Dataset.open(path)
        item = next(item for item in dataset.items if item.key == 6)
        with pytest.raises(InputError, match="below the folder"):
            dataset.read(item)
        path.write_text(path.read_text().replace(name, "gone.jpg"))


def test_bounds_hold_before_memory_is_taken(tmp_path: Path) -> None:
    path = data_sets.coco(tmp_path)
    path.write_text(path.read_text().replace('"height": 30', '"height": 3000000000'))
    dataset = Dataset.open(path)
    with pytest.raises(LimitError, match="at most"):
        dataset.read(dataset.items[1])


def test_overlapping_objects_become_one_map_with_the_small_ones_on_top() -> None:
    sample = Sample(Path("a.png"), "a", [Region(7, other()), Region(8, rectangle())], np.eye(*HW, dtype=bool))
    found = sample.id_map()
    assert (found[rectangle()] == 2).all() and (found[other() & ~rectangle()] == 1).all()
    assert found[0, 0] == IGNORE


def test_regions_of_objects_can_be_narrowed(tmp_path: Path) -> None:
    dataset = open_kind("coco", tmp_path / "set")
    regions = dataset.read(dataset.items[0]).regions
    assert [region.id for region in regions[1:]] == [6] and len(regions[:0]) == 0


@pytest.mark.parametrize(
    ("turn", "size"), [(1, (30, 40)), (3, (30, 40)), (6, (40, 30)), (8, (40, 30)), (77, (30, 40))]
)
def test_the_size_of_a_picture_is_upright(tmp_path: Path, turn: int, size: tuple[int, int]) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = turn
    path = picture(tmp_path / "a.jpg", exif=exif)
    assert image_size(path) == image_size(path.read_bytes()) == size
    with pytest.raises(LimitError):
        image_size(path, limits=Limits(max_pixels=1000))


def test_kinds_are_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "how-to" / "data-sets.md").read_text()
    assert all(f"`{kind}:" in text for kind in KINDS)


def test_the_reader_needs_no_more_than_the_plain_install() -> None:
    code = "import sys, samlet.data; print({'torch', 'cv2', 'scipy', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
