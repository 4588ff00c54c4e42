"""How long a preview under the pointer takes in Chromium: from the question to the outline that is drawn.

    python -m benchmarks.web_hover samples/coffee.jpg

Needs samlet[server], playwright, Chromium, and onnxruntime-web (python -m samlet.server.web_runtime).
"""

import argparse
import statistics
from pathlib import Path

from tests.web_page import Visitor, browser, serving

import samlet

_WARM_UP = 5


def measured(visitor: Visitor, moves: int) -> list[float]:
    """Move to places all over the picture; milliseconds of each preview."""
    times = []
    height, width = visitor.page.evaluate(
        "() => { const { scale, left, top } = stage.dataset;"
        " return [(stage.clientHeight - 2 * top) / scale, (stage.clientWidth - 2 * left) / scale]; }"
    )
    for step in range(moves + _WARM_UP):
        place = visitor.at(
            4 + (width - 8) * (step * 37 % 100) / 100, 4 + (height - 8) * (step * 61 % 100) / 100
        )
        visitor.page.evaluate("() => { stage.dataset.preview = ''; }")
        visitor.page.mouse.move(*place)
        visitor.page.wait_for_selector('#stage:not([data-preview=""])')
        times.append(float(visitor.page.get_attribute("#stage", "data-preview")))
    return sorted(times[_WARM_UP:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--moves", type=int, default=60)
    args = parser.parse_args()
    with browser() as started, serving(samlet.load()) as url:
        for photo in args.photos:
            visitor = Visitor(started, url).visit(local=True)
            visitor.open_file(photo, local=True)
            times = measured(visitor, args.moves)
            print(
                f"{photo.name}: median {statistics.median(times):.1f} ms, fastest {times[0]:.1f}, 90 % within "
                f"{times[int(0.9 * len(times))]:.1f}, slowest {times[-1]:.1f}; {len(times)} previews, "
                f"{visitor.page.evaluate('navigator.hardwareConcurrency')} processors"
            )
            visitor.close()


if __name__ == "__main__":
    main()
