"""What a visitor saves: every file is read back with other programs' eyes and equals the library's mask."""

import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from samlet.rle import rle_to_mask
from tests.web_page import answer, iou

BOX = (170, 15, 415, 310)
BESIDE = (20, 200, 120, 390)


@pytest.fixture
def cut(coffee, web_model, sample):
    """Two objects, a cup and another one, and the library's masks for them."""
    view = web_model.embed(sample("coffee"))
    masks = []
    for box, name in ((BOX, "cup"), (BESIDE, 'table <"&>')):
        coffee.drag(*box)
        masks.append(answer(coffee, web_model, view, boxes=[box]))
        field = coffee.page.locator("[data-part=name]").last
        field.fill(name)
        field.press("Enter")
    assert all(mask.any() for mask in masks)
    return coffee, masks


def test_a_cutout_has_the_pictures_pixels_inside_and_nothing_outside(cut, sample):
    visitor, masks = cut
    name, data = visitor.save("cutout")
    assert name == "coffee.cutout.png"
    picture = Image.open(io.BytesIO(data))
    inside = masks[0] | masks[1]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    assert picture.mode == "RGBA" and picture.size == (np.ptp(columns) + 1, np.ptp(rows) + 1)
    pixels = np.asarray(picture)
    assert np.array_equal(pixels[..., 3] == 255, inside[window])
    assert not pixels[~inside[window]].any()  # no background is left in the file
    photo = np.asarray(Image.open(sample("coffee")))[window]
    # Two JPEG decoders may differ by a few steps.
    assert np.abs(pixels[..., :3].astype(int) - photo)[inside[window]].mean() < 1


def test_a_soft_edge_fades_over_a_few_pixels_and_nowhere_else(cut, sample):
    visitor, masks = cut
    visitor.page.check("#soft")
    name, data = visitor.save("cutout")
    assert name == "coffee.cutout.png"
    alpha = np.asarray(Image.open(io.BytesIO(data)))[..., 3]
    inside = masks[0] | masks[1]
    box = Image.fromarray(inside).getbbox()
    reach = 4  # twice the two pixels that a picture of this size fades over
    left, top = max(0, box[0] - reach), max(0, box[1] - reach)
    there = inside[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    assert ((alpha > 127) == there).mean() > 0.995
    partial = ((alpha > 8) & (alpha < 247)).sum()
    edge = (there ^ np.roll(there, 1, axis=0)).sum() + (there ^ np.roll(there, 1, axis=1)).sum()
    assert edge < partial < 8 * edge


def test_another_ground_leaves_the_objects_and_changes_the_rest(cut, sample):
    visitor, masks = cut
    photo = np.asarray(Image.open(sample("coffee")).convert("RGB")).astype(int)
    inside = masks[0] | masks[1]
    visitor.page.fill("#ground", "#2040ff")
    name, data = visitor.save("ground")
    assert name == "coffee.ground.png"
    plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert (plain[~inside] == (0x20, 0x40, 0xFF)).all() and np.abs(plain - photo)[inside].mean() < 1
    name, data = visitor.save("blurred")
    assert name == "coffee.blurred.png"
    soft = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(soft - photo)[inside].mean() < 1

    def roughness(pixels):
        both = ~inside[:, 1:] & ~inside[:, :-1]
        return np.abs(np.diff(pixels, axis=1))[both].mean()

    assert roughness(soft) < 0.5 * roughness(photo)
    assert np.abs(soft - photo)[~inside].mean() < 25  # out of focus, not another picture


def test_objects_take_their_colours_or_vanish(cut, sample):
    visitor, masks = cut
    photo = np.asarray(Image.open(sample("coffee")).convert("RGB")).astype(int)
    inside = masks[0] | masks[1]
    visitor.page.locator("[data-part=colour]").first.fill("#808080")
    visitor.page.check("input[name=scope][value=active]")
    visitor.page.locator("[data-part=choose]").first.press("Enter")  # by keyboard
    name, data = visitor.save("recoloured")
    assert name == "coffee.recoloured.png"
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.ptp(grey, axis=2)[masks[0]].max() <= 1 < np.ptp(photo, axis=2)[masks[0]].mean()
    assert np.abs(grey - photo)[~masks[0]].mean() < 1
    assert (
        np.abs(grey @ [0.299, 0.587, 0.114] - photo @ [0.299, 0.587, 0.114])[masks[0]].mean() < 2
    )  # light and shade
    visitor.page.check("input[name=scope][value=all]")
    name, data = visitor.save("erased")
    assert name == "coffee.erased.png"
    without = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    far = np.asarray(Image.fromarray(inside).filter(ImageFilter.MaxFilter(9)))
    assert np.abs(without - photo)[~far].mean() < 1

    def roughness(pixels):
        both = inside[:, 1:] & inside[:, :-1]
        return np.abs(np.diff(pixels, axis=1))[both].mean()

    assert roughness(without) < 0.4 * roughness(photo)


def test_objects_are_joined_overlapped_and_subtracted(coffee):
    def mask():
        return np.asarray(Image.open(io.BytesIO(coffee.save("mask")[1])).convert("L")) > 0

    whole = coffee.page.locator("[data-part=show]")
    alone = []
    for box in (BOX, (250, 100, 350, 200)):
        coffee.drag(*box)
        alone.append(mask())
        whole.last.click()
    assert all(coffee.page.is_disabled(f"[data-combine={kind}]") for kind in ("join", "overlap", "subtract"))
    for index in range(2):
        whole.nth(index).click()
    coffee.page.locator("[data-part=choose]").first.press("Enter")
    for kind, wanted in (
        ("join", alone[0] | alone[1]),
        ("overlap", alone[0] & alone[1]),
        ("subtract", alone[0] & ~alone[1]),
    ):
        assert wanted.any()
        coffee.page.focus(f"[data-combine={kind}]")
        coffee.page.keyboard.press("Enter")
        coffee.page.wait_for_selector("#work[data-objects='3']")
        assert "Those it is made of are hidden" in coffee.status
        assert np.array_equal(mask(), wanted)
        coffee.page.keyboard.press("Control+z")
        coffee.page.wait_for_selector("#work[data-objects='2']")


def test_a_mask_is_white_inside_and_has_the_pictures_size(cut):
    visitor, masks = cut
    name, data = visitor.save("mask")
    assert name == "coffee.mask.png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("L")), (masks[0] | masks[1]) * 255)


def test_the_chosen_object_alone_can_be_saved(cut):
    visitor, masks = cut
    visitor.page.check("input[name=scope][value=active]")
    _, data = visitor.save("mask")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("L")), masks[1] * 255)
    visitor.page.keyboard.press("Control+s")
    visitor.page.locator("[data-part=show]").last.click()
    assert visitor.page.is_disabled("[data-save=mask]")


