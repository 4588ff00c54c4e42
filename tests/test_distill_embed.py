"""The store of teacher embeddings: every source, both kinds, resuming, killed writers, mixed teachers. No torch."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from PIL import Image as PILImage

from samlet import registry
from samlet.backends.onnx import OnnxBackend
from samlet.errors import EmbeddingError, ImageError, InputError, TrainingError
from samlet.image import Image
from samlet.session import Session
from samlet.train.sources import open_source
from samlet.train.teacher_embed import Job, Progress, embed
from samlet.train.teacher_store import Facts, TeacherStore, cells_of, embed_shard, teach
from samlet.train.teacher_views import view_of
from tests.distill_pictures import SIZE, folder_of, tar_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("pictures") / "photos")


@pytest.fixture(scope="module")
def teacher():
    return Session(registry.resolve("nano").resized(SIZE), OnnxBackend(), threads=1)


def job(pictures, folder, **changes):
    return Job("nano", (str(pictures),), str(folder), size=SIZE, threads=1, **changes)


def test_sources_give_the_same_pictures(pictures, tmp_path):
    names = sorted(p.name for p in pictures.iterdir())
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(os.path.relpath(pictures / n, tmp_path) for n in names) + "\n\n")
    sources = [
        open_source([pictures]),
        open_source([listed]),
        open_source([tar_of(tmp_path / "a.tar", pictures)]),
    ]
    assert [len(s.keys) for s in sources] == [6, 6, 6]
    assert sources[0].keys == tuple(names) and sources[2].keys[0] == "a.tar/00.png"
    for number in range(6):
        wanted = np.asarray(PILImage.open(pictures / names[number]))
        for source in sources:
            assert np.array_equal(source.read(source.keys[number]).pixels, wanted)


def test_parquet_with_bytes_and_with_structs(pictures, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (samlet[data]); CI installs it")
    from pyarrow import parquet

    files = sorted(pictures.iterdir())
    plain = [f.read_bytes() for f in files]
    parquet.write_table(
        pyarrow.table({"jpg": plain, "n": list(range(6))}), tmp_path / "a.parquet", row_group_size=4
    )
    parquet.write_table(
        pyarrow.table({"image": [{"bytes": b, "path": "x"} for b in plain]}), tmp_path / "b.parquet"
    )
    for name in ("a", "b"):
        source = open_source([tmp_path / f"{name}.parquet"])
        assert source.keys[5] == f"{name}.parquet/000000005"
        for number in (5, 0):
            assert np.array_equal(
                source.read(source.keys[number]).pixels, np.asarray(PILImage.open(files[number]))
            )
    parquet.write_table(pyarrow.table({"n": [1]}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match="expected a column with pictures"):
        open_source([tmp_path / "c.parquet"])
    (tmp_path / "d.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="expected a parquet file"):
        open_source([tmp_path / "d.parquet"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: [], "found nothing there"),
        (lambda p: [p / "nowhere"], "correct the path"),
        (lambda p: [p / "empty"], "found none"),
        (lambda p: [p / "empty", p / "broken.tar"], "of one kind"),
        (lambda p: [p / "broken.tar"], "uncompressed tar"),
        (lambda p: [p / "x" / "a.png", p / "y" / "a.png"], "name once"),
    ],
)
def test_bad_sources_are_one_sentence(tmp_path, make, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.tar").write_bytes(b"no tar" * 200)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        PILImage.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    with pytest.raises(InputError, match=message):
        open_source(make(tmp_path))


def test_an_unknown_key_says_what_to_give(pictures):
    with pytest.raises(InputError, match="pictures that the embeddings were made of"):
        open_source([pictures]).read("other.png")


def test_views_are_decided_by_seed_key_and_number(pictures):
    image = open_source([pictures]).read("01.png")
    assert view_of(image, "01.png", 0, seed=1) is image
    assert np.array_equal(view_of(image, "01.png", 1, seed=1).pixels, image.pixels[:, ::-1])
    crop = view_of(image, "01.png", 2, seed=1)
    assert np.array_equal(crop.pixels, view_of(image, "01.png", 2, seed=1).pixels)
    assert crop.hw[0] <= image.height and crop.hw[1] < image.width
    others = [view_of(image, "01.png", 2, seed=2), view_of(image, "02.png", 2, seed=1)]
    assert all(o.hw != crop.hw or not np.array_equal(o.pixels, crop.pixels) for o in others)


@pytest.mark.parametrize(("kind", "most"), [("float16", 1e-3), ("int8", 0.01)])
def test_what_is_stored_is_what_the_teacher_said(pictures, teacher, tmp_path, kind, most):
    list(embed(job(pictures, tmp_path, kind=kind, views=2), per_shard=4))
    store = TeacherStore.open(tmp_path)
    assert len(store) == 12 and len(list(tmp_path.glob("shard-*"))) == 2
    source = open_source([pictures])
    for key, view in (("00.png", 0), ("03.png", 1)):
        said, kept = teach(teacher, source, key, view, seed=1), store.read(key, view)
        rows, columns = cells_of(kept.frame, 8)
        assert kept.frame == said.frame and kept.values.shape == (256, rows, columns)
        error = np.sqrt(np.square(kept.values - said.values).mean() / np.square(said.values).mean())
        assert error < most
        assert np.allclose(kept.fill, said.fill, atol=0.02)
    assert 0 < store.lost.relative < most


def test_only_the_part_with_picture_is_kept(teacher, tmp_path):
    PILImage.fromarray(np.full((20, 90, 3), 90, np.uint8)).save(tmp_path / "wide.png")
    taught = teach(teacher, open_source([tmp_path]), "wide.png", 0, seed=1)
    assert taught.frame.canvas_hw == (32, 128) and taught.frame.scaled_hw == (28, 128)
    assert taught.values.shape == (256, 4, 16)
    assert not taught.fill.any()  # 28 pixels touch all four rows of cells: there is no padding to average
    wide = np.full((9, 90, 3), 90, np.uint8)
    PILImage.fromarray(wide).save(tmp_path / "wide.png")
    taught = teach(teacher, open_source([tmp_path]), "wide.png", 0, seed=1)
    embedding = teacher.embed(Image.load(wide)).arrays["image_embeddings"][0]
    assert taught.values.shape == (256, 2, 16) and embedding.shape == (256, 4, 16)
    assert np.allclose(taught.fill, embedding[:, 2:].mean((1, 2)), atol=1e-4)


def test_a_second_run_makes_only_what_is_missing(pictures, tmp_path):
    first = list(embed(job(pictures, tmp_path), per_shard=2, limit=3))
    assert (first[0].total, first[-1].done) == (3, 3)
    times = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("shard-*")}
    second = list(embed(job(pictures, tmp_path), per_shard=2))
    assert (second[0].skipped, second[-1].done) == (3, 3)
    assert all((tmp_path / name).stat().st_mtime_ns == was for name, was in times.items())
    assert list(embed(job(pictures, tmp_path)))[-1].total == 0
    assert Progress(4, 10, 0, {}, 2.0).left == 3.0


def test_unreadable_pictures_are_noted_once(tmp_path):
    folder = folder_of(tmp_path / "photos", 2)
    (folder / "torn.png").write_bytes((folder / "00.png").read_bytes()[:60])
    last = list(embed(job(folder, tmp_path / "store")))[-1]
    assert last.done == 2 and list(last.broken) == ["torn.png"]
    assert TeacherStore.open(tmp_path / "store").missing(["00.png", "torn.png"]) == []
    with pytest.raises(ImageError):
        open_source([folder]).read("torn.png")


def test_several_processes_fill_one_store(pictures, tmp_path):
    last = list(embed(job(pictures, tmp_path), per_shard=2, processes=2))[-1]
    assert last.done == 6 and len(TeacherStore.open(tmp_path)) == 6


def test_teachers_and_sizes_are_not_mixed(pictures, teacher, tmp_path):
    list(embed(job(pictures, tmp_path), limit=1))
    with pytest.raises(InputError, match=r"side 64 instead of 128.*teachers are not mixed"):
        list(embed(Job("nano", (str(pictures),), str(tmp_path), size=64)))
    with pytest.raises(InputError, match="kind int8 instead of float16"):
        list(embed(job(pictures, tmp_path, kind="int8")))
    other = Facts.of(registry.resolve("nano"))
    with pytest.raises(InputError, match="store's own teacher"):
        embed_shard(
            ["00.png"], source=open_source([pictures]), session=teacher, folder=tmp_path / "x", facts=other
        )
    foreign = tmp_path / "foreign"
    list(embed(Job("nano", (str(pictures),), str(foreign), size=64), limit=1))
    (shard,) = foreign.glob("shard-*")
    os.rename(shard, tmp_path / shard.name.replace("shard-", "shard-0"))
    with pytest.raises(InputError, match="another teacher's; move it away"):
        TeacherStore.open(tmp_path)
    with pytest.raises(InputError, match="such as sam_vit_h"):
        Facts.of(registry.resolve("fastsam_s"))


def test_damage_is_one_sentence(pictures, tmp_path):
    with pytest.raises(InputError, match="make it with samlet distill embed"):
        TeacherStore.open(tmp_path)
    list(embed(job(pictures, tmp_path), limit=2))
    store = TeacherStore.open(tmp_path)
    with pytest.raises(InputError, match="run samlet distill embed again"):
        store.read("01.png", 0)
    (shard,) = tmp_path.glob("shard-*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EmbeddingError, match="delete it and embed again"):
        TeacherStore.open(tmp_path)
    with pytest.raises(EmbeddingError, match="delete the shard"):
        store.read("00.png", 0)
    (tmp_path / "store.json").write_text(json.dumps({"format": 7}))
    with pytest.raises(InputError, match="embed into a new folder"):
        TeacherStore.open(tmp_path)
    for numbers in ({"per_shard": 0}, {"processes": 0}, {"limit": 0}):
        with pytest.raises(InputError, match="at least one picture a shard"):
            list(embed(job(pictures, tmp_path), **numbers))


PROGRAM = """
import os, signal, sys
from samlet.train.teacher_embed import Job, embed
for progress in embed(Job("nano", (sys.argv[1],), sys.argv[2], size=128, threads=1), per_shard=2):
    if progress.done == 2:
        import samlet.atomic
        real = samlet.atomic.os.replace
        samlet.atomic.os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_loses_the_shard_it_was_writing_and_no_other(pictures, tmp_path):
    """The process dies by SIGKILL between writing its second shard and giving it its name."""
    dead = subprocess.run([sys.executable, "-c", PROGRAM, str(pictures), str(tmp_path)], check=False)
    assert dead.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".samlet-*.tmp")  # written, and never named
    assert len(TeacherStore.open(tmp_path)) == 2
    again = list(embed(job(pictures, tmp_path), per_shard=2))
    assert (again[0].skipped, again[-1].done) == (2, 4)
    assert len(TeacherStore.open(tmp_path)) == 6
    assert left.exists()  # it could be another process's
    os.utime(left, (0, 0))
    list(embed(job(pictures, tmp_path)))
    assert not left.exists()


def test_a_dead_worker_is_one_sentence(pictures, tmp_path, monkeypatch):
    class Dying(ThreadPoolExecutor):
        def __init__(self, processes, context, **_):
            super().__init__(processes)

        def submit(self, *_):
            future = Future()
            future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
            return future

    monkeypatch.setattr("samlet.train.teacher_embed.ProcessPoolExecutor", Dying)
    with pytest.raises(TrainingError, match="finished shards are kept"):
        list(embed(job(pictures, tmp_path / "store"), processes=2))
