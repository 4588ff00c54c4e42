"""Make quickstart.jpg, the picture of the README: python docs/images/quickstart.py (from the project's root)."""

from pathlib import Path

from PIL import Image

import samlet

SCENES = [
    ("astronaut", {"boxes": [150, 10, 300, 190]}),
    ("chelsea", {"points": [230, 150]}),
    ("coffee", {"boxes": [165, 15, 425, 260]}),
]
HEIGHT = 360


def main() -> None:
    model = samlet.load()
    drawn = [model.segment(f"samples/{name}.jpg", **prompt).draw().convert("RGB") for name, prompt in SCENES]
    scaled = [d.resize((round(d.width * HEIGHT / d.height), HEIGHT), Image.Resampling.LANCZOS) for d in drawn]
    sheet = Image.new("RGB", (sum(s.width for s in scaled) + 8 * (len(scaled) - 1), HEIGHT), "white")
    x = 0
    for picture in scaled:
        sheet.paste(picture, (x, 0))
        x += picture.width + 8
    sheet.save(Path(__file__).parent / "quickstart.jpg", quality=88)


if __name__ == "__main__":
    main()
