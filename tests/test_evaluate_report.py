import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2")

from PIL import Image as PillowImage

import samlet
from samlet.backends.fake import FakeBackend
from samlet.cli import evaluate as command
from samlet.cli import evaluation
from samlet.errors import InputError, OutputError, SamletError
from samlet.evaluate import cases, report
from samlet.evaluate.datasets import Dataset
from samlet.evaluate.protocols import Plan, SetResult, evaluate_set
from tests.evaluate_stubs import EmptyModel, OracleModel, PatchModel, make_set, two_squares

RUN = report.Run(model="stub", digest="0" * 64, command="samlet evaluate <stub>", version="0.1.0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_set(tmp_path / "set", {"a": two_squares(), "b": two_squares()[:, ::-1]})


@pytest.fixture
def oracle() -> OracleModel:
    return OracleModel({"a": two_squares(), "b": two_squares()[:, ::-1]})


@pytest.fixture
def result(folder: Path, oracle: OracleModel) -> SetResult:
    return evaluate_set(oracle, Dataset.open(folder), plan=Plan(clicks=5))


def test_every_table_has_the_baselines_and_the_protocols_in_words(result: SetResult) -> None:
    text = report.to_markdown(RUN, [result])
    for title in ("filled box", "ellipse in the box", "GrabCut in the box", "NoC@85 (cap 5)"):
        assert f"| {title} |" in text
    for column in result.plan.columns:
        assert column.words in text
    assert RUN.digest in text and RUN.command in text
    assert "| box | 1.000 | 1.000 - 1.000 | 1.000 |  | 4 |" in text


def test_what_was_not_run_is_not_made_up(folder: Path, oracle: OracleModel) -> None:
    result = evaluate_set(oracle, Dataset.open(folder), plan=Plan(("box",), grabcut=False))
    row = next(row for row in report.rows(result) if row.column.key == "grabcut")
    assert (row.summary, row.failures, row.cells()[1]) == (None, None, "not run")
    assert "click" not in {row.column.key for row in report.rows(result)}


def test_failures_are_counted(folder: Path) -> None:
    result = evaluate_set(EmptyModel(), Dataset.open(folder), plan=Plan(("clicks",), clicks=2, grabcut=False))
    found = {row.column.key: row for row in report.rows(result)}
    assert found["noc_80"].failures == 4 and found["noc_80"].summary.mean == 2
    assert found["clicks_2"].failures is None


def test_the_files_hold_the_figures_and_appear_whole(
    tmp_path: Path, result: SetResult, oracle: OracleModel
) -> None:
    out = tmp_path / "new" / "report"
    pictures = cases.draw(oracle, result, stem="1_set")
    written = report.write(out, RUN, [result], cases=[pictures])
    assert sorted(path.name for path in written) == sorted(path.name for path in out.iterdir())
    fields = json.loads((out / "report.json").read_text())
    assert fields["model"] == {"name": "stub", "digest": "0" * 64}
    assert fields["sets"][0]["objects"] == 4 and len(fields["sets"][0]["results"]) == 4
    assert {row["key"]: row["mean"] for row in fields["sets"][0]["rows"]}["box"] == 1.0
    page = (out / "report.html").read_text()
    assert "samlet evaluate &lt;stub&gt;" in page and "<stub>" not in page
    sources = re.findall(r'src="([^"]+)"', page)
    assert sources and all((out / source).is_file() for source in sources)
    assert "http" not in page and "<script" not in page
    for source in sources:
        PillowImage.open(out / source).load()


def test_writing_again_leaves_no_other_files(tmp_path: Path, result: SetResult) -> None:
    report.write(tmp_path / "out", RUN, [result], cases=[[]])
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    report.write(tmp_path / "out", RUN, [result], cases=[[]])
    assert before == sorted(path.name for path in (tmp_path / "out").iterdir())


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, result: SetResult) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="choose another"):
        report.write(tmp_path / "out", RUN, [result], cases=[[]])


def test_cases_are_the_ends_and_the_middle_and_never_twice(folder: Path) -> None:
    result = evaluate_set(PatchModel(), Dataset.open(folder), plan=Plan(("click",), grabcut=False))
    chosen = cases.choose(result, count=1)
    assert [kind for kind, _ in chosen] == ["best", "median", "worst"]
    values = [entry.values["click"] for _, entry in chosen]
    assert values[0] == max(result.values("click")) and values[-1] == min(result.values("click"))
    assert len({(entry.picture, entry.region) for _, entry in chosen}) == 3


