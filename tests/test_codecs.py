"""Masks in other tools' formats, and files that appear whole or not at all."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samlet import codecs
from samlet.errors import ImageError, InputError, LimitError, OutputError, SamletError
from samlet.limits import Limits
from samlet.polygons import simplify_rings
from samlet.rle import rle_to_bbox_and_area

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))

_Y, _X = np.mgrid[:60, :80]
DISK = (_X - 40) ** 2 + (_Y - 30) ** 2 <= 25**2
RING = DISK & ((_X - 40) ** 2 + (_Y - 30) ** 2 > 10**2)

# Made once with pycocotools 2.0 (`encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]`).
REFERENCE_STRINGS = [
    (
        DISK,
        "Rm01d1>G4L4L4L4M2N2N2N2N2O0O2O0O2O0O2O0O2O00000000000O20N1000000000001N101N101N101N101N2N2N2N2N3L4L4L4L9Bai0",
    ),
    (
        RING,
        "Rm01d1>G4L4L4L4M2N2N2N2N2O0O2O0O2OYOB0=MK04N00O030LO60J060JO80H080H080H080G0;0E090H080H080H080H160J060J140M"
        "01002L053C0>g01N101N101N2N2N2N2N3L4L4L4L9Bai0",
    ),
    (np.zeros((60, 80), bool), "Pf4"),
    (np.ones((60, 80), bool), "0Pf4"),
    ((_X + _Y)[:5, :6] % 2 == 0, "0110000000000000000000000000000"),
    (
        (_X * 7 + _Y * 13) % 97 == 0,
        "01T;0_F0000000000000a90_F0000000000000a90_F0000000000000U;0kD00000000000U;0kD00000000000U;0kD00000000000U;0kD0iN",
    ),
]


@pytest.mark.parametrize(("mask", "expected"), REFERENCE_STRINGS)
def test_compressed_runs_are_those_of_pycocotools(mask, expected):
    rle = codecs.mask_to_compressed_rle(mask)
    assert rle == {"size": list(mask.shape), "counts": expected}
    assert codecs.rle_to_string(codecs.mask_to_rle(mask)) == expected
    assert np.array_equal(codecs.rle_to_mask(rle), mask)


def test_compressed_runs_of_large_numbers():
    """Five-digit run lengths and differences of both signs, bytes from pycocotools."""
    mask = np.zeros((1000, 1500), bool)
    mask[700:, 1000:] = True
    text = codecs.mask_to_compressed_rle(mask)["counts"]
    assert text == "lWan0\\9le0" + "0" * 997
    assert codecs.string_to_rle(text, (1000, 1500)) == codecs.mask_to_rle(mask)


@given(MASKS)
def test_both_run_length_forms_round_trip(mask):
    plain, packed = codecs.mask_to_rle(mask), codecs.mask_to_compressed_rle(mask)
    assert np.array_equal(codecs.rle_to_mask(plain), mask)
    assert np.array_equal(codecs.rle_to_mask(packed), mask)
    assert codecs.string_to_rle(packed["counts"], packed["size"]) == plain
    assert codecs.rle_to_mask(plain).flags.c_contiguous


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=9))
def test_runs_of_any_size_survive_the_string(counts):
    size = [1, sum(counts)]
    if size[1]:
        text = codecs.rle_to_string({"size": size, "counts": counts})
        assert codecs.string_to_rle(text, size)["counts"] == counts


@given(MASKS)
def test_box_and_area_of_runs(mask):
    rle = codecs.mask_to_rle(mask)
    ys, xs = np.nonzero(mask)
    box = (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1) if len(xs) else (0, 0, 0, 0)
    assert codecs.rle_to_bbox(rle) == tuple(box)
    assert rle_to_bbox_and_area(rle) == (tuple(box), codecs.rle_area(rle))
    assert codecs.rle_area(rle) == mask.sum()


def test_box_ignores_empty_foreground_runs():
    assert codecs.rle_to_bbox({"size": [3, 4], "counts": [1, 0, 4, 1, 6, 0]}) == (1, 2, 1, 1)
    assert codecs.rle_to_bbox({"size": [3, 4], "counts": [1, 0, 4, 2, 5, 0]}) == (1, 0, 2, 3)


@pytest.mark.parametrize(
    ("rle", "error", "words"),
    [
        ({"size": [2, 2]}, InputError, "run-length code"),
        ({"counts": [4]}, InputError, "run-length code"),
        ({"size": [2], "counts": [4]}, InputError, "run-length code"),
        ({"size": ["a", 2], "counts": [4]}, InputError, "run-length code"),
        ([1, 2], InputError, "run-length code"),
        ({"size": [2, float("inf")], "counts": [4]}, InputError, "run-length code"),
        ({"size": [0, 2], "counts": []}, InputError, "at least 1 x 1"),
        ({"size": [-2, -2], "counts": [4]}, InputError, "at least 1 x 1"),
        ({"size": [2, 2], "counts": []}, InputError, "list of integers"),
        ({"size": [2, 2], "counts": [1.5, 2.5]}, InputError, "list of integers"),
        ({"size": [2, 2], "counts": [[4]]}, InputError, "list of integers"),
        ({"size": [2, 2], "counts": [[1], [1, 2]]}, InputError, "list of integers"),
        ({"size": [2, 2], "counts": None}, InputError, "list of integers"),
        ({"size": [2, 2], "counts": [2**70]}, InputError, "integers"),
        ({"size": [2, 2], "counts": [2**63]}, InputError, "below 2"),
        ({"size": [2, 2], "counts": [1, 2]}, InputError, "a sum of 3"),
        ({"size": [2, 2], "counts": [5, -1]}, InputError, "out of range"),
        ({"size": [2, 2], "counts": ""}, InputError, "stops in a number"),
        ({"size": [2, 2], "counts": "1P"}, InputError, "stops in a number"),
        ({"size": [2, 2], "counts": "1 3"}, InputError, "characters outside"),
        ({"size": [2, 2], "counts": "1\u00e93"}, InputError, "not ASCII"),
        ({"size": [2, 2], "counts": "PPPPPPPP0"}, InputError, "below 2"),
        ({"size": [2, 2], "counts": "99"}, InputError, "a length out of range"),
        ({"size": [60_000, 60_000], "counts": [3_600_000_000]}, LimitError, "at most 50000000 pixels"),
    ],
)
def test_bad_run_lengths(rle, error, words):
    with pytest.raises(error, match=re.escape(words)):
        codecs.rle_to_mask(rle)


@given(
    st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=40),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_any_string_gives_a_mask_or_an_error_of_ours(text, height, width):
    try:
        mask = codecs.rle_to_mask({"size": [height, width], "counts": text})
    except SamletError:
        return
    assert mask.shape == (height, width)


@given(MASKS)
def test_png_round_trip(mask):
    data = codecs.mask_to_png_bytes(mask)
    assert data.startswith(b"\x89PNG")
    assert np.array_equal(codecs.png_to_mask(data), mask)


@pytest.mark.parametrize(
    ("data", "limits", "error"),
    [
        (b"", Limits(), ImageError),
        (b"not a picture", Limits(), ImageError),
        (codecs.mask_to_png_bytes(DISK)[:-40], Limits(), ImageError),
        (b"GIF89a" + bytes(40), Limits(), ImageError),
        (codecs.mask_to_png_bytes(DISK), Limits(max_pixels=100), LimitError),
    ],
)
def test_bad_png(data, limits, error):
    with pytest.raises(error):
        codecs.png_to_mask(data, limits=limits)


@pytest.mark.parametrize(
    "bad", [np.zeros(4, bool), np.zeros((1, 2, 2), bool), np.zeros((0, 3), bool), np.bool_(True)]
)
@pytest.mark.parametrize(
    "function",
    [codecs.mask_to_rle, codecs.mask_to_compressed_rle, codecs.mask_to_polygons, codecs.mask_to_png_bytes],
)
def test_what_is_not_one_mask_is_refused(function, bad):
    with pytest.raises(InputError, match="expected one mask"):
        function(bad)


def signed_area(ring):
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


@settings(max_examples=300)
@given(MASKS)
def test_exact_polygons_fill_to_the_same_mask(mask):
    """Holes, islands in holes and pixels that touch at a corner included."""
    polygons = codecs.mask_to_polygons(mask)
    assert np.array_equal(codecs.polygon_to_mask(polygons, mask.shape), mask)
    assert np.array_equal(codecs.polygon_to_mask([codecs.join_polygons(polygons)], mask.shape), mask)
    for polygon in polygons:
        areas = [signed_area(polygon.exterior), *(signed_area(hole) for hole in polygon.holes)]
        assert areas[0] > 0
        assert all(area < 0 for area in areas[1:])
        assert sum(areas) == codecs.polygon_to_mask(polygon, mask.shape).sum()


@pytest.mark.parametrize(
    ("rows", "parts", "holes"),
    [
        (["1"], 1, [0]),
        (["10", "01"], 2, [0, 0]),
        (["01", "10"], 2, [0, 0]),
        (["111", "101", "111"], 1, [1]),
        (["11111", "10001", "10101", "10001", "11111"], 2, [1, 0]),
        (["1111", "1011", "1101", "1111"], 1, [1]),
        (["11111", "10101", "11111"], 1, [2]),
        (["000", "000"], 0, []),
    ],
)
def test_parts_and_holes(rows, parts, holes):
    mask = np.array([[cell == "1" for cell in row] for row in rows])
    polygons = codecs.mask_to_polygons(mask)
    assert len(polygons) == parts
    assert [len(polygon.holes) for polygon in polygons] == holes


def test_polygon_points_are_pixel_corners():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:6] = True
    (polygon,) = codecs.mask_to_polygons(mask)
    assert polygon.exterior.tolist() == [[3, 2], [6, 2], [6, 4], [3, 4]]


@pytest.mark.parametrize("tolerance", [0.75, 1.0, 2.0])
def test_simplified_outlines_stay_near(tolerance):
    (exact,), (polygon,) = codecs.mask_to_polygons(RING), codecs.mask_to_polygons(RING, tolerance=tolerance)
    assert len(polygon.exterior) < len(exact.exterior) / 2
    assert len(polygon.holes) == 1
    a, b = polygon.exterior, np.roll(polygon.exterior, -1, axis=0)
    along = b - a
    share = ((exact.exterior[:, None] - a) * along).sum(-1) / (along**2).sum(-1)
    nearest = a + np.clip(share, 0, 1)[..., None] * along
    assert np.linalg.norm(exact.exterior[:, None] - nearest, axis=-1).min(1).max() <= tolerance + 1e-9


def test_small_parts_survive_simplification_and_small_holes_do_not():
    mask = np.zeros((20, 20), bool)
    mask[2, 3] = True
    mask[6:18, 6:18] = True
    mask[10, 10] = False
    speck, square = codecs.mask_to_polygons(mask, tolerance=3.0)
    assert speck.exterior.tolist() == [[3, 2], [4, 2], [4, 3], [3, 3]]
    assert not square.holes


def test_douglas_peucker_needs_no_recursion():
    """A comb of 20,000 teeth would overflow a recursive version's stack."""
    teeth = np.arange(20_000)
    ring = np.stack(
        [np.concatenate((teeth, teeth[::-1])), np.concatenate((teeth % 2 * 9, np.full(20_000, 30)))], 1
    )
    (simple,) = simplify_rings([ring], 1.0)
    assert len(simple) >= 20_000


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_bad_tolerance(tolerance):
    with pytest.raises(InputError, match="tolerance"):
        codecs.mask_to_polygons(DISK, tolerance=tolerance)


