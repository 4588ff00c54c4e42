"""Embeddings: saved whole, loaded strictly, and good for one model only."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from samlet.backends.fake import FakeBackend
from samlet.embedding import Embedding
from samlet.errors import EmbeddingError, OutputError
from samlet.geometry import Frame
from samlet.image import Image
from samlet.limits import Limits
from samlet.prompt import Prompt
from samlet.registry import resolve
from samlet.session import Session

CARD = replace(resolve("nano"), side=128, mask_grid=64, embedding_channels=4)
FRAME = Frame.fit((60, 80), 128, multiple=32)
FACTS = {"format": 1, "frame": FRAME.to_dict(), "model": "nano", "digest": CARD.digest}
ARRAY = np.random.default_rng(0).normal(size=(1, 4, 12, 16)).astype(np.float32)


@pytest.fixture
def view() -> Embedding:
    return Embedding({"image_embeddings": ARRAY}, FRAME, "nano", CARD.digest)


def test_round_trip_gives_identical_masks(tmp_path: Path) -> None:
    session = Session(CARD, FakeBackend(channels=4))
    pixels = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    made = session.embed(Image.load(pixels))
    made.save(tmp_path / "view.safetensors")
    loaded = Embedding.load(tmp_path / "view.safetensors")
    assert (loaded.frame, loaded.model, loaded.digest, loaded.image) == (FRAME, "nano", CARD.digest, None)
    prompt = Prompt.make(image_hw=(60, 80), points=[40, 30])
    one, two = session.segment(made, prompt), session.segment(loaded, prompt)
    np.testing.assert_array_equal(one.logits, two.logits)
    np.testing.assert_array_equal(one.masks, two.masks)
    assert one.masks.any()


def test_arrays_cannot_be_changed(view: Embedding) -> None:
    with pytest.raises(ValueError, match="read-only"):
        view.arrays["image_embeddings"][:] = 0
    with pytest.raises(TypeError):
        view.arrays["more"] = ARRAY  # type: ignore[index]


def test_saving_is_atomic_and_repeatable(view: Embedding, tmp_path: Path) -> None:
    view.save(tmp_path / "a")
    view.save(tmp_path / "a")
    view.save(str(tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    with pytest.raises(OutputError):
        view.save(tmp_path / "none" / "a")


def test_another_model(view: Embedding) -> None:
    view.check(CARD)
    with pytest.raises(EmbeddingError, match="embed the picture again with mine"):
        view.check(replace(CARD, name="mine", side=256))
    with pytest.raises(EmbeddingError):
        Session(CARD, FakeBackend(channels=4)).segment(
            replace(view, digest="0" * 64), Prompt.make(image_hw=(60, 80), points=[1, 1])
        )


def stored(facts: Any = FACTS, array: np.ndarray = ARRAY, name: str = "image_embeddings") -> bytes:
    return save({name: array}, metadata={"samlet.embedding": json.dumps(facts)})


def framed(**changes: Any) -> dict[str, Any]:
    return {**FACTS, "frame": {**FRAME.to_dict(), **changes}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be used"),
        (b"\x80\x04K\x01.", "cannot be used"),
        (save({"image_embeddings": ARRAY}), "__metadata__"),
        (save({"image_embeddings": ARRAY}, metadata={"samlet.embedding": "{"}), "cannot be used"),
        (save({"image_embeddings": ARRAY}, metadata={"samlet.embedding": "[" * 99_999}), "cannot be used"),
        (stored([]), "no JSON object"),
        (stored({}), "unknown format"),
        (stored({**FACTS, "format": 2}), "unknown format"),
        (stored({**FACTS, "more": 1}), "unknown format"),
        (stored({**FACTS, "digest": 7}), "must be texts"),
        (stored({**FACTS, "model": None}), "must be texts"),
        (stored({**FACTS, "frame": None}), "cannot be used"),
        (stored({**FACTS, "frame": {}}), "cannot be used"),
        (stored(framed(image_hw=[0, 80])), "cannot be used"),
        (stored(framed(image_hw=[-60, 80])), "cannot be used"),
        (stored(framed(image_hw="60")), "cannot be used"),
        (stored(framed(image_hw=[60.5, 80])), "cannot be used"),
        (stored(framed(image_hw=[10**30, 80])), "cannot be used"),
        (stored(framed(image_hw=[16_000, 16_000])), "50,000,000 pixels"),
        (stored(framed(scaled_hw=[97, 128])), "cannot be used"),
        (stored(framed(canvas_hw=[128, 128])), "do not fit the canvas"),
        (stored(framed(canvas_hw=[100, 128])), "do not fit the canvas"),
        (stored(array=ARRAY[0]), "must have the shape"),
        (stored(array=ARRAY[:, :, :0]), "must have the shape"),
        (stored(array=ARRAY.astype(np.float64)), "float32"),
        (stored(array=np.full_like(ARRAY, np.nan)), "finite"),
        (stored(name="embeddings"), "no image_embeddings"),
    ],
)
def test_hostile_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "view"
    path.write_bytes(data)
    with pytest.raises(EmbeddingError, match=message) as caught:
        Embedding.load(path)
    assert "\n" not in str(caught.value)


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "view"
    whole = stored()
    path.write_bytes(whole)
    Embedding.load(path)
    for length in [*range(0, 40), *range(40, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(EmbeddingError):
            Embedding.load(path)


def test_damaged_headers_give_no_foreign_error(tmp_path: Path) -> None:
    """Flips in the header either still load or give our error; there is no digest to catch them all."""
    path = tmp_path / "view"
    whole, rng, refused = stored(), random.Random(3), 0
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.randrange(header)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            Embedding.load(path)
        except EmbeddingError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("place", [lambda tmp: tmp / "none", lambda tmp: tmp, lambda tmp: tmp / "a\0b"])
def test_files_that_cannot_be_read(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    with pytest.raises(EmbeddingError, match="cannot be read"):
        Embedding.load(place(tmp_path))


def test_too_large(tmp_path: Path, view: Embedding) -> None:
    view.save(tmp_path / "a")
    with pytest.raises(EmbeddingError, match="at most 1,000 bytes"):
        Embedding.load(tmp_path / "a", limits=Limits(max_file_bytes=1000))
