"""How live the page is in Chromium: frames encoded a second, previews a second under a pointer that moves all the time.

    python -m benchmarks.web_live samples/coffee.jpg

The camera is Chromium's own fake one, and shows a walk over the photograph, 640 x 480 pixels. The page is the static
export on a plain host, at its second visit, when its service worker has isolated it. A frame's time goes from the
camera to the screen; a preview's from the pointer to its outline, while frames are being encoded as well. Needs
samlet[server,export], playwright, Chromium, and onnxruntime-web (python -m samlet.server.web_runtime).
"""

import argparse
import functools
import http.server
import statistics
import tempfile
import threading
from pathlib import Path

from tests.web_page import Visitor, browser, camera_flags, moving

from samlet.cli import main as samlet_main


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def frames(visitor: Visitor, seconds: float) -> str:
    """Let it run and look at its own figures."""
    stage = "document.getElementById('live-stage').dataset"
    before = int(visitor.page.evaluate(f"Number({stage}.frames)"))
    visitor.page.wait_for_timeout(1000 * seconds)
    after, encode, latency = visitor.page.evaluate(
        f"[{stage}.frames, {stage}.encode, {stage}.latency].map(Number)"
    )
    rate = (after - before) / seconds
    return f"{rate:.1f} frames a second, the last one {encode:.0f} ms in the encoder, {latency:.0f} ms to the screen"


def previews(visitor: Visitor, moves: int) -> list[float]:
    """Move all over the picture; milliseconds of each preview."""
    place = visitor.page.locator("#live-stage").bounding_box()
    times = []
    for step in range(moves):
        visitor.page.evaluate("() => { document.getElementById('live-stage').dataset.preview = ''; }")
        visitor.page.mouse.move(
            place["x"] + place["width"] * (0.25 + 0.5 * (step * 37 % 100) / 100),
            place["y"] + place["height"] * (0.15 + 0.7 * (step * 61 % 100) / 100),
        )
        visitor.page.wait_for_selector('#live-stage:not([data-preview=""])')
        times.append(float(visitor.page.get_attribute("#live-stage", "data-preview")))
    return sorted(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--moves", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, film = Path(scratch, "page"), Path(scratch, "walk.mjpeg")
        assert samlet_main(["export", "nano", "--format", "web", "--output", str(folder)]) == 0
        moving(args.photo, film)
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser(*camera_flags(film)) as started:
            url = f"http://127.0.0.1:{server.server_port}/"
            visitor = Visitor(started, url, service_workers="allow").visit(local=True)
            visitor.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
            visitor.page.reload()
            visitor.page.click("#camera")
            visitor.page.wait_for_selector("#live-take:not([disabled])")
            visitor.page.wait_for_timeout(3000)
            print(f"looking: {frames(visitor, args.seconds)}")
            times = previews(visitor, args.moves)
            middle = statistics.median(times)
            print(
                f"previews meanwhile: median {middle:.1f} ms, that is {1000 / middle:.0f} a second, "
                f"90 % within {times[int(0.9 * len(times))]:.1f}; {len(times)} previews"
            )
            place = visitor.page.locator("#live-stage").bounding_box()
            visitor.page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
            visitor.page.wait_for_selector("#live-stage:is([data-state=following], [data-state=lost])")
            print(f"following: {frames(visitor, args.seconds)}")
            print(f"{visitor.page.evaluate('navigator.hardwareConcurrency')} processors")
            visitor.close()
        server.shutdown()


if __name__ == "__main__":
    main()