@pytest.mark.parametrize(
    ("rings", "size", "words"),
    [
        ([np.zeros((3, 3))], (4, 4), "ring of finite points"),
        ([np.full((3, 2), np.nan)], (4, 4), "ring of finite points"),
        ([], (0, 4), "at least 1 x 1"),
    ],
)
def test_bad_polygons(rings, size, words):
    with pytest.raises(InputError, match=words):
        codecs.polygon_to_mask(rings, size)


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(-30, 40)))
def test_polygons_outside_the_picture_are_cut(ring):
    wide = codecs.polygon_to_mask([ring + 40], (100, 100))
    assert np.array_equal(codecs.polygon_to_mask([ring], (9, 7)), wide[40:49, 40:47])


def test_label_map_puts_the_smaller_mask_on_top():
    big, small = np.ones((4, 5), bool), np.zeros((4, 5), bool)
    small[1:3, 1:3] = True
    for masks, numbers in (([big, small], (1, 2)), ([small, big], (2, 1))):
        labels = codecs.label_map(masks, (4, 5))
        assert labels.dtype == np.uint16
        assert (labels[small] == numbers[1]).all()
        assert (labels[~small] == numbers[0]).all()


def test_coco():
    coco = codecs.to_coco(
        [DISK, RING], (60, 80), file_name="a.jpg", scores=[0.5, 0.25], labels=["cup", "ring"]
    )
    assert json.loads(json.dumps(coco)) == coco
    assert coco["images"] == [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}]
    assert coco["categories"] == [{"id": 1, "name": "cup"}, {"id": 2, "name": "ring"}]
    first, second = coco["annotations"]
    assert first["bbox"] == [15, 5, 51, 51]
    assert first["area"] == DISK.sum()
    assert (first["id"], second["id"], second["category_id"], second["score"]) == (1, 2, 2, 0.25)
    assert np.array_equal(codecs.rle_to_mask(second["segmentation"]), RING)