def test_coco_holds_each_object_exactly(cut):
    visitor, masks = cut
    name, data = visitor.save("coco")
    found = json.loads(data)
    assert name == "coffee.coco.json"
    assert found["images"] == [{"id": 1, "file_name": "coffee.jpg", "height": 400, "width": 600}]
    assert [one["name"] for one in found["categories"]] == ["cup", 'table <"&>']
    for record, mask in zip(found["annotations"], masks, strict=True):
        assert np.array_equal(rle_to_mask(record["segmentation"]), mask)
        assert record["area"] == mask.sum()
        x, y, width, height = record["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum()
        assert (
            mask[y].any() and mask[:, x].any() and mask[y + height - 1].any() and mask[:, x + width - 1].any()
        )
        assert 0 < record["score"] <= 1


def test_svg_outlines_follow_the_masks(cut):
    visitor, masks = cut
    name, data = visitor.save("svg")
    root = ElementTree.fromstring(data)
    space = {"svg": "http://www.w3.org/2000/svg"}
    assert name == "coffee.svg" and root.get("viewBox") == "0 0 600 400"
    paths = root.findall("svg:path", space)
    assert [path.find("svg:title", space).text for path in paths] == ["cup", 'table <"&>']
    for path, mask in zip(paths, masks, strict=True):
        assert path.get("fill-rule") == "evenodd"
        assert iou(filled(path.get("d")), mask) > 0.98


def filled(data):
    """Fill an SVG path of straight lines by the even-odd rule."""
    total = Image.new("1", (600, 400))
    for loop in re.findall(r"M([^Z]+)Z", data):
        corners = [tuple(map(float, pair.split())) for pair in loop.split("L")]
        one = Image.new("1", (600, 400))
        # Pillow's pixels have their centres at whole numbers.
        ImageDraw.Draw(one).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=1)
        total = ImageChops.logical_xor(total, one)
    return np.asarray(total)
