"""What a person looks at after a data set was annotated: a table of all objects, and a page of those most in doubt."""

import base64
import csv
import heapq
import html
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from samlet.atomic import atomic_stream, atomic_write
from samlet.batch import sources
from samlet.errors import SamletError

SHOWN = 200
"""Objects on the page, those most in doubt."""

TABLE, PAGE = "quality.csv", "review.html"

_COLUMNS = ("name", "object", "label", "x0", "y0", "x1", "y1", "score", "stability", "agreement", "doubt")
_SIDE = 176  # of a small picture, pixels
_BARS = 10
_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.3rem}ul{display:grid;grid-template-columns:repeat(auto-fill,minmax(11.5rem,1fr));gap:1rem;padding:0}
li{list-style:none;border:1px solid color-mix(in srgb,currentColor 25%,transparent);border-radius:6px;padding:.5rem}
li b{display:block;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}img{width:100%;border-radius:3px}
small{opacity:.75}table{border-spacing:.8rem .1rem}td+td{text-align:right}td+td+td{text-align:left}
i{display:inline-block;height:.7rem;background:currentColor;opacity:.5}
""".strip()


class Doubtful(NamedTuple):
    """One object, by how much it is to be doubted."""

    doubt: float
    number: int
    place: int
    name: str
    width: int
    height: int
    mask: dict[str, Any]


def write_review(
    folder: Path,
    records: Iterable[dict[str, Any]],
    source_of: Callable[[int], dict[str, Any]],
    *,
    shown: int = SHOWN,
) -> None:
    """Write `quality.csv` of all objects, and `review.html` of the most doubtful with a small picture each.

    Args:
        folder: The output folder.
        records: Of the pictures that are done, in the order of their numbers; they are gone through once.
        source_of: Gives the place of a picture's bytes by its number.
        shown: Most objects on the page.

    Raises:
        OutputError: A file cannot be written.
    """
    tally = _Tally()
    with atomic_stream(folder / TABLE) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="", write_through=True)
        worst = heapq.nlargest(shown, _listed(records, csv.writer(text), tally), key=lambda one: one.doubt)
        text.detach()
    worst.sort(key=lambda one: (-one.doubt, one.number, one.place))
    pictures = _pictures(worst, source_of)
    cards = [_card(one, pictures.get((one.number, one.place), "")) for one in worst]
    atomic_write(folder / PAGE, _page(tally, cards))


class _Tally:
    """Counts of all objects."""

    def __init__(self) -> None:
        self.pictures = 0
        self.labels: Counter[str] = Counter()
        self.doubts: Counter[int] = Counter()

    def add(self, mask: dict[str, Any]) -> None:
        self.labels[mask["name"]] += 1
        self.doubts[min(_BARS - 1, int(mask["doubt"] * _BARS))] += 1


def _listed(records: Iterable[dict[str, Any]], table: Any, tally: _Tally) -> Iterator[Doubtful]:
    table.writerow(_COLUMNS)
    for record in records:
        tally.pictures += 1
        for place, mask in enumerate(record["masks"], start=1):
            if "doubt" in mask:
                tally.add(mask)
                x, y, width, height = mask["bbox"]
                figures = (mask["score"], mask["stability"], mask["agreement"], mask["doubt"])
                table.writerow(
                    (record["name"], place, _cell(mask["name"]), x, y, x + width, y + height, *figures)
                )
                yield Doubtful(
                    mask["doubt"],
                    record["number"],
                    place,
                    record["name"],
                    record["width"],
                    record["height"],
                    mask,
                )


def _cell(text: str) -> str:
    """Keep a label from being run as a formula by a spreadsheet."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text


def _pictures(
    worst: list[Doubtful], source_of: Callable[[int], dict[str, Any]]
) -> dict[tuple[int, int], str]:
    """Draw each object on the part of its picture around it; each picture is read once."""
    from samlet.image import Image

    made = {}
    for number in sorted({one.number for one in worst}):
        try:
            image = Image.load(sources.read(source_of(number)))
            for one in worst:
                if one.number == number and image.hw == (one.height, one.width):
                    made[number, one.place] = _drawn(image, one)
        except SamletError:  # gone since: the page says what it knows
            continue
    return made


def _drawn(image: Any, one: Doubtful) -> str:
    import numpy as np
    from PIL import Image as PillowImage

    from samlet import drawing
    from samlet.image import Image
    from samlet.rle import rle_to_mask

    mask = rle_to_mask({"size": [one.height, one.width], "counts": one.mask["counts"]})
    boxes = [one.mask["bbox"]]
    if (asked := one.mask.get("asked")) is not None:
        boxes.append([asked[0], asked[1], asked[2] - asked[0], asked[3] - asked[1]])
    boxes = [box for box in boxes if box[2] > 0 and box[3] > 0]
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    half = max(x1 - x0, y1 - y0, 16) * 0.8
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = int(max(0, middle_x - half)), int(max(0, middle_y - half))
    right = min(one.width, max(left + 1, int(middle_x + half)))
    bottom = min(one.height, max(top + 1, int(middle_y + half)))
    part = Image.load(image.pixels[top:bottom, left:right].copy())
    scale = min(4.0, _SIDE / max(part.hw))  # enlarged first, so that the outline stays a line
    size = max(1, round(part.width * scale)), max(1, round(part.height * scale))
    large = Image.load(PillowImage.fromarray(part.pixels).resize(size, PillowImage.Resampling.BICUBIC))
    inside = PillowImage.fromarray(mask[top:bottom, left:right]).convert("L").resize(size)
    picture = drawing.overlay(large, [np.asarray(inside) > 127])
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _card(one: Doubtful, picture: str) -> str:
    mask, name = one.mask, html.escape(one.name)
    shown = f'<img alt="" src="data:image/jpeg;base64,{picture}">' if picture else "<p>no picture</p>"
    return (
        f'<li>{shown}<b title="{name}">{name}</b>object {one.place}, {html.escape(str(mask["name"]))}<br>'
        f"doubt {mask['doubt']:.2f}<br><small>score {mask['score']:.2f}, stability {mask['stability']:.2f}, "
        f"agreement {mask['agreement']:.2f}</small></li>"
    )


def _page(tally: _Tally, cards: list[str]) -> str:
    objects = sum(tally.labels.values())
    most = max(tally.doubts.values(), default=1)
    bars = "".join(
        f"<tr><td>{place / _BARS:.1f} to {(place + 1) / _BARS:.1f}</td><td>{tally.doubts[place]:,}</td>"
        f'<td><i style="width:{12 * tally.doubts[place] / most:.2f}rem"></i></td></tr>'
        for place in range(_BARS)
    )
    labels = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{count:,}</td></tr>"
        for label, count in tally.labels.most_common(30)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        f"style-src 'unsafe-inline'\"><title>Review</title><style>{_STYLE}</style></head><body>"
        f"<h1>{objects:,} objects in {tally.pictures:,} pictures; the {len(cards)} most in doubt first</h1>"
        "<p>Doubt is 1 minus score x stability x agreement: the network's own guess of the overlap, how little the "
        f"mask changes with the threshold, and how well it fills its box. All objects: {TABLE}.</p>"
        f"<table><tr><th>doubt</th><th>objects</th></tr>{bars}</table><table><tr><th>label</th><th>objects</th></tr>"
        f"{labels}</table><ul>{''.join(cards)}</ul></body></html>\n"
    )
