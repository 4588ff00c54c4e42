"""Every kind of picture we read comes out right, and every other file is refused in one clear sentence.

All pictures are made here, in code.
"""

import os
import tracemalloc
from dataclasses import FrozenInstanceError, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage

from samlet.errors import ImageError, LimitError
from samlet.image import Image
from samlet.limits import DEFAULT_LIMITS
from tests.picture_files import (
    deflated_text_bomb,
    encoded,
    frames,
    gradient,
    jpeg_claiming,
    png_bomb,
    tiff_float,
    webp_claiming,
)

ORIENTATION = 0x0112


RGB = gradient()
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="5" height="5"></svg>'

# ---- good pictures: what, source, expected pixels, tolerance


def gray16():
    return np.linspace(0, 65535, 24 * 36).reshape(24, 36).astype(np.uint16)


def with_alpha():
    alpha = np.full((24, 36, 1), 255, dtype=np.uint8)
    alpha[:12] = 0
    alpha[12:14] = 51
    return np.concatenate([RGB, alpha], axis=2)


def on_white():
    expected = RGB.astype(np.float64)
    expected[:12] = 255
    expected[12:14] = expected[12:14] * 0.2 + 255 * 0.8
    return expected


def gray3(values):
    return np.repeat(np.asarray(values)[:, :, None], 3, axis=2)


