import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.errors import ImageError, InputError, LimitError
from samlet.evaluate.datasets import Dataset
from samlet.limits import Limits
from tests.evaluate_stubs import make_set, two_squares


def write_mask(root: Path, picture: PillowImage.Image) -> Path:
    (root / "images").mkdir()
    (root / "masks").mkdir()
    PillowImage.new("RGB", picture.size).save(root / "images" / "a.jpg")
    picture.save(root / "masks" / "a.png")
    return root


def test_regions_are_read_by_id_and_255_is_ignored(tmp_path: Path) -> None:
    dataset = Dataset.open(make_set(tmp_path / "set", {"a": two_squares()}))
    sample = dataset.read(dataset.items[0])
    assert (dataset.name, sample.name) == ("set", "a")
    assert [region.id for region in sample.regions] == [1, 2]
    assert [int(region.mask.sum()) for region in sample.regions] == [64, 70 + 24]
    assert int(sample.ignore.sum()) == 16
    assert [region.id for region in sample.regions[1:]] == [2]
    assert sample.load_image().hw == (30, 40)


def test_palette_indices_are_ids_whatever_their_colours(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(np.array([[0, 1], [2, 255]], np.uint8), "L")
    picture.putpalette([7, 7, 7] * 256)
    dataset = Dataset.open(write_mask(tmp_path, picture))
    with PillowImage.open(tmp_path / "masks" / "a.png") as stored:
        assert stored.mode == "P"
    sample = dataset.read(dataset.items[0])
    assert [region.id for region in sample.regions] == [1, 2]
    assert sample.ignore.tolist() == [[False, False], [False, True]]


def test_in_16_bit_masks_65535_is_ignored_and_255_is_a_region(tmp_path: Path) -> None:
    ids = np.array([[0, 255, 300], [65535, 300, 0]], np.uint16)
    dataset = Dataset.open(write_mask(tmp_path, PillowImage.fromarray(ids)))
    sample = dataset.read(dataset.items[0])
    assert [region.id for region in sample.regions] == [255, 300]
    assert int(sample.ignore.sum()) == 1


def test_of_several_humans_the_first_is_read_unless_told(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", {"a": two_squares()}, human=(1, 2))
    PillowImage.fromarray(np.full((30, 40), 9, np.uint8)).save(root / "masks" / "a_h2.png")
    first, second, third = (Dataset.open(root, human=human) for human in (1, 2, 3))
    assert [region.id for region in first.read(first.items[0]).regions] == [1, 2]
    assert [region.id for region in second.read(second.items[0]).regions] == [9]
    assert third.items[0].mask_path is None


def test_selection_is_by_file_order(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", {name: two_squares() for name in "edcba"})
    dataset = Dataset.open(root)
    assert [item.name for item in dataset.items] == list("abcde")
    assert [item.name for item in dataset.select(every=2).items] == list("ace")
    assert [item.name for item in dataset.select(limit=2).items] == list("ab")
    with pytest.raises(InputError, match="every and limit of 1 or more"):
        dataset.select(every=0)


def test_broken_pictures_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", {name: two_squares() for name in "abcd"})
    (root / "masks" / "b.png").write_bytes(b"no picture")
    (root / "masks" / "c.png").unlink()
    whole = (root / "masks" / "d.png").read_bytes()
    (root / "masks" / "d.png").write_bytes(whole[: len(whole) // 2])
    broken: list = []
    assert [sample.name for sample in Dataset.open(root).samples(broken=broken)] == ["a"]
    assert [entry.name for entry in broken] == ["b", "c", "d"]
    assert "cannot be read" in broken[0].reason and "found none" in broken[1].reason


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    dataset = Dataset.open(write_mask(tmp_path, PillowImage.new("RGB", (4, 3))))
    with pytest.raises(ImageError, match=r"one channel with region ids, but .* has the mode RGB"):
        dataset.read(dataset.items[0])


def test_a_huge_mask_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    dataset = Dataset.open(write_mask(tmp_path, PillowImage.new("L", (40, 30))))
    with pytest.raises(LimitError, match="at most 1000 pixels"):
        dataset.read(dataset.items[0], limits=Limits(max_pixels=1000))


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    root = write_mask(tmp_path, PillowImage.new("L", (4, 3)))
    PillowImage.new("RGB", (3, 4)).save(root / "images" / "a.jpg")
    dataset = Dataset.open(root)
    with pytest.raises(ImageError, match=r"size of its mask, 4 x 3, but .* is 3 x 4"):
        dataset.read(dataset.items[0]).load_image()


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], "expected a folder images/"),
        (["images"], "expected pictures"),
    ],
)
def test_a_folder_that_is_no_set_is_refused(tmp_path: Path, folders: list[str], message: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match=message):
        Dataset.open(tmp_path)


def test_a_set_without_masks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    PillowImage.new("RGB", (4, 3)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(InputError, match="expected a folder masks/"):
        Dataset.open(tmp_path)


def test_the_reader_imports_neither_torch_nor_opencv() -> None:
    code = "import sys, samlet.evaluate.datasets as d; print({'torch', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
