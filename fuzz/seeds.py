"""Good files of every kind that samlet reads, small, and made here: what mutants are made of."""

import json
from io import BytesIO
from typing import Any

import numpy as np
from attacks.assembly import (
    START,
    STOP,
    called,
    legacy_file,
    name,
    number,
    numbers,
    tensor,
    text,
    torch_file,
    weights,
)
from PIL import Image as PILImage

from samlet.checkpoint import to_pt, to_safetensors
from samlet.rle import mask_to_compressed_rle, mask_to_rle

ARRAYS = {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.arange(3), "b": np.ones(2, np.float16)}


def picture(mode: str = "RGB") -> PILImage.Image:
    """A picture of 24 x 18 pixels with smooth and with busy parts."""
    y, x = np.mgrid[0:18, 0:24]
    rgb = np.stack([x * 10, y * 14, (x * y * 7) % 256], axis=2).astype(np.uint8)
    if mode == "I;16":
        return PILImage.fromarray(rgb[..., 0].astype(np.uint16) * 257)
    if mode == "RGBA":
        alpha = ((x + y) * 6).astype(np.uint8)
        return PILImage.fromarray(np.dstack([rgb, alpha]))
    return PILImage.fromarray(rgb).convert(mode)


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """Encode that picture."""
    stream = BytesIO()
    picture(mode).save(stream, kind, **options)
    return stream.getvalue()


def jpegs() -> list[bytes]:
    """Baseline, progressive, grey, CMYK, with EXIF, with restart markers, and with a second picture behind it."""
    exif = PILImage.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    stream = BytesIO()
    picture().save(stream, "MPO", save_all=True, append_images=[picture()])
    return [
        encoded("JPEG", quality=80),
        encoded("JPEG", quality=60, progressive=True, subsampling=0),
        encoded("JPEG", "L"),
        encoded("JPEG", "CMYK"),
        encoded("JPEG", exif=exif, dpi=(72, 72), comment=b"a comment"),
        encoded("JPEG", restart_marker_blocks=2),
        stream.getvalue(),
    ]


