"""Drafts: a large JPEG decoded at a part of its size, masks at the size it has."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.backends.fake import FakeBackend
from samlet.cli.main import main
from samlet.draft import Draft
from samlet.errors import ImageError, InputError, LimitError
from samlet.image import Image
from samlet.limits import Limits
from samlet.model import load

HW = (600, 900)


def photo(**options: Any) -> bytes:
    y, x = np.mgrid[: HW[0], : HW[1]]
    waves = 127 + 100 * np.sin(x / 25) * np.cos(y / 40)
    pixels = np.stack([waves, 255 - waves, x * 255 / HW[1]], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, **{"format": "JPEG", "quality": 95, **options})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("side", "small"), [(1024, 900), (400, 900), (300, 450), (160, 450), (150, 225), (75, 113), (10, 113)]
)
def test_no_more_is_decoded_than_is_needed(side: int, small: int) -> None:
    draft = Draft.load(photo(), side=side)
    assert (draft.hw, draft.small.width) == (HW, small)


def test_pixels_are_nearly_those_of_the_whole_picture() -> None:
    whole = Image.load(photo()).resized((100, 150))
    draft = Draft.load(photo(), side=150).resized((100, 150))
    apart = np.abs(whole.astype(int) - draft)
    assert 0 < apart.mean() < 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_drafts_are_upright(tmp_path: Path, orientation: int) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    path.write_bytes(photo(exif=exif))
    whole, draft = Image.load(path), Draft.load(path, side=150)
    assert draft.hw == whole.hw
    size = (whole.height // 6, whole.width // 6)
    assert np.abs(whole.resized(size).astype(int) - draft.resized(size)).mean() < 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_other_formats_are_decoded_whole(kind: str) -> None:
    data = photo(format=kind, **({"lossless": True, "quality": 0, "method": 0} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(Draft.load(data, side=50).small.pixels, Image.load(data).pixels)


def test_masks_have_the_size_of_the_picture() -> None:
    model = load("nano", threads=1)
    whole, draft = (model.embed(photo(), decode=way) for way in ("whole", "draft"))
    assert draft.frame == whole.frame
    assert draft.image is None
    masks = model.segment(draft, boxes=[100, 100, 400, 400], zoom="auto")
    assert masks.masks.shape == (1, *HW)
    with pytest.raises(InputError, match="expected a picture to draw on"):
        masks.draw()
    assert masks.draw(image=Image.load(photo())).size == HW[::-1]


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (np.zeros((4, 4, 3), np.uint8), InputError, "decoded already"),
        (b"", ImageError, "0 bytes"),
        (b"GIF89a", ImageError, "a GIF"),
        (photo()[:3000], ImageError, "damaged"),
        ("no/such.jpg", ImageError, "there is none"),
    ],
)
def test_what_cannot_be_a_draft(source: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load("nano", backend=FakeBackend()).embed(source, decode="draft")


def test_bounds_hold_for_the_whole_picture() -> None:
    with pytest.raises(LimitError, match="540,000"):
        Draft.load(photo(), side=10, limits=Limits(max_pixels=100_000))


def test_words_and_models_that_do_not_fit() -> None:
    model: Any = load("nano", backend=FakeBackend())
    with pytest.raises(InputError, match="'whole' or 'draft'"):
        model.embed(photo(), decode="half")
    model.session.card = replace(model.card, family="fastsam")
    with pytest.raises(InputError, match="SAM's kind"):
        model.embed(photo(), decode="draft")


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo())
    words = [
        "segment",
        str(path),
        "--point",
        "200,200",
        "--decode",
        "draft",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--format", "mask,overlay"]) == 2
    assert "for --decode draft, got overlay" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--format", "mask,coco", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["height"], record["width"]) == HW
    with PillowImage.open(tmp_path / "out" / "photo.mask.png") as mask:
        assert mask.size == HW[::-1]