@pytest.mark.parametrize("protocol", ["click", "clicks"])
def test_cases_are_drawn_for_every_protocol(folder: Path, oracle: OracleModel, protocol: str) -> None:
    result = evaluate_set(oracle, Dataset.open(folder), plan=Plan((protocol,), clicks=2, grabcut=False))
    files = cases.draw(oracle, result, stem="1_set")
    assert files[0].name == "1_set_contact.png" and len(files) == 4


def test_tables_for_the_terminal_escape_what_comes_from_files(result: SetResult) -> None:
    from rich.console import Console

    console = Console(width=120, file=open("/dev/null", "w"), record=True)
    with console.file:
        console.print(report.to_tables([result])[0])
        assert "NoC@90 (cap 5)" in console.export_text()


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["evaluate", *words])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    model = samlet.load("nano", backend=FakeBackend())
    monkeypatch.setattr(evaluation, "load", lambda *_: model)
    return model


def test_the_command_measures_a_real_model_and_prints_json(
    folder: Path, tmp_path: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parse("nano", "--on", str(folder), "--clicks", "3", "--json", "--output", str(tmp_path / "out"))
    assert command.run(args) == 0
    fields = json.loads(capsys.readouterr().out)
    means = {row["key"]: row["mean"] for row in fields["sets"][0]["rows"]}
    assert means["box"] > 0.6, "the fake backend fills the box"
    assert means["click_best"] >= means["click_chosen"]
    assert fields["model"]["digest"] == fake.card.digest
    assert f"--on {folder}" in fields["command"] and "--clicks 3" in fields["command"]
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_command_prints_tables_for_people(
    folder: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parse("nano", "--on", str(folder), "--protocol", "box", "--limit", "1", "--no-grabcut")
    assert command.run(args) == 0
    out = capsys.readouterr().out
    assert "filled box" in out and "not run" in out and "2 objects in 1 pictures" in out


def test_a_set_where_nothing_can_be_measured_is_a_partial_failure(
    folder: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (folder / "masks").iterdir():
        path.unlink()
    args = parse("nano", "--on", str(folder), "--protocol", "box", "--json")
    assert command.run(args) == 6
    fields = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in fields["sets"][0]["broken"]] == ["a", "b"]
    assert fields["sets"][0]["rows"][0]["mean"] is None


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("--on", "nowhere"), InputError, "nothing at .nowhere."),
        (("--on", ","), InputError, "one or more names after --on"),
        (("--on", "{set}", "--protocol", "stroke"), InputError, "got stroke"),
        (("--on", "{set}", "--clicks", "99"), InputError, "got 99"),
        (("--on", "{set}", "--every", "0"), InputError, "got 0"),
    ],
)
def test_wrong_arguments_are_refused(
    folder: Path, fake: Any, words: tuple[str, ...], error: type[SamletError], message: str
) -> None:
    with pytest.raises(error, match=message):
        command.run(parse("nano", *(word.format(set=folder) for word in words)))


@pytest.mark.parametrize(("side", "grid"), [(256, 128), (512, 256), (1024, 512)])
def test_another_size_keeps_the_stride_and_changes_the_digest(side: int, grid: int) -> None:
    card = samlet.load("nano", backend=FakeBackend()).card
    other = card.resized(side)
    assert (other.side, other.mask_grid, other.stride) == (side, grid, card.stride)
    assert (other.digest == card.digest) == (side == card.side)


def test_a_size_that_the_strides_do_not_divide_is_refused() -> None:
    card = samlet.load("nano", backend=FakeBackend()).card
    with pytest.raises(InputError, match="multiple of 32"):
        card.resized(500)


def test_means_do_not_depend_on_the_run(folder: Path, oracle: OracleModel, result: SetResult) -> None:
    again = evaluate_set(oracle, Dataset.open(folder), plan=Plan(clicks=5))
    assert again.objects == result.objects
    rows, others = report.rows(result), report.rows(again)
    assert [row.summary for row in rows] == [row.summary for row in others]
    assert np.isfinite([row.summary.mean for row in rows]).all()


def test_a_full_disk_does_not_cost_the_figures(
    folder: Path,
    tmp_path: Path,
    fake: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, data: bytes | str) -> Path:
        raise OutputError("the disk is full")

    monkeypatch.setattr(report, "atomic_write", full)
    args = parse(
        "nano", "--on", str(folder), "--protocol", "box", "--json", "--output", str(tmp_path / "out")
    )
    with pytest.raises(OutputError, match="disk is full"):
        command.run(args)
    assert json.loads(capsys.readouterr().out)["sets"][0]["objects"] == 4
