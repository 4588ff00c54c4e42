"""Draw the icons of the page as an app, from the shape of favicon.svg: python docs/images/web-icons.py."""

import itertools
import math
from pathlib import Path

from PIL import Image, ImageDraw

WEB = Path(__file__).parent.parent.parent / "src" / "samlet" / "server" / "web"
GROUND, LINE, DISC = (244, 245, 248), (107, 114, 128), (59, 110, 240)
# The outline of favicon.svg in its frame of 32 x 32: cubic curves, each from the end of the one before.
START = (16, 4)
CURVES = (
    ((23, 4), (28, 8), (28, 15)),
    ((28, 23), (23, 28), (16, 28)),
    ((9, 28), (4, 23), (4, 16)),
    ((4, 9), (9, 4), (16, 4)),
)
DASHES, WIDTH, RADIUS = 13, 2.5, 6
SMOOTH = 4  # drawn so many times as large, and shrunk


def outline(steps: int = 200) -> list[tuple[float, float]]:
    """Points along the outline, at equal distances."""
    points, at = [START], START
    for a, b, end in CURVES:
        for i in range(1, steps + 1):
            t = i / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            points.append(
                tuple(sum(w * p[k] for w, p in zip(weights, (at, a, b, end), strict=True)) for k in (0, 1))
            )
        at = end
    lengths = [0.0]
    for one, other in itertools.pairwise(points):
        lengths.append(lengths[-1] + math.dist(one, other))
    even, index = [], 0
    for i in range(len(points)):
        wanted = lengths[-1] * i / len(points)
        while lengths[index + 1] < wanted:
            index += 1
        even.append(points[index])
    return even


def icon(side: int, *, maskable: bool) -> Image.Image:
    """Draw it; a maskable icon fills its square, and keeps what matters within the middle 80 %."""
    large = side * SMOOTH
    picture = Image.new("RGBA", (large, large), (*GROUND, 255) if maskable else (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    if not maskable:
        pen.rounded_rectangle((0, 0, large - 1, large - 1), large // 5, fill=(*GROUND, 255))
    scale = large / 32 * (0.66 if maskable else 0.82)
    shift = large / 2 - 16 * scale

    def dot(x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        x, y, radius = x * scale + shift, y * scale + shift, radius * scale
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*colour, 255))

    points = outline()
    for number, (x, y) in enumerate(points):
        if number * DASHES / len(points) % 1 < 0.4:
            dot(x, y, WIDTH / 2, LINE)
    dot(16, 16, RADIUS, DISC)
    return picture.resize((side, side), Image.Resampling.LANCZOS)


ICONS = {
    "icon-192.png": icon(192, maskable=False),
    "icon-512.png": icon(512, maskable=False),
    "icon-maskable-512.png": icon(512, maskable=True),
}

if __name__ == "__main__":
    for name, picture in ICONS.items():
        picture.quantize(64).save(WEB / name, optimize=True)