def pngs() -> list[bytes]:
    """Every kind of pixel, a palette with transparency, text, EXIF, and an animation."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "a comment")
    info.add_text("Packed", "packed " * 20, zip=True)
    info.add_itxt("Other", "text", "en", "other")
    exif = PILImage.Exif()
    exif[0x0112] = 3
    stream = BytesIO()
    picture().save(stream, "PNG", save_all=True, append_images=[picture()], duration=50)
    modes = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")
    return [
        *(encoded("PNG", mode) for mode in modes),
        encoded("PNG", "P", transparency=3, bits=4),
        encoded("PNG", pnginfo=info, exif=exif, dpi=(72, 72)),
        stream.getvalue(),
    ]


def webps() -> list[bytes]:
    """Lossy, lossless, with alpha, with EXIF, and an animation."""
    exif = PILImage.Exif()
    exif[0x0112] = 8
    stream = BytesIO()
    picture().save(stream, "WEBP", save_all=True, append_images=[picture()], duration=50)
    return [
        encoded("WEBP"),
        encoded("WEBP", lossless=True),
        encoded("WEBP", "RGBA"),
        encoded("WEBP", exif=exif),
        stream.getvalue(),
    ]


def bmps() -> list[bytes]:
    """Every depth that Pillow writes, and a palette coded in runs, which it only reads."""
    coded = bytearray(encoded("BMP", "P"))
    offset = int.from_bytes(coded[10:14], "little")
    body = b"".join(bytes((12, row)) + bytes((12, 255 - row)) + b"\0\0" for row in range(18)) + b"\0\1"
    coded[30:34], coded[34:38] = (1).to_bytes(4, "little"), len(body).to_bytes(4, "little")
    coded[offset:] = body
    coded[2:6] = len(coded).to_bytes(4, "little")
    return [*(encoded("BMP", mode) for mode in ("RGB", "L", "P", "1", "RGBA")), bytes(coded)]


def tiffs() -> list[bytes]:
    """Every way of packing that Pillow writes, and two pages."""
    exif = PILImage.Exif()
    exif[0x0112] = 5
    stream = BytesIO()
    picture().save(stream, "TIFF", save_all=True, append_images=[picture()])
    ways = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return [
        *(encoded("TIFF", compression=way) for way in ways),
        encoded("TIFF", "1", compression="group4"),
        encoded("TIFF", "RGBA"),
        encoded("TIFF", "I;16"),
        encoded("TIFF", "P", exif=exif),
        stream.getvalue(),
    ]


def prompts_over_http() -> list[bytes]:
    """Bodies of /v1/embeddings/{id}/segment."""
    return [
        json.dumps(value).encode()
        for value in (
            {"points": [[22, 11], [40.5, 20]], "labels": [1, 0], "format": "rle"},
            {"points": [[[1, 2]], [[3, 4]]], "labels": [[1], [1]], "multimask": True},
            {"boxes": [[1, 2, 30, 40], [0, 0, 5, 5]], "format": "polygons", "tolerance": 2.5},
            {"boxes": [1, 2, 30, 40], "points": [[3, 4]], "hint_from": "abcdefgh"},
        )
    ]


def prompts_of_the_library() -> list[bytes]:
    """What may stand in a call of `model.segment`."""
    return [
        json.dumps(value).encode()
        for value in (
            {"points": [22, 11], "labels": [1]},
            {"points": [[22, 11], [40.5, 20]], "labels": [1, 0]},
            {
                "points": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
                "labels": [[1, 0], [1, -1]],
                "boxes": [[1, 2, 3, 4], [2, 2, 9, 9]],
            },
            {"boxes": [1, 2, 30, 40], "hint": [[[0.5, -1], [2, 3]]]},
        )
    ]


def prompts_as_lines() -> list[bytes]:
    """Files of `samlet batch --prompts`, JSON lines."""
    lines = (
        {"name": "a.jpg", "box": [1, 2, 30, 40], "label": "dog"},
        {"name": "b.jpg", "points": [[1, 2], [3, 4]], "labels": [1, 0]},
        {"file_name": "c.jpg", "objects": [{"box": [1, 2, 3, 4]}, {"points": [5, 6]}]},
    )
    return [b"\n".join(json.dumps(line).encode() for line in lines), json.dumps(lines[2]).encode()]


def prompts_as_table() -> list[bytes]:
    """Files of `samlet batch --prompts`, CSV."""
    return [
        b"name,x0,y0,x1,y1,label\na.jpg,1,2,30,40,dog\nb.jpg,0,0,1e2,5.5,\n",
        b'\xef\xbb\xbfname,x,y\r\n"a, b.jpg",1,2\r\nc.jpg,3,4\r\n',
    ]


def prompts_as_coco() -> list[bytes]:
    """Files of `samlet batch --prompts`, COCO."""
    value = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 24, "height": 18}],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]},
            {"id": 8, "image_id": 1, "category_id": 4, "bbox": [1.5, 2, 3e0, 4]},
        ],
    }
    return [json.dumps(value).encode()]


def rles() -> list[bytes]:
    """Run lengths in both forms."""
    masks = [
        np.eye(6, 9) > 0,
        np.zeros((4, 5), bool),
        np.ones((3, 2), bool),
        np.arange(63).reshape(7, 9) % 5 < 2,
    ]
    return [
        json.dumps(code(mask)).encode() for code in (mask_to_rle, mask_to_compressed_rle) for mask in masks
    ]


def cards_as_toml() -> list[bytes]:
    """Cards as the package has them."""
    from importlib.resources import files

    folder = files("samlet") / "cards"
    return [(folder / f"{each}.toml").read_bytes() for each in ("nano", "mobile_sam", "fastsam_s")]


def cards_as_json() -> list[bytes]:
    """Cards as they stand in trained models."""
    from samlet.card import Card

    return [Card.from_toml(text.decode(), origin="seed").to_json().encode() for text in cards_as_toml()]


def safetensors_files() -> list[bytes]:
    """Weights and a header with facts."""
    return [to_safetensors(ARRAYS, {"made": "here", "facts": '{"a": [1, 2]}'}), to_safetensors({}, {})]


def _module() -> bytes:
    made = name("ultralytics.nn.tasks", "SegmentationModel") + b")\x81}("
    made += text("_parameters") + b"}" + text("w") + tensor() + b"s"
    made += text("names") + b"}K\x00" + text("object") + b"s" + text("stride") + tensor() + b"ub"
    return START + b"}" + text("model") + made + b"s" + STOP


def pickles() -> list[bytes]:
    """Programs of the pickle machine: a plain dict of weights, and a whole module."""
    return [weights(called(name("torch", "Size"), numbers(1, 2))), _module()]


def archives() -> list[bytes]:
    """Whole files of torch: as an archive, and in the legacy form."""
    files = [to_pt(ARRAYS, "model"), *(torch_file(pickle).bytes() for pickle in pickles())]
    tail = (4).to_bytes(8, "little") + bytes(16)
    return [*files, legacy_file(_legacy_pickle(), keys=("1",), tail=tail)]


def _legacy_pickle() -> bytes:
    held = (
        b"(" + text("storage") + name("torch", "FloatStorage") + text("1") + text("cpu") + number(4) + b"NtQ"
    )
    return START + b"}" + text("a") + tensor(held) + b"s" + STOP


def embeddings() -> list[bytes]:
    """Saved embeddings of the two kinds there are: of SAM's family, and FastSAM's candidates."""
    from samlet.embedding import Embedding
    from samlet.geometry import Frame

    rng = np.random.default_rng(0)
    frame = Frame.fit((18, 24), 32)
    kinds: tuple[dict[str, np.ndarray], ...] = (
        {"image_embeddings": rng.normal(size=(1, 4, 4, 4)).astype(np.float32)},
        {
            "candidates": rng.random((3, 7)).astype(np.float32),
            "protos": rng.normal(size=(2, 8, 8)).astype(np.float32),
        },
    )
    return [
        Embedding(arrays=arrays, frame=frame, model="nano", digest="0" * 64).to_bytes() for arrays in kinds
    ]


def forms() -> list[bytes]:
    """Bodies of /v1/segment."""
    head = b"--XX\r\nContent-Disposition: form-data; "
    parts = (
        head + b'name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + b"\x89PNG picture\r\n",
        head + b'name="prompt"\r\n\r\n{"points": [[1, 2]]}\r\n',
        head + b'name="model"\r\nContent-Transfer-Encoding: base64\r\n\r\nbmFubw==\r\n',
    )
    return [b"".join(parts) + b"--XX--\r\n", b"".join(parts[:2]) + b"--XX--"]
