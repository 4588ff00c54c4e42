"""A batch: what comes in, what comes out, and what a second run makes of the first."""

import io
import json
import os
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.batch import Item, Recipe, Summary, Worker, run, sink, sources
from samlet.batch.engine import Job
from samlet.batch.ledger import Ledger
from samlet.batch.record import Report
from samlet.data import places
from samlet.errors import BackendError, InputError, LimitError, OutputError, SamletError, UnknownModelError
from samlet.rle import rle_to_mask
from tests.batch_kills import CARD


class Inline:
    """An engine in this very process; it may stop after some shards, as if it had been killed."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.left, self.shards = stop_after, []

    def reports(self, job: Job, tasks: Any) -> Any:
        worker = Worker(job.recipe, threads=job.threads)
        for task in tasks:
            if self.left is not None and len(self.shards) == self.left:
                raise KeyboardInterrupt
            self.shards.append(task.shard)
            yield worker.work(task, job.folder, life=job.life)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.toml").write_text(CARD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


RECIPE = Recipe(model="tiny.toml", backend="fake")


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), np.uint8)
    PillowImage.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def photos(*names: str) -> None:
    for seed, name in enumerate(names):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed) if "bad" not in name else b"no picture")


def batch(inputs: list[str], output: str = "out", **more: Any) -> Summary:
    return run(inputs, output, **{"recipe": RECIPE, "engine": Inline(), "shard": 2, **more})


def records(output: str = "out") -> list[dict[str, Any]]:
    paths = sorted(Path(output, "records").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def files(output: str) -> dict[str, bytes]:
    paths = [
        path for path in Path(output).rglob("*") if path.is_file() and not path.name.startswith("ledger.")
    ]
    return {str(path.relative_to(output)): path.read_bytes() for path in paths}


# -- what comes in ---------------------------------------------------------------------------------------------------


def tar(path: str, **members: bytes) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_names_of_inputs(place: Path) -> None:
    photos("b.png", "sub/a.jpg", ".hidden.png", "notes.txt")
    Path("list.txt").write_text("# two\nphotos/b.png\n\nphotos/sub/a.jpg\n")
    tar("w.tar", a_png=png(), a_json=b"{}")
    cases: list[tuple[list[str], list[str]]] = [
        (["photos"], ["b.png", "sub/a.jpg"]),
        (["photos/"], ["b.png", "sub/a.jpg"]),
        (["photos", "w.tar"], ["photos/b.png", "photos/sub/a.jpg", "w.tar/a.png"]),
        (["w.tar"], ["a.png"]),
        (["photos/**/*.jpg"], ["photos/sub/a.jpg"]),
        (["list.txt"], ["photos/b.png", "photos/sub/a.jpg"]),
        (["photos/b.png"], ["photos/b.png"]),
    ]
    for inputs, names in cases:
        assert sorted(one.name for one in sources.listed(inputs)) == names, inputs


def test_every_kind_of_input_gives_the_same_masks(place: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    photos("a.png")
    tar("w.tar", other_txt=b"0123456789", a_png=png())
    parquet.write_table(
        pyarrow.table({"key": ["x", "a"], "image": [png(5), png()]}), "p.parquet", row_group_size=1
    )
    nested = pyarrow.table({"image": [{"bytes": png(), "path": None}]})
    parquet.write_table(nested, "hf.parquet")
    parquet.write_table(pyarrow.table({"path": ["photos/a.png"]}), "paths.parquet")
    expected = None
    for inputs, name in (
        (["photos"], "a.png"),
        (["w.tar"], "a.png"),
        (["p.parquet"], "a"),
        (["hf.parquet"], "000000000"),
        (["paths.parquet"], "000000000"),
    ):
        output = f"out-{inputs[0]}"
        batch(inputs, output)
        found = {one["name"]: (one["state"], one["sha256"], one["masks"]) for one in records(output)}
        expected = expected or found[name]
        assert found[name] == expected and expected[0] == "done" and expected[2], inputs


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["nothing"], "there is no 'nothing'"),
        (["empty"], "found none"),
        (["*.jpg"], "found none"),
        (["t.tar"], "uncompressed tar"),
        (["t.tgz"], "unpack it"),
        (["latin.txt"], "in UTF-8"),
        (["bad.parquet"], "parquet"),
        ([], "no inputs and an output without a plan"),
    ],
)
def test_inputs_that_are_refused(place: Path, inputs: list[str], message: str) -> None:
    if inputs == ["bad.parquet"]:
        pytest.importorskip("pyarrow")
    Path("empty").mkdir()
    for name in ("t.tar", "t.tgz", "bad.parquet"):
        Path(name).write_bytes(b"not that at all")
    Path("latin.txt").write_bytes(b"caf\xe9.jpg\n")
    with pytest.raises(InputError, match=message):
        batch(inputs)


def test_names_that_come_twice(place: Path) -> None:
    photos("a.png", "b.png")
    summary = batch(["photos/a.png", "photos/a.png", "photos/b.png"])
    assert summary.planned is not None and (summary.planned.twice, summary.counts.done) == (1, 2)
    for folder in ("x/photos", "y/photos"):
        Path(folder).mkdir(parents=True)
        Path(folder, "a.png").write_bytes(png())
    with pytest.raises(InputError, match=r"different names, got 'photos/a\.png' twice"):
        batch(["x/photos", "y/photos"], "other")


def test_a_picture_over_the_limit_is_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos("a.png")
    limits = replace(places.DEFAULT_LIMITS, max_file_bytes=10)
    monkeypatch.setattr(places, "DEFAULT_LIMITS", limits)
    with pytest.raises(LimitError, match="at most 10 bytes"):
        sources.read({"path": "photos/a.png"})


# -- what comes out --------------------------------------------------------------------------------------------------


def test_coco(place: Path) -> None:
    photos("a.png", "bad.png", "c.png")
    summary = batch(["photos"], recipe=replace(RECIPE, formats=("coco",)))
    coco = json.loads(Path("out/coco.json").read_text())
    assert [(image["id"], image["file_name"]) for image in coco["images"]] == [(1, "a.png"), (3, "c.png")]
    assert [one["id"] for one in coco["annotations"]] == list(range(1, summary.counts.masks + 1))
    assert {one["image_id"] for one in coco["annotations"]} == {1, 3}
    for one in coco["annotations"]:
        mask = rle_to_mask(one["segmentation"])
        assert mask.shape == (24, 32) and mask.sum() == one["area"] > 0
    assert coco["categories"] == [{"id": 1, "name": "object"}]
    failures = [json.loads(line) for line in Path("out/failures.jsonl").read_text().splitlines()]
    assert [one["name"] for one in failures] == ["bad.png"] and "expected a picture" in failures[0]["reason"]
    assert (summary.counts.done, summary.counts.failed, summary.counts.pending) == (2, 1, 0)


def test_tar_and_labels(place: Path) -> None:
    photos("a.b.png", "bad.png", "sub/c.png")
    batch(["photos"], recipe=replace(RECIPE, formats=("tar", "labels", "jsonl")))
    with tarfile.open("out/tars/shard-000000.tar") as archive:
        assert archive.getnames() == ["000000000.json", "000000000.labels.png", "000000001.json"]
        assert {member.mtime for member in archive} == {0}
        inner = archive.extractfile("000000000.labels.png")
        assert inner is not None and inner.read() == Path("out/labels/a.b.png.png").read_bytes()
    assert sorted(path.name for path in Path("out/labels").rglob("*.png")) == ["a.b.png.png", "c.png.png"]
    with PillowImage.open("out/labels/sub/c.png.png") as opened:
        labels = np.asarray(opened)
    masks = records()[2]["masks"]
    assert (
        labels.shape == (24, 32) and set(np.unique(labels)) == set(range(len(masks) + (labels == 0).any()))
    ) or set(np.unique(labels)) <= set(range(len(masks) + 1))
    assert (labels == 1).sum() == masks[0]["area"]


def test_parquet(place: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    photos("a.png", "bad.png", "c.png")
    batch(["photos"], recipe=replace(RECIPE, formats=("parquet", "jsonl")))
    rows = parquet.read_table("out/parquet").to_pylist()
    assert [(row["name"], row["state"]) for row in rows] == [
        ("a.png", "done"),
        ("bad.png", "failed"),
        ("c.png", "done"),
    ]
    for row, record in zip(rows, records(), strict=True):
        assert [one["counts"] for one in row["masks"]] == [one["counts"] for one in record["masks"]]
        assert row["sha256"] == record["sha256"] and row["reason"] == record["reason"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a/b.jpg", "a/b.jpg.png"),
        ("../../etc/x.png", "etc/x.png.png"),
        ("/abs/x.png", "abs/x.png.png"),
        ("..\\x.png", "x.png.png"),
        ("a\nb.png", "000000007.png"),
        ("..", "000000007.png"),
        ("", "000000007.png"),
        ("ä" * 101 + ".png", "000000007.png"),
    ],
)
def test_names_cannot_leave_the_folder(name: str, file: str) -> None:
    assert sink.label_name(sink.Record(7, name, "done")) == file


# -- prompts ---------------------------------------------------------------------------------------------------------


def test_prompts_of_every_form(place: Path) -> None:
    photos("a.png", "b.png")
    Path("p.csv").write_text(
        "name,x0,y0,x1,y1,x,y,label\na.png,2,2,20,20,,,dog\na.png,,,,,5,6,\na.png,2,2,9,9,5,5,\n"
    )
    Path("p.jsonl").write_text(
        '{"name": "a.png", "objects": [{"box": [2, 2, 20, 20], "label": "dog"}, {"points": [[5, 6]]}]}\n'
        '\n{"file_name": "a.png", "box": [2, 2, 9, 9], "points": [5, 5], "labels": [1]}\n'
    )
    recipe = replace(RECIPE, prompted=True)
    batch(["photos"], "csv", recipe=recipe, prompts="p.csv")
    summary = batch(["photos"], "jsonl", recipe=recipe, prompts="p.jsonl")
    first, second = records("csv")
    assert records("jsonl") == [first, second]
    assert [one["name"] for one in first["masks"]] == ["dog", "object", "object"] and second["masks"] == []
    assert second["state"] == "done" and summary.planned is not None and summary.planned.unasked == 1
    x, y, width, height = first["masks"][0]["bbox"]
    assert abs(x - 2) <= 2 and abs(y - 2) <= 2 and abs(x + width - 20) <= 2 and abs(y + height - 20) <= 2
    coco = {
        "images": [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "gone.png"}],
        "annotations": [
            {"image_id": 5, "bbox": [2, 2, 18, 18], "category_id": 1},
            {"image_id": 6, "bbox": [2, 2, 18, 18], "category_id": 1},
        ],
        "categories": [{"id": 1, "name": "dog"}],
    }
    Path("p.json").write_text(json.dumps(coco))
    summary = batch(["photos"], "coco", recipe=recipe, prompts="p.json")
    assert records("coco")[0]["masks"] == first["masks"][:1]
    assert summary.planned is not None and summary.planned.unknown == 1


def test_a_prompt_outside_its_picture_fails_that_picture_alone(place: Path) -> None:
    photos("a.png", "b.png")
    Path("p.csv").write_text("name,x,y\na.png,500,5\nb.png,5,5\n")
    batch(["photos"], recipe=replace(RECIPE, prompted=True), prompts="p.csv")
    assert [one["state"] for one in records()] == ["failed", "done"] and "inside the picture" in records()[0][
        "reason"
    ]


COCO = '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "bbox": %s}]}'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "name,x,y\na.png,1,z\n", r"p.csv, line 2: expected 2 numbers"),
        ("p.csv", "name,x,y\n,1,2\n", "line 2: expected the name"),
        ("p.csv", "name,x,y\na.png,,\n", "line 2: expected a box or points"),
        ("p.csv", "name,x,y\n", "expected prompts, got none"),
        ("p.csv", "name,x,y\nother.png,1,2\n", "such as 'a.png', got 'other.png'"),
        ("p.jsonl", "{\n", "line 1: expected JSON"),
        ("p.jsonl", "[1]\n", "expected a JSON object"),
        ("p.jsonl", '{"name": "a.png", "box": [1, 2, 3, NaN]}\n', "expected 4 numbers"),
        ("p.jsonl", '{"name": "a.png", "points": [[1, 2]], "labels": [7]}\n', "label of 0 or 1"),
        ("p.jsonl", '{"name": "a.png", "objects": 3}\n', "list of objects"),
        ("p.jsonl", '{"name": "a.png", "box": [1, 2, 3, %s]}\n' % ("1" * 5000), "line 1: expected JSON"),
        ("p.jsonl", '{"name": "a.png", "box": [1, 2, 3, %s]}\n' % ("1" * 400), "expected 4 numbers"),
        ("p.jsonl", '{"name": "a.png", "box": "1234"}\n', "expected 4 numbers"),
        ("p.json", '{"images": []}', "COCO's images"),
        ("p.json", COCO % '"1234"', "annotation 1: expected 4 numbers"),
        ("p.json", COCO % f"[1.5, 2, {10**400}, 4]", "annotation 1: expected 4 numbers"),
        ("p.xml", "<a/>", "rename or convert"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_prompts_that_are_refused(place: Path, name: str, content: str | None, message: str) -> None:
    photos("a.png")
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(InputError, match=message):
        batch(["photos"], recipe=replace(RECIPE, prompted=True), prompts=name)


def test_prompts_belong_to_the_recipe(place: Path) -> None:
    photos("a.png")
    Path("p.csv").write_text("name,x,y\na.png,1,2\n")
    with pytest.raises(InputError, match="prompted=True"):
        batch(["photos"], prompts="p.csv")
    with pytest.raises(InputError, match="got none; name it"):
        batch(["photos"], recipe=replace(RECIPE, prompted=True))


# -- going on --------------------------------------------------------------------------------------------------------

NAMES = ("a.png", "bad.png", "c.png", "d.png", "e.png", "f.png", "g.png")
EVERY = replace(RECIPE, formats=("coco", "tar", "labels"))


def test_stopped_and_gone_on_with_is_as_if_unbroken(place: Path) -> None:
    photos(*NAMES)
    batch(["photos"], "whole", recipe=EVERY)
    with pytest.raises(KeyboardInterrupt):
        batch(["photos"], recipe=EVERY, engine=Inline(stop_after=2))
    assert not Path("out/coco.json").exists()
    rest = Inline()
    summary = batch([], recipe=EVERY, engine=rest)
    assert rest.shards == [2, 3] and summary.worked_on == 3
    assert files("out") == files("whole")
    again = Inline()
    assert batch(["photos"], recipe=EVERY, engine=again).worked_on == 0 and not again.shards


def test_new_pictures_come_after_those_that_are_there(place: Path) -> None:
    photos("b.png", "c.png", "d.png")
    batch(["photos"])
    first = records()
    photos("b.png", "c.png", "d.png", "a.png")  # the same bytes, but a new time
    for one in first:
        assert one["state"] == "done"
    engine = Inline()
    summary = batch(["photos"], engine=engine)
    assert summary.planned is not None and summary.planned.new == 1
    assert [one["name"] for one in records()] == ["b.png", "c.png", "d.png", "a.png"]
    assert records()[:3] == first


def test_changed_pictures_are_done_again(place: Path) -> None:
    photos("a.png", "b.png", "c.png", "d.png")
    batch(["photos"])
    Path("photos/d.png").write_bytes(png(99))
    engine = Inline()
    summary = batch(["photos"], engine=engine)
    assert summary.planned is not None and summary.planned.changed == 1 and engine.shards == [1]
    batch(["photos"], "whole")
    assert files("out") == files("whole")


def test_files_that_disappeared_are_made_again(place: Path) -> None:
    photos("a.png", "b.png", "c.png", "d.png")
    batch(["photos"], recipe=EVERY)
    expected = files("out")
    Path("out/tars/shard-000001.tar").unlink()
    Path("out/coco.json").unlink()
    summary = batch([], recipe=EVERY)
    assert (summary.lost, summary.worked_on) == (1, 2) and files("out") == expected


def test_inputs_that_lack_pictures_of_the_plan_are_refused(place: Path) -> None:
    photos("a.png", "b.png")
    batch(["photos"])
    Path("photos/b.png").unlink()
    with pytest.raises(InputError, match=r"1 of them are not among the inputs, such as 'b\.png'"):
        batch(["photos"])
    assert batch([]).counts.done == 2


@pytest.mark.parametrize(
    ("change", "mix", "message"),
    [
        ({"min_score": 0.5}, False, r"another \(min_score: 0\.5, not 0\.0\)"),
        ({"min_score": 0.5}, True, None),
        ({"formats": ("tar",)}, True, "--format jsonl"),
        ({"prompted": True}, True, "prompts for all"),
    ],
)
def test_another_recipe(place: Path, change: dict[str, Any], mix: bool, message: str | None) -> None:
    photos(*NAMES)
    with pytest.raises(KeyboardInterrupt):
        batch(["photos"], engine=Inline(stop_after=1))
    recipe = replace(RECIPE, **change)
    if message is None:
        assert batch([], recipe=recipe, mix=mix).counts.pending == 0
        with Ledger(Path("out/ledger.sqlite")) as ledger:
            assert {row[0] for row in ledger.db.execute("SELECT DISTINCT recipe FROM items")} == {1, 2}
    else:
        with pytest.raises(InputError, match=message):
            batch([], recipe=recipe, mix=mix)


def test_another_model_under_the_same_name_is_refused(place: Path) -> None:
    photos(*NAMES)
    with pytest.raises(KeyboardInterrupt):
        batch(["photos"], engine=Inline(stop_after=1))
    Path("tiny.toml").write_text(CARD.replace("0" * 64, "1" * 64))
    with pytest.raises(InputError, match="model_digest"):
        batch([])


def test_failed_pictures_are_tried_again_when_asked(place: Path) -> None:
    photos("a.png", "bad.png", "c.png")
    batch(["photos"])
    name = Path("photos/bad.png")
    time = name.stat().st_mtime_ns
    assert batch([], retry=True).counts.failed == 1
    name.write_bytes(png(9)[:10])
    os.utime(name, ns=(time, time))
    assert batch([]).worked_on == 0
    name.write_bytes(png(9))
    summary = batch([], retry=True)
    assert (summary.worked_on, summary.counts.failed) == (2, 0) and not Path("out/failures.jsonl").exists()


# -- faults ----------------------------------------------------------------------------------------------------------


def test_only_one_run_at_a_time(place: Path) -> None:
    photos("a.png")

    class Nosy(Inline):
        def reports(self, job: Job, tasks: Any) -> Any:
            with pytest.raises(OutputError, match="another run is working there"):
                batch(["photos"])
            yield from super().reports(job, tasks)

    assert batch(["photos"], engine=Nosy()).counts.done == 1


def test_the_folder_of_somebody_else(place: Path) -> None:
    photos("a.png")
    Path("out").mkdir()
    Path("out/ledger.sqlite").write_bytes(b"this is no database, it is a text of some length" * 30)
    with pytest.raises(InputError, match="samlet's ledger"):
        batch(["photos"])
    Path("file").write_text("")
    with pytest.raises(OutputError, match="could not write"):
        batch(["photos"], "file")


def test_a_ledger_of_another_form(place: Path) -> None:
    photos("a.png")
    batch(["photos"])
    with Ledger(Path("out/ledger.sqlite")) as ledger:
        ledger.set_fact("form", "9")
    with pytest.raises(InputError, match="got form '9'"):
        batch(["photos"])


def test_no_such_model(place: Path) -> None:
    photos("a.png")
    with pytest.raises(UnknownModelError):
        batch(["photos"], recipe=Recipe(model="nanoo"))


def test_a_picture_that_kills_its_worker_is_left_alone_in_the_end(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos("a.png", "b.png", "c.png")
    deaths = []

    class Dying(Worker):
        def record(self, item: Item) -> Any:
            if item.name == "b.png":
                deaths.append(item.name)
                raise SystemError  # stands for a process that is gone
            return super().record(item)

    class Stubborn(Inline):
        def reports(self, job: Job, tasks: Any) -> Any:
            for task in tasks:
                while True:
                    try:
                        yield Dying(job.recipe).work(task, job.folder, life=job.life)
                        break
                    except SystemError:
                        continue

    batch(["photos"], engine=Stubborn(), shard=3)
    assert [one["state"] for one in records()] == ["done", "failed", "done"]
    assert len(deaths) == 4 and "the worker died 3 times" in records()[1]["reason"]
    assert not list(Path("out/tries").iterdir())


def test_a_picture_is_not_blamed_for_deaths_of_the_driver(place: Path) -> None:
    """50 kills gave two wrong records of 10,000: all processes died together, more than once, while the first picture
    of a shard waited for the model to be loaded."""
    photos("a.png", "b.png")

    class Cursed(Inline):
        def reports(self, job: Job, tasks: Any) -> Any:
            def die(item: Item) -> Any:
                raise SystemError

            worker = Worker(job.recipe)
            worker.record = die  # type: ignore[method-assign]
            for task in tasks:
                yield worker.work(task, job.folder, life=job.life)

    for _ in range(6):
        with pytest.raises(SystemError):
            batch(["photos"], engine=Cursed())
    assert batch(["photos"]).counts.done == 2


def test_what_goes_wrong_inside_is_a_reason_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos("a.png")

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("of all\nthings")

    monkeypatch.setattr(Worker, "_everything", broken)
    batch(["photos"])
    assert records()[0]["reason"] == (
        "something went wrong inside samlet (ZeroDivisionError: of all things); please report it"
    )


def test_a_shard_is_not_done_before_its_files_are_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(*NAMES)

    def full(folder: Path, shard: int, records: Any) -> None:
        if shard == 1:
            raise OutputError("the disk is full")
        sink.write_records(folder, shard, records)

    monkeypatch.setitem(sink.WRITERS, "jsonl", full)
    with pytest.raises(OutputError, match="full"):
        batch(["photos"])
    monkeypatch.undo()
    with Ledger(place / "out/ledger.sqlite") as ledger:
        assert list(ledger.done_shards()) == [0]
    monkeypatch.chdir(place)
    assert batch([]).counts.pending == 0 and len(records()) == len(NAMES)


def test_a_report_twice_counts_once(place: Path) -> None:
    photos(*NAMES)

    class Twice(Inline):
        def reports(self, job: Job, tasks: Any) -> Any:
            for report in super().reports(job, tasks):
                yield report
                yield Report(report.shard, report.rows)

    counts = batch(["photos"], engine=Twice()).counts
    assert (counts.all, counts.done, counts.failed) == (len(NAMES), len(NAMES) - 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formats": ()}, "expected formats"),
        ({"formats": ("png",)}, "expected formats"),
        ({"by": "magic"}, "expected by of"),
        ({"grid": "32 x 32"}, "expected a grid"),
        ({"shape": "round"}, "expected a shape"),
        ({"at_most": 0}, "at_most from 1"),
        ({"min_score": float("nan")}, "min_score"),
    ],
)
def test_recipes_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SamletError, match=message):
        Recipe(**change)
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


def test_the_recipe_for_spark(place: Path) -> None:
    """What stands in docs/how-to/spark.md between Spark's own lines does what it says."""
    pandas = pytest.importorskip("pandas")
    page = (Path(__file__).parent.parent / "docs/how-to/spark.md").read_text("utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    body = code[: code.index("spark = SparkSession")].replace("from pyspark.sql import SparkSession", "")
    names: dict[str, Any] = {}
    exec(body.replace('model="nano"', 'model="tiny.toml", backend="fake"'), names)
    photos("a.png", "bad.png")
    frame = pandas.DataFrame({"number": [0, 1], "path": ["photos/a.png", "photos/bad.png"]})
    (rows,) = names["segment"](iter([frame]))
    assert list(rows.columns) == [column.split()[0] for column in names["SCHEMA"].split(", ")]
    assert rows.state.tolist() == ["done", "failed"] and json.loads(rows.masks[0])


@pytest.mark.parametrize("address", [None, "ray://head:10001"])
def test_a_ray_that_does_not_start_is_said_in_one_sentence(
    place: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    """On a computer that is too busy it raises a bare Exception; a stand-in does so here."""
    from samlet.batch.ray import Ray

    def init(**given: Any) -> None:
        assert given.get("address") == address and given.get("include_dashboard") is (
            None if address else False
        )
        raise Exception("The current node timed out\nduring startup.")

    made = ModuleType("ray")
    vars(made).update(
        init=init,
        is_initialized=lambda: False,
        shutdown=lambda: None,
        exceptions=SimpleNamespace(RayError=RuntimeError),
        data=ModuleType("ray.data"),
    )
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setitem(sys.modules, "ray.data", made.data)
    photos("a.png")
    with pytest.raises(
        BackendError, match=r"to start, but it did not \(The current node timed out during startup"
    ):
        batch(["photos"], engine=Ray(address=address))