def palette_with_transparency():
    picture = PILImage.new("P", (4, 2), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((3, 1), 0)
    return encoded(picture, "PNG", transparency=0)


def palette_expected():
    expected = np.full((2, 4, 3), (200, 100, 50))
    expected[1, 3] = 255
    return expected


def black_and_white():
    bits = np.zeros((24, 36), dtype=bool)
    bits[3:9, 5:7] = True
    return bits


GRAY = RGB[:, :, 0]
GOOD = [
    ("PNG", lambda: encoded(RGB, "PNG"), RGB, 0),
    ("JPEG", lambda: encoded(RGB, "JPEG", quality=100, subsampling=0), RGB, 8),
    ("progressive JPEG", lambda: encoded(RGB, "JPEG", quality=100, subsampling=0, progressive=True), RGB, 8),
    ("gray JPEG", lambda: encoded(GRAY, "JPEG", quality=100), gray3(GRAY), 4),
    ("lossless WebP", lambda: encoded(RGB, "WEBP", lossless=True), RGB, 0),
    ("lossy WebP", lambda: encoded(RGB, "WEBP", quality=100), RGB, 40),
    ("WebP with alpha", lambda: encoded(with_alpha(), "WEBP", lossless=True, exact=True), on_white(), 1),
    ("BMP", lambda: encoded(RGB, "BMP"), RGB, 0),
    ("TIFF", lambda: encoded(RGB, "TIFF"), RGB, 0),
    ("TIFF, deflated", lambda: encoded(RGB, "TIFF", compression="tiff_adobe_deflate"), RGB, 0),
    ("CMYK JPEG", lambda: encoded(PILImage.fromarray(RGB).convert("CMYK"), "JPEG", quality=100), RGB, 24),
    ("CMYK TIFF", lambda: encoded(PILImage.fromarray(RGB).convert("CMYK"), "TIFF"), RGB, 1),
    ("16-bit PNG", lambda: encoded(gray16(), "PNG"), gray3(gray16() / 257), 0.5),
    ("16-bit TIFF", lambda: encoded(gray16(), "TIFF"), gray3(gray16() / 257), 0.5),
    ("gray PNG", lambda: encoded(GRAY, "PNG"), gray3(GRAY), 0),
    ("gray PNG with alpha", lambda: encoded(PILImage.fromarray(RGB[:, :, :2], "LA"), "PNG"), None, 1),
    ("RGBA PNG", lambda: encoded(with_alpha(), "PNG"), on_white(), 1),
    ("palette PNG", lambda: encoded(PILImage.fromarray(GRAY).convert("P"), "PNG"), gray3(GRAY), 0),
    ("palette PNG with transparency", palette_with_transparency, palette_expected(), 0),
    (
        "one-bit PNG",
        lambda: encoded(PILImage.fromarray(black_and_white()), "PNG"),
        gray3(black_and_white() * 255),
        0,
    ),
    ("colour profile dropped", lambda: encoded(RGB, "PNG", icc_profile=b"not a profile"), RGB, 0),
    ("broken EXIF ignored", lambda: encoded(RGB, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), RGB, 0),
    ("1 x 1", lambda: encoded(RGB[:1, :1], "PNG"), RGB[:1, :1], 0),
    ("1 x 5000", lambda: encoded(gradient(1, 5000), "PNG"), gradient(1, 5000), 0),
    ("5000 x 1", lambda: encoded(gradient(5000, 1), "PNG"), gradient(5000, 1), 0),
    ("longest side", lambda: encoded(gradient(1, 16_384), "PNG"), gradient(1, 16_384), 0),
    ("bytearray", lambda: bytearray(encoded(RGB, "PNG")), RGB, 0),
    ("Pillow image", lambda: PILImage.fromarray(RGB), RGB, 0),
    ("Pillow image, 16 bits", lambda: PILImage.fromarray(gray16()), gray3(gray16() / 257), 0.5),
    ("Pillow image, frame 2", lambda: frame_two(), np.full((8, 8, 3), (160, 0, 0)), 1),
    ("array (H, W)", lambda: GRAY, gray3(GRAY), 0),
    ("array (H, W, 1)", lambda: GRAY[:, :, None], gray3(GRAY), 0),
    ("array (H, W, 3)", lambda: RGB, RGB, 0),
    ("array (H, W, 4)", with_alpha, on_white(), 1),
    ("array uint16", lambda: gray16(), gray3(gray16() / 257), 0.5),
    ("array big-endian", lambda: gray16().astype(">u2"), gray3(gray16() / 257), 0.5),
    ("array mirrored", lambda: RGB[:, ::-1], RGB[:, ::-1], 0),
]


def frame_two():
    picture = PILImage.open(BytesIO(frames("PNG")))
    picture.seek(2)
    return picture


@pytest.mark.parametrize(
    ("make", "expected", "tolerance"), [pytest.param(*row[1:], id=row[0]) for row in GOOD]
)
def test_good_pictures(make, expected, tolerance):
    image = Image.load(make())
    if expected is None:  # LA: the second channel is the alpha of the first
        light, alpha = RGB[:, :, 0].astype(np.float64), RGB[:, :, 1] / 255
        expected = gray3(light * alpha + 255 * (1 - alpha))
    assert image.hw == expected.shape[:2]
    assert np.abs(image.pixels.astype(np.float64) - expected).max() <= tolerance
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    assert not image.pixels.flags.writeable


# What each EXIF orientation asks the viewer to do, in numpy.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "Pillow image"])
def test_exif_rotation_is_applied_once(kind, orientation):
    exif = PILImage.Exif()
    exif[ORIENTATION] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    source = encoded(RGB, "PNG" if kind == "Pillow image" else kind, exif=exif, **options)
    image = Image.load(PILImage.open(BytesIO(source)) if kind == "Pillow image" else source)
    expected = UPRIGHT[orientation](RGB)
    assert image.pixels.shape == expected.shape
    assert np.abs(image.pixels.astype(int) - expected).max() <= (8 if kind == "JPEG" else 0)


def test_a_phones_two_picture_jpeg_gives_the_photo():
    """An MPO holds the photo and, say, a depth map: it is no animation."""
    two = encoded(
        RGB, "MPO", save_all=True, append_images=[PILImage.new("RGB", (9, 9))], quality=100, subsampling=0
    )
    with PILImage.open(BytesIO(two)) as opened:
        assert opened.format == "MPO"
    assert np.abs(Image.load(two).pixels.astype(int) - RGB).max() <= 8


# ---- bad pictures: what, source, error, sentence


def saved(folder, data, name="photo.bin"):
    path = folder / name
    path.write_bytes(data)
    return path


def pipe(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


BAD = [
    ("0 bytes", lambda tmp: b"", ImageError, "bytes: expected an encoded picture, got 0 bytes"),
    ("file of 0 bytes", lambda tmp: saved(tmp, b""), ImageError, r"photo\.bin: .* got a file of 0 bytes"),
    (
        "text file",
        lambda tmp: saved(tmp, b"hello, world\n"),
        ImageError,
        "got a text file; convert it to PNG or JPEG",
    ),
    (
        "random bytes",
        lambda tmp: bytes(range(1, 200)),
        ImageError,
        "format JPEG, PNG, WEBP, BMP, TIFF, got something",
    ),
    ("PNG start only", lambda tmp: b"\x89PNG\r\n\x1a\n", ImageError, "damaged"),
    ("JPEG start only", lambda tmp: b"\xff\xd8\xff", ImageError, "damaged"),
    ("WebP start only", lambda tmp: b"RIFF\x09\0\0\0WEBPVP8 ", ImageError, "damaged"),
    ("TIFF start only", lambda tmp: b"II*\0\x08\0\0\0", ImageError, "damaged"),
    ("BMP start only", lambda tmp: b"BM", ImageError, "damaged"),
    (
        "truncated JPEG",
        lambda tmp: encoded(gradient(200, 300), "JPEG")[:-200],
        ImageError,
        r"damaged one \(.*truncated",
    ),
    (
        "truncated PNG",
        lambda tmp: encoded(RGB, "PNG")[:-60],
        ImageError,
        "damaged one .* save or download it again",
    ),
    ("truncated WebP", lambda tmp: encoded(RGB, "WEBP")[:-100], ImageError, "damaged"),
    ("truncated BMP", lambda tmp: encoded(RGB, "BMP")[:-500], ImageError, "damaged one .*truncated"),
    ("truncated TIFF", lambda tmp: encoded(RGB, "TIFF")[:-500], ImageError, "damaged"),
    ("PNG with a wrong byte", lambda tmp: flipped(encoded(RGB, "PNG")), ImageError, "damaged"),
    (
        "PNG bomb",
        lambda tmp: png_bomb(),
        LimitError,
        "at most 50,000,000 pixels, got 14000 x 14000 = 196,000,000",
    ),
    ("JPEG of 65,500 squared", lambda tmp: jpeg_claiming(65_500, 65_500), LimitError, "got 65500 x 65500"),
    ("JPEG of no height", lambda tmp: jpeg_claiming(0, 30), ImageError, "damaged"),
    ("WebP of 2**24 squared", lambda tmp: webp_claiming(2**24), LimitError, "16777216 x 16777216"),
    ("comment bomb", lambda tmp: deflated_text_bomb(), ImageError, "damaged"),
    (
        "side too long",
        lambda tmp: encoded(np.zeros((1, 16_385), np.uint8), "PNG"),
        LimitError,
        "sides of at most 16,384",
    ),
    ("GIF", lambda tmp: encoded(RGB, "GIF"), ImageError, "got a GIF; convert it to PNG or JPEG"),
    ("animated GIF", lambda tmp: frames("GIF"), ImageError, "got a GIF"),
    ("animated PNG", lambda tmp: frames("PNG"), LimitError, r"at most 1 frame\(s\), got an animation"),
    (
        "animated WebP",
        lambda tmp: frames("WEBP"),
        LimitError,
        "got an animation or a multi-page file; save the frame",
    ),
    ("TIFF of many pages", lambda tmp: frames("TIFF"), LimitError, "multi-page"),
    (
        "TIFF of floats",
        lambda tmp: tiff_float(),
        ImageError,
        "got 32-bit values of unknown range; scale them",
    ),
    ("SVG", lambda tmp: saved(tmp, SVG, "drawing.png"), ImageError, r"drawing\.png: .* got an SVG"),
    ("PDF", lambda tmp: b"%PDF-1.7\n%\xe2\xe3", ImageError, "got a PDF"),
    ("HEIC", lambda tmp: b"\0\0\0\x18ftypheic" + bytes(12), ImageError, "got a HEIC, AVIF or video file"),
    ("ZIP", lambda tmp: b"PK\x03\x04" + bytes(30), ImageError, "got a ZIP archive"),
    ("ICO", lambda tmp: encoded(RGB, "ICO"), ImageError, "got an ICO file"),
    ("directory", lambda tmp: tmp, ImageError, "expected a picture file, got a directory; name a file in it"),
    (
        "missing file",
        lambda tmp: tmp / "none.jpg",
        ImageError,
        r"none\.jpg: .* there is none; check the path",
    ),
    ("missing file, as text", lambda tmp: str(tmp / "none.jpg"), ImageError, "there is none; check the path"),
    (
        "file below a file",
        lambda tmp: saved(tmp, b"x") / "a.jpg",
        ImageError,
        "Not a directory.*; check path and rights",
    ),
    (
        "a web address",
        lambda tmp: "https://example.org/a.jpg",
        ImageError,
        "there is none; download it first",
    ),
    ("empty path", lambda tmp: "", ImageError, "there is none; check the path"),
    ("path with a null byte", lambda tmp: "a\0b.jpg", ImageError, r"a\?b\.jpg: .* null byte"),
    ("path too long", lambda tmp: "a" * 5000, ImageError, "name too long"),
    ("pipe", pipe, ImageError, "got a pipe or device; save it to a file first"),
    ("number", lambda tmp: 7, ImageError, "a numpy array or a Pillow image, got int"),
    ("list", lambda tmp: RGB.tolist(), ImageError, "got list; convert it"),
    (
        "float array",
        lambda tmp: RGB / 255,
        ImageError,
        r"got float64; if it spans 0 to 1, pass \(array \* 255\)",
    ),
    ("bool array", lambda tmp: RGB[:, :, 0] > 9, ImageError, r"got bool; for a black-and-white picture pass"),
    ("int64 array", lambda tmp: RGB.astype(np.int64), ImageError, r"got int64; convert it with astype"),
    ("array of 1 axis", lambda tmp: RGB[0, 0], ImageError, r"expected shape .* got \(3,\); reshape it"),
    ("array of 4 axes", lambda tmp: RGB[None], ImageError, r"got \(1, 24, 36, 3\); reshape it"),
    ("array of 2 channels", lambda tmp: RGB[:, :, :2], ImageError, r"got \(24, 36, 2\)"),
    (
        "channels first",
        lambda tmp: RGB.transpose(2, 0, 1),
        ImageError,
        r"got \(3, 24, 36\); move the channels last",
    ),
    ("empty array", lambda tmp: RGB[:0], ImageError, r"got an array of shape \(0, 36, 3\)"),
    (
        "array too wide",
        lambda tmp: np.zeros((1, 20_000), np.uint8),
        LimitError,
        "got 20000 x 1; scale or cut",
    ),
    ("Pillow image of floats", lambda tmp: PILImage.new("F", (4, 4)), ImageError, "32-bit values"),
    ("Pillow image, closed", lambda tmp: closed(), ImageError, "image: .* damaged"),
    ("Pillow image too wide", lambda tmp: PILImage.new("1", (20_000, 1)), LimitError, "sides of at most"),
]


def closed():
    picture = PILImage.open(BytesIO(encoded(RGB, "PNG")))
    picture.close()
    return picture


def flipped(data):
    at = data.index(b"IDAT") + 20
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(("make", "error", "sentence"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_bad_pictures_are_refused_in_one_clear_sentence(tmp_path, make, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        Image.load(make(tmp_path))
    assert type(caught.value) is error
    assert (error.exit_code, error.http_status) == (2, {ImageError: 415, LimitError: 413}[error])
    text = str(caught.value)
    assert "expected " in text
    assert ";" in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (PermissionError(13, "Permission denied"), r"failed \(Permission denied\); check path and rights"),
        (OSError(5, "Input/output error"), r"failed \(Input/output error\)"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, monkeypatch, trouble, sentence):
    """File rights do not stop root, so the refusal itself is put in place."""
    path = saved(tmp_path, encoded(RGB, "PNG"))

    def refuse(*_args, **_options):
        raise trouble

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError, match=sentence):
        Image.load(path)


def test_too_many_bytes_are_refused_unread(tmp_path):
    data = encoded(RGB, "BMP")
    with pytest.raises(LimitError, match=r"at most 0\.000976562 MiB, got 0\.0 MiB; compress"):
        Image.load(data, limits=replace(DEFAULT_LIMITS, max_bytes=1024))
    with pytest.raises(LimitError, match="compress or scale it down"):
        Image.load(saved(tmp_path, data), limits=replace(DEFAULT_LIMITS, max_file_bytes=1024))
    assert Image.load(saved(tmp_path, data), limits=replace(DEFAULT_LIMITS, max_bytes=1024)).hw == (24, 36)


def test_bounds_are_the_operators():
    data = frames("PNG")
    assert Image.load(data, limits=replace(DEFAULT_LIMITS, max_frames=3)).hw == (8, 8)
    with pytest.raises(LimitError, match="at most 2 frame"):
        Image.load(data, limits=replace(DEFAULT_LIMITS, max_frames=2))
    assert Image.load(encoded(RGB, "GIF"), limits=replace(DEFAULT_LIMITS, formats=("GIF",))).hw == (24, 36)
    with pytest.raises(ImageError, match="format PNG, got something else"):
        Image.load(encoded(RGB, "JPEG"), limits=replace(DEFAULT_LIMITS, formats=("PNG",)))
    with pytest.raises(LimitError, match="at most 863 pixels"):
        Image.load(Image.load(RGB), limits=replace(DEFAULT_LIMITS, max_pixels=863))


@pytest.mark.parametrize(
    "make", [png_bomb, lambda: jpeg_claiming(65_500, 65_500), lambda: webp_claiming(2**24)]
)
def test_bombs_cost_no_memory(make):
    """The bomb needs 784 MB when decoded; the header is enough to refuse it."""
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(LimitError):
            Image.load(data)
        assert tracemalloc.get_traced_memory()[1] < len(data) + 2**20
    finally:
        tracemalloc.stop()


SEEDS = [encoded(RGB, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata in pictures that it can still read
@given(st.sampled_from(SEEDS), st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_picture_or_our_error(seed, data):
    mutant = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 4))):
        mutant[data.draw(st.integers(0, len(mutant) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutant)))
    mutant = bytes(mutant[:cut] if data.draw(st.booleans()) else mutant)
    try:
        image = Image.load(mutant)
    except (ImageError, LimitError) as error:
        assert str(error).isprintable()
    else:
        assert image.pixels.shape == (*image.hw, 3)


@pytest.mark.parametrize(
    ("make", "name", "source"),
    [
        (lambda tmp: saved(tmp, encoded(RGB, "PNG"), "a.png"), None, "{tmp}/a.png"),
        (lambda tmp: str(saved(tmp, encoded(RGB, "PNG"), "a.png")), "dog", "dog"),
        (lambda tmp: encoded(RGB, "PNG"), None, "bytes"),
        (lambda tmp: RGB, None, "array"),
        (lambda tmp: PILImage.fromarray(RGB), None, "image"),
        (lambda tmp: Image.load(RGB, name="cat"), None, "cat"),
        (lambda tmp: Image.load(RGB, name="cat"), "two\nlines\x1b[2J", "two?lines?[2J"),
    ],
)
def test_a_picture_knows_where_it_came_from(tmp_path, make, name, source):
    assert Image.load(make(tmp_path), name=name).source == source.format(tmp=tmp_path)


def test_pixels_never_change():
    mine = RGB.copy()
    image, direct = Image.load(mine), Image(mine)
    mine[...] = 0
    assert (image.pixels == RGB).all()
    assert (direct.pixels == RGB).all()
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 7
    with pytest.raises(FrozenInstanceError):
        image.pixels = mine
    assert Image.load(image) is image


@pytest.mark.parametrize("pixels", [RGB / 255, RGB[:, :, 0], RGB[:, :, :2], RGB[:0]])
def test_a_picture_made_by_hand_is_checked_too(pixels):
    with pytest.raises(ImageError, match=r"use Image\.load, which converts"):
        Image(pixels)


def test_digest_names_size_and_pixels():
    digest = Image.load(RGB).digest()
    assert digest == Image.load(encoded(RGB, "PNG"), name="other").digest()
    assert len(digest) == 64
    assert digest != Image.load(RGB.reshape(12, 72, 3)).digest()
    assert digest != Image.load(np.where(RGB == 255, 254, RGB).astype(np.uint8)).digest()


def test_resized_is_pillows_bilinear():
    image = Image.load(gradient(100, 150))
    small = image.resized((40, 64))
    expected = PILImage.fromarray(gradient(100, 150)).resize((64, 40), PILImage.Resampling.BILINEAR)
    np.testing.assert_array_equal(small, np.asarray(expected))
    assert not small.flags.writeable
    assert image.resized((100, 150)) is image.pixels


def test_paths_of_both_kinds(tmp_path):
    path = saved(tmp_path, encoded(RGB, "PNG"))
    np.testing.assert_array_equal(Image.load(Path(path)).pixels, Image.load(str(path)).pixels)