def test_coco_polygons_keep_holes_by_a_bridge():
    (record,) = codecs.to_coco([RING], (60, 80), segmentation="polygons")["annotations"]
    rings = [np.reshape(flat, (-1, 2)) for flat in record["segmentation"]]
    assert np.array_equal(codecs.polygon_to_mask(rings, (60, 80)), RING)


def test_labelme():
    two = RING.copy()
    two[0:2, 0:2] = True
    data = codecs.to_labelme([two, DISK], (60, 80), file_name="a.jpg", labels=["ring", "cup"], tolerance=0)
    assert json.loads(json.dumps(data)) == data
    assert (data["imagePath"], data["imageHeight"], data["imageWidth"], data["imageData"]) == (
        "a.jpg",
        60,
        80,
        None,
    )
    assert [(shape["label"], shape["group_id"]) for shape in data["shapes"]] == [
        ("ring", 1),
        ("ring", 1),
        ("cup", None),
    ]
    rings = [np.array(shape["points"]) for shape in data["shapes"][:2]]
    assert np.array_equal(codecs.polygon_to_mask(rings, (60, 80)), two)


def test_yolo_has_one_line_for_each_object():
    two = RING.copy()
    two[0:2, 0:2] = True
    text = codecs.to_yolo([two, np.zeros((60, 80), bool), DISK], (60, 80), classes=[3, 4, 5], tolerance=0)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "5"]
    for line, mask in zip(lines, (two, DISK), strict=True):
        ring = np.array(line.split()[1:], float).reshape(-1, 2)
        assert ring.min() >= 0
        assert ring.max() <= 1
        assert np.array_equal(codecs.polygon_to_mask([ring * (80, 60)], (60, 80)), mask)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: codecs.to_coco([DISK], (80, 60)), "picture's size 80 x 60"),
        (lambda: codecs.to_coco([DISK], (60, 80), scores=[]), "one score for each mask"),
        (lambda: codecs.to_coco([DISK], (60, 80), scores=[1, 1]), "one of scores for each of 1 masks, got 2"),
        (
            lambda: codecs.to_coco([DISK], (60, 80), labels=["a", "b"]),
            "one of labels for each of 1 masks, got 2",
        ),
        (lambda: codecs.to_coco([DISK], (60, 80), labels=[]), "one label for each mask"),
        (lambda: codecs.to_coco([DISK], (60, 80), segmentation="points"), "'rle' or 'polygons'"),
        (lambda: codecs.to_yolo([DISK], (60, 80), classes=[1, 2]), "one of labels"),
        (lambda: codecs.to_labelme([DISK], (6, 8)), "picture's size 6 x 8"),
        (lambda: codecs.label_map([DISK], (6, 8)), "picture's size 6 x 8"),
    ],
)
def test_codecs_refuse_what_does_not_fit(call, words):
    with pytest.raises(InputError, match=re.escape(words)):
        call()


