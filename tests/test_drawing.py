"""Pictures for people: the right pixels change, the input never does."""

import re

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet import drawing
from samlet.errors import InputError
from samlet.image import Image
from samlet.prompt import Prompt

PHOTO = Image.load(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))
DISK = np.hypot(*np.ogrid[-60:60, -80:80]) <= 40
SMALL = np.hypot(*np.ogrid[-60:60, -80:80]) <= 15


def drawn(*args, **options):
    return np.asarray(drawing.overlay(*args, **options)).astype(int)


def test_only_the_neighbourhood_of_the_mask_changes():
    before = PHOTO.pixels.copy()
    after = drawn(PHOTO, [DISK])
    away = np.hypot(*np.ogrid[-60:60, -80:80]) > 40 + 6
    assert np.array_equal(after[away], before[away])
    assert (after[DISK] != before[DISK]).any(-1).mean() > 0.95
    assert np.array_equal(PHOTO.pixels, before)


def test_the_fill_leans_to_the_colour_and_the_outline_is_the_colour():
    grey = Image.load(np.full((120, 160, 3), 128, np.uint8))
    after = drawn(grey, [DISK], alpha=0.5)
    color = np.array(drawing.color(0))
    assert np.abs(after[60, 80] - (128 + color) / 2).max() <= 1
    row = np.abs(after[60] - color).max(-1)
    assert row[[40, 120]].min() <= 12
    assert np.array_equal(drawn(grey, [DISK], alpha=0)[60, 80], [128, 128, 128])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_smaller_masks_lie_on_top(order):
    grey = Image.load(np.full((120, 160, 3), 128, np.uint8))
    masks = [(DISK, SMALL)[index] for index in order]
    middle = drawn(grey, masks, alpha=1.0)[60, 80]
    assert np.abs(middle - drawing.color(order.index(1))).max() <= 1


def test_masks_at_the_border_and_empty_masks():
    full, empty = np.ones((120, 160), bool), np.zeros((120, 160), bool)
    grey = Image.load(np.full((120, 160, 3), 128, np.uint8))
    after = drawn(grey, [empty, full])
    assert np.ptp(after.reshape(-1, 3), axis=0).max() == 0  # no outline along the frame of the picture
    assert np.array_equal(drawn(PHOTO, [empty]), PHOTO.pixels)
    assert np.array_equal(drawn(PHOTO, []), PHOTO.pixels)


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 300), (300, 1), (2, 2), (900, 20)])
def test_any_shape_of_picture(image_hw):
    photo = Image.load(np.zeros((*image_hw, 3), np.uint8))
    prompt = Prompt.make(image_hw=image_hw, points=[0, 0], boxes=[0, 0, image_hw[1], image_hw[0]])
    after = drawing.overlay(photo, [np.ones(image_hw, bool)], prompt=prompt)
    assert after.size == image_hw[::-1]


def test_colours_are_stable_and_distinct():
    colors = np.array([drawing.color(index) for index in range(24)])
    assert drawing.color(0) == tuple(colors[0])
    apart = np.abs(colors[:, None] - colors).sum(-1) + 999 * np.eye(24, dtype=int)
    assert apart.min() > 15
    assert np.abs(colors[1:] - colors[:-1]).sum(-1).min() > 100
    assert colors.min() >= 0
    assert colors.max() <= 255


def test_clicks_are_green_and_red_and_padding_is_not_drawn():
    black = Image.load(np.zeros((240, 320, 3), np.uint8))
    prompt = Prompt.make(
        image_hw=(240, 320),
        points=[[[60, 60], [200, 60], [150, 200]]],
        labels=[[1, 0, -1]],
        boxes=[20, 150, 80, 220],
    )
    after = drawn(black, [], prompt=prompt)
    green, red = after[55:66, 55:66].reshape(-1, 3), after[55:66, 195:206].reshape(-1, 3)
    assert ((green[:, 1] > 150) & (green[:, 0] < 120)).any()
    assert ((red[:, 0] > 180) & (red[:, 1] < 120)).any()
    assert not after[180:221, 130:171].any()
    assert np.array_equal(after[185, 20], drawing.color(0))
    assert after[185, 50].sum() == 0


def test_lines_grow_with_the_picture():
    def changed(scale):
        photo = Image.load(np.full((300 * scale, 400 * scale, 3), 128, np.uint8))
        mask = np.zeros((300 * scale, 400 * scale), bool)
        mask[100 * scale : 200 * scale, 100 * scale : 300 * scale] = True
        return (drawn(photo, [mask], alpha=0)[150 * scale] != 128).any(-1).sum()

    assert changed(6) > 2 * changed(1)


def test_anything_with_iter_masks_will_do():
    class Two:
        def iter_masks(self):
            yield DISK
            yield SMALL

    assert np.array_equal(drawn(PHOTO, Two()), drawn(PHOTO, [DISK, SMALL]))


def test_cutout():
    rgba = np.asarray(drawing.cutout(PHOTO, SMALL))
    inside = SMALL[45:76, 65:96]
    assert rgba.shape == (31, 31, 4)
    assert np.array_equal(rgba[..., 3] == 255, inside)
    assert np.array_equal(rgba[inside][:, :3], PHOTO.pixels[45:76, 65:96][inside])
    assert not rgba[~inside].any()


def test_contact_sheet():
    red, wide = (
        PillowImage.new("RGB", (50, 100), (255, 0, 0)),
        PillowImage.new("RGBA", (200, 20), (0, 0, 255, 255)),
    )
    sheet = drawing.contact_sheet(
        [red, wide, PHOTO], 2, ["one", "a caption\nmuch too long for its cell " * 5, ""], cell=100
    )
    plain = drawing.contact_sheet([red, wide, PHOTO], 2, cell=100)
    assert sheet.mode == "RGB"
    assert sheet.width == plain.width == 2 * 100 + 3 * 6
    assert plain.height == 100 + 75 + 3 * 6
    assert sheet.height > plain.height
    assert plain.getpixel((6 + 50, 6 + 50)) == (255, 0, 0)
    assert plain.getpixel((6 + 100 + 6 + 50, 6 + 100 - 3)) == (0, 0, 255)
    gaps = np.asarray(sheet)[:, [1, 108, 215]]
    assert (gaps == 250).all()  # the long caption stays in its column


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: drawing.overlay(PHOTO, [DISK[:9]]), "picture's size 120 x 160, got one of 9 x 160"),
        (lambda: drawing.overlay(PHOTO, [DISK], alpha=2), "alpha from 0 to 1"),
        (lambda: drawing.overlay(PHOTO, [DISK], alpha=float("nan")), "alpha from 0 to 1"),
        (lambda: drawing.overlay(PHOTO, [np.ones((1, 120, 160))]), "expected one mask"),
        (lambda: drawing.cutout(PHOTO, np.zeros((120, 160), bool)), "an empty one"),
        (lambda: drawing.cutout(PHOTO, DISK[:9]), "picture's size"),
        (lambda: drawing.contact_sheet([], 2), "got 0 pictures"),
        (lambda: drawing.contact_sheet([PHOTO], 0), "at least 1 column"),
        (lambda: drawing.contact_sheet([PHOTO], 1, cell=3), "cells of 3"),
        (lambda: drawing.contact_sheet([PHOTO], 1, ["a", "b"]), "a caption for each of 1 pictures, got 2"),
        (lambda: drawing.picture_encoder("a.gif"), ".png, .jpg, .jpeg, .webp"),
        (lambda: drawing.picture_encoder("a"), ".png"),
    ],
)
def test_what_cannot_be_drawn(call, words):
    with pytest.raises(InputError, match=re.escape(words)):
        call()
