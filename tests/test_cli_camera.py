"""`samlet camera`: frames from files and from a camera of ours, clicks in a window of ours, a film as it comes out."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.cli import clips, main, screen
from samlet.errors import OutputError
from tests.test_sequence import RED, SIZE, Coloured, frame

BOX = ("--box", "10,20,30,42")
PLACES = [(20 + 3 * index, 31) for index in range(5)]


class FakeOpenCV:
    """As much of OpenCV as is used: a camera, and a window with a person before it who follows a script."""

    WINDOW_AUTOSIZE, WINDOW_GUI_NORMAL = 1, 16
    WND_PROP_VISIBLE = EVENT_MOUSEMOVE = 0
    EVENT_LBUTTONDOWN, EVENT_LBUTTONUP = 1, 4

    def __init__(self, frames: int = 5, *, gui: str = "GTK3") -> None:
        self.left, self.gui = frames, gui
        self.script: list[Any] = []  # one entry a picture shown: a key, or clicks [(event, x, y), ...]
        self.shown: list[Any] = []
        self.is_closed = False

    def getBuildInformation(self) -> str:
        return f"General\n  GUI:                           {self.gui}\n"

    def namedWindow(self, *_: Any) -> None:
        self.is_open = True

    def setMouseCallback(self, _: str, call: Any) -> None:
        self.mouse = call

    def imshow(self, _: str, pixels: Any) -> None:
        self.shown.append(pixels.copy())

    def waitKey(self, _: int) -> int:
        step = self.script.pop(0) if self.script else -1
        if isinstance(step, int):
            return step
        for event in step:
            self.mouse(*event, 0, None)
        return -1

    def getWindowProperty(self, *_: Any) -> float:
        return 1.0

    def destroyAllWindows(self) -> None:
        self.is_open = False

    def VideoCapture(self, number: int) -> Any:
        def read() -> tuple[bool, Any]:
            if not self.left:
                return False, None
            self.left -= 1
            return True, frame((20, 31, RED)).pixels[..., ::-1].copy()

        return SimpleNamespace(
            isOpened=lambda: number == 0, read=read, release=lambda: setattr(self, "is_closed", True)
        )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("samlet.cli.run.load_model", lambda args: Coloured())
    for index, (x, y) in enumerate(PLACES):
        PillowImage.fromarray(frame((x, y, RED)).pixels).save(f"{index}.png")

    def say(*words: str) -> tuple[int, str, str]:
        code = main(["camera", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return say


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> FakeOpenCV:
    fake = FakeOpenCV()
    monkeypatch.setitem(sys.modules, "cv2", fake)
    monkeypatch.setenv("DISPLAY", ":0")
    return fake


def is_red(pixels: Any, x: int, y: int) -> bool:
    return bool(abs(pixels[y, x].astype(int) - RED).max() < 60)


def test_a_film_of_what_is_followed(command: Any) -> None:
    pytest.importorskip("av")
    code, out, _ = command(".", *BOX, "--show", "no", "--output", "out/film.mp4", "--fps", "10")
    assert code == 0 and out.startswith("5 frames, found in 5, ") and "-> out" in out
    assert [path.name for path in Path("out").iterdir()] == ["film.mp4"]
    back = list(clips.frames(["out/film.mp4"], at_most=10))
    assert len(back) == 5 and back[0].hw == (SIZE, SIZE)
    for image, (x, y) in zip(back, PLACES, strict=True):
        plain = frame((x, y, RED)).pixels.astype(int)
        # The disc lies under the mask's colour, the ground beside it does not.
        assert abs(image.pixels[y, x].astype(int) - plain[y, x]).max() > 60
        assert abs(image.pixels[55, 5].astype(int) - plain[55, 5]).max() < 20
    assert (back[2].pixels[:10, :30].min(axis=2) < 60).any()  # the figures' plate in the corner


def test_a_film_that_fails_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with pytest.raises(RuntimeError), clips.film(tmp_path / "a.mp4") as film:
        film.add(PillowImage.new("RGB", (16, 16)), 0.0)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another place"), clips.film(tmp_path / "file" / "a.mp4"):
        pass


def test_a_click_in_the_window_begins_space_lets_go_and_q_ends(command: Any, opencv: FakeOpenCV) -> None:
    down, up = opencv.EVENT_LBUTTONDOWN, opencv.EVENT_LBUTTONUP
    opencv.script = [[(down, 23, 31), (up, 24, 32)], -1, ord(" "), ord("q")]
    code, out, _ = command(".", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["found"] for row in rows] == [False, True, True, False]
    assert len(opencv.shown) == 4 and not opencv.is_open
    assert is_red(opencv.shown[0][..., ::-1], 20, 31) and not is_red(opencv.shown[1][..., ::-1], 23, 31)
    assert all(row["milliseconds"] > 0 for row in rows) and rows[1]["image"] == "./1.png"


def test_a_box_in_the_window_and_a_click_beside_everything(command: Any, opencv: FakeOpenCV) -> None:
    down, up = opencv.EVENT_LBUTTONDOWN, opencv.EVENT_LBUTTONUP
    opencv.script = [[(down, 2, 60), (up, 2, 60)], [(down, 40, 45), (up, 12, 20)]]
    _, out, _ = command(".", "--json")
    assert [json.loads(line)["found"] for line in out.splitlines()] == [False, False, True, True, True]


def test_a_camera_gives_its_newest_frames_in_the_right_colours(command: Any, opencv: FakeOpenCV) -> None:
    code, out, _ = command("--point", "20,31", "--json", "--show", "yes")
    rows = [json.loads(line) for line in out.splitlines()]
    # How many of the five come depends on how fast they are worked on; the last one always does.
    assert code == 0 and 1 <= len(rows) <= 5 and all(row["found"] for row in rows)
    assert rows[0]["image"] == "camera 0, frame 0" and opencv.is_closed
    pixels = next(iter(screen_frames()))
    assert is_red(pixels, 20, 31)


def screen_frames() -> Any:
    sys.modules["cv2"].left = 5
    return (image.pixels for image in screen.camera(0))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((".",), "this OpenCV has no windows"),
        ((".", *BOX), "--output"),
        ((".", "--show", "no", "--output", "a.mp4"), "--show no was given"),
        ((".", "--show", "yes", *BOX), "or write a film"),
        ((".", *BOX, "--output", "a.gif"), "ending in .mp4"),
        ((".", *BOX, "--box", "1,1,5,5"), "run samlet once for each"),
        (("3", *BOX, "--output", "a.mp4"), "camera of number 3"),
        ((".", *BOX, "--size", "x", "--output", "a.mp4"), "--size"),
    ],
)
def test_what_is_refused(command: Any, opencv: FakeOpenCV, words: tuple[str, ...], says: str) -> None:
    if "3" in words:
        pytest.importorskip("av")
    opencv.gui = "NONE"
    code, _, err = command(*words)
    assert code == 2 and says in err and err.count("\n") == 1
    assert not list(Path().glob("*.mp4"))


def test_without_opencv_or_a_screen_there_is_no_window(
    monkeypatch: pytest.MonkeyPatch, opencv: FakeOpenCV
) -> None:
    assert screen.why_no_window() is None
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform.startswith("linux"):
        assert screen.why_no_window() == "there is no screen here"
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "not installed" in str(screen.why_no_window())


def test_it_takes_small_frames_unless_told(
    monkeypatch: pytest.MonkeyPatch, command: Any, opencv: FakeOpenCV
) -> None:
    sizes = []
    monkeypatch.setattr("samlet.cli.run.load_model", lambda args: sizes.append(args.size) or Coloured())
    opencv.script = [ord("q")]
    command(".")
    opencv.script = [ord("q")]
    command(".", "--size", "512")
    assert sizes == [256, 512]
    assert np.array(opencv.shown[0]).shape == (SIZE, SIZE, 3)
