"""Picture files made in code: good ones, bombs and liars."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image as PILImage


def gradient(height=24, width=36):
    """A picture that differs from each of its mirror images and rotations."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 256], axis=2
    ).astype(np.uint8)


def encoded(picture, kind, **options):
    """Encode a Pillow image or an array."""
    buffer = BytesIO()
    (picture if isinstance(picture, PILImage.Image) else PILImage.fromarray(picture)).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deflated_zeros(megabytes):
    """A zlib stream of zeros, made of copies of one block: compressing them all would take a minute."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    adler = (megabytes * 2**20 % 65521) << 16 | 1
    return b"\x78\xda" + block * megabytes + b"\x03\x00" + struct.pack(">I", adler)


def png_bomb(side=14_000):
    """A black RGBA PNG: 800 kB that would need 784 MB."""
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    body = deflated_zeros(side * (4 * side + 1) // 2**20 + 1)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    )


def jpeg_claiming(height, width):
    data = encoded(gradient(), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def webp_claiming(side):
    """An extended WebP whose canvas is larger than its picture."""
    canvas = (side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + encoded(gradient(), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def frames(kind, count=3):
    pictures = [PILImage.new("RGB", (8, 8), (80 * i, 0, 0)) for i in range(count)]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:])


def tiff_float():
    return encoded(PILImage.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF")


def deflated_text_bomb():
    """A PNG with a comment of 100 MB in about 100 kB."""
    data = encoded(gradient(), "PNG")
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + deflated_zeros(100))
    return data[:33] + bomb + data[33:]