def test_label_map_has_room_for_65535_masks():
    dot = np.ones((1, 1), bool)
    with pytest.raises(LimitError, match="65535"):
        codecs.label_map((dot for _ in range(65_536)), (1, 1))


def test_atomic_write_writes_bytes_and_text(tmp_path):
    assert codecs.atomic_write(tmp_path / "a.bin", b"\x00\xff").read_bytes() == b"\x00\xff"
    assert codecs.atomic_write(str(tmp_path / "a.bin"), "zwei\n").read_bytes() == b"zwei\n"
    assert codecs.atomic_write(tmp_path / "empty", b"").read_bytes() == b""
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "empty"]


def test_atomic_write_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        path = codecs.atomic_write(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def fail_with(code):
    def failing(*_args):
        raise OSError(code, os.strerror(code))

    return failing


def half_then_full(descriptor, data, real=os.write):
    """Write the first half, then find the disk full."""
    if len(data) < 4:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return real(descriptor, data[: len(data) // 2])


@pytest.mark.parametrize(
    ("name", "replacement", "words"),
    [
        ("write", fail_with(errno.ENOSPC), "the disk is full"),
        ("write", half_then_full, "the disk is full"),
        ("fsync", fail_with(errno.ENOSPC), "the disk is full"),
        ("fsync", fail_with(errno.EDQUOT), "quota"),
        ("fsync", fail_with(errno.EIO), os.strerror(errno.EIO)),
        ("replace", fail_with(errno.EACCES), "permission was refused"),
        ("open", fail_with(errno.EROFS), "read-only"),
    ],
)
@pytest.mark.parametrize("existing", [None, b"old"])
def test_a_failed_write_leaves_everything_as_it_was(
    tmp_path, monkeypatch, name, replacement, words, existing
):
    target = tmp_path / "mask.png"
    if existing is not None:
        target.write_bytes(existing)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, replacement)
        with pytest.raises(OutputError, match=re.escape(words)) as caught:
            codecs.atomic_write(target, b"new content")
    assert str(target) in str(caught.value)
    assert os.listdir(tmp_path) == ([] if existing is None else ["mask.png"])
    if existing is not None:
        assert target.read_bytes() == existing


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupted(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        codecs.atomic_write(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing/a.png", "create the folder first"),
        ("file/a.png", "a part of its path is a file"),
        ("folder", "it is a folder"),
        ("n" * 300, "too long"),
        ("a\0b", "NUL"),
    ],
)
def test_targets_that_cannot_be(tmp_path, name, words):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=words):
        codecs.atomic_write(tmp_path / name, b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_atomic_write_into_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codecs.atomic_write("a.txt", "x")
    with pytest.raises(OutputError, match="it is a folder"):
        codecs.atomic_write(Path(), "x")
    assert os.listdir(tmp_path) == ["a.txt"]
