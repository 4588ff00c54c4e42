"""The benchmark suite's bookkeeping: parts are merged, reckoned figures say so, who is missing gets a sentence."""

import json
import sys

import pytest
from benchmarks import parts, report
from benchmarks.run import keep

STAMP = {"commit": "abc1234", "machine": "2 x a processor", "date": "2026-01-01"}


def rows_of(part, *rows):
    return [{"part": part, **row, **STAMP} for row in rows]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "results.json"
    keep(
        path,
        "encoder",
        rows_of("encoder", parts.row("embed 1280 x 720", "samlet (onnx)", [400, 500, 900], "ms")),
    )
    clicks = [parts.row(f"{count} clicks, each", "samlet (onnx)", [20], "ms") for count in (1, 10, 100, 1024)]
    absent = {
        "what": "-",
        "who": "other",
        "value": None,
        "unit": "",
        "note": "not measured: it is not installed",
    }
    keep(path, "decoder", rows_of("decoder", *clicks, absent))
    return tmp_path


def test_a_part_replaces_its_own_rows_only(folder):
    path = folder / "results.json"
    keep(path, "encoder", rows_of("encoder", parts.row("embed 1280 x 720", "samlet (onnx)", [300], "ms")))
    rows = json.loads(path.read_text())
    assert [row["value"] for row in rows if row["part"] == "encoder"] == [300]
    assert len([row for row in rows if row["part"] == "decoder"]) == 5
    assert all(row["commit"] and row["machine"] for row in rows)


def test_tables_show_medians_spread_and_what_was_reckoned(folder):
    pytest.importorskip("matplotlib")
    report.write(folder)
    text = (folder / "README.md").read_text()
    assert "500 (400 to 900)" in text
    # 500 + 20, + 200, + 2,000; E16 was not measured; E32 = 500 + 20,480; E64 only reckoned
    assert "| samlet (onnx) | 520 | 700 | 2,500 |  | 20,980 | ≈ 82,420 |" in text
    assert "- other: not measured: it is not installed" in text
    assert "commit abc1234" in text
    assert (folder / "prompts.svg").read_text().startswith("<?xml")
    assert not (folder / "sizes.svg").exists()


def test_who_is_not_installed_gets_a_sentence():
    assert parts.lacks(sys.executable, "json") == ""
    assert (
        parts.lacks(sys.executable, "json", "no_such_package_of_ours")
        == "no_such_package_of_ours is not installed"
    )
    assert parts.lacks("/no/such/python", "json") == "its interpreter is not installed"


def test_a_worker_obeys_and_reports(tmp_path, sample):
    who = parts.Contestant("samlet nano", "samlet-onnx", "nano")
    setting = parts.Setting(tmp_path, sample("coffee"), 2, 1, "cpu", contestants=[who])
    with parts.Team(setting, "samlet nano") as team:
        team.all(do="picture", path=str(setting.picture(320, 200)))
        team.turns("embed", 2, do="embed")
        team.turns("3 clicks", 1, do="prompts", count=3)
        team.memory("peak")
        assert [row["rounds"] for row in team.rows] == [2, 1, 1]
        assert all(row["value"] > 0 for row in team.rows)
        with pytest.raises(RuntimeError, match="stopped while asked to"):
            team.workers[0].order(do="nothing that is known")
