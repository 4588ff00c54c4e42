"""Every reader of outside bytes, with good files for it and with what it may raise."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from attacks.assembly import torch_file

from fuzz import mutate, seeds
from samlet.errors import CheckpointError, InputError
from samlet.limits import Limits

Read = Callable[[bytes], object]
CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: For the command line, the tables and the folder of its corpus.
        seeds: Gives good files, each of which the reader takes.
        read: The reader; anything that it raises but `refuses` is a fault.
        refuses: How it refuses.
        is_text: Whether words are changed more often than bytes.
        repaired: Makes checksums and lengths right again.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Read
    refuses: type[Exception] = InputError
    is_text: bool = False
    repaired: Callable[[bytes], bytes] | None = None
    corpus: Path = field(init=False)

    def __post_init__(self) -> None:
        """Name the folder of what the guided search has found worth keeping."""
        object.__setattr__(self, "corpus", CORPUS / self.name)

    def stock(self) -> "Stock":
        """Give the good files, and those of the corpus."""
        kept = sorted(self.corpus.glob("*")) if self.corpus.is_dir() else []
        return Stock(self.seeds(), [path.read_bytes() for path in kept])

    def mutant(self, index: int, stock: "Stock") -> bytes:
        """Give the mutant of a number, always the same one for the same stock."""
        rng = Random(f"{self.name} {index}")
        # The corpus is mostly broken already.
        data = rng.choice(stock.kept if stock.kept and rng.random() < 0.25 else stock.good)
        reword = rng.random() < (0.8 if self.is_text else 0.1)
        changed = (mutate.reworded if reword else mutate.damaged)(data, stock.all, rng)
        if self.repaired is not None and rng.random() < 0.6:
            changed = self.repaired(changed)
        return changed


@dataclass(frozen=True)
class Stock:
    """What mutants are made of.

    Attributes:
        good: Files that the reader takes.
        kept: Inputs that the guided search has found worth keeping.
    """

    good: list[bytes]
    kept: list[bytes]

    @property
    def all(self) -> list[bytes]:
        return self.good + self.kept


def _picture(data: bytes) -> object:
    from samlet.errors import LimitError
    from samlet.image import Image

    try:
        pixels = Image.load(data).pixels
    except LimitError:  # an animation; its first frame is met as well
        pixels = Image.load(data, limits=Limits(max_frames=10)).pixels
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
    return pixels


def _http_prompt(data: bytes) -> object:
    from samlet.prompt import Prompt
    from samlet.server.bodies import parsed
    from samlet.server.schema import Prompt as Form

    asked = parsed(Form, data)
    return Prompt.make(
        image_hw=(96, 128),
        points=asked.points,
        labels=asked.labels,
        boxes=asked.boxes,
        limits=Limits(max_prompts=256),
    )


def _prompt(data: bytes) -> object:
    from samlet.prompt import Prompt

    try:
        value = json.loads(data)
        given = {key: value.get(key) for key in ("points", "labels", "boxes", "hint")}
    except (ValueError, RecursionError, AttributeError):
        raise InputError("no arguments, so nothing of ours has read them") from None
    return Prompt.make(image_hw=(96, 128), **given)


def _prompts_of(suffix: str) -> Read:
    def read(data: bytes) -> object:
        from samlet.batch.prompts import prompts

        with _as_file(data, suffix) as path:
            return list(prompts(path))

    return read


@contextlib.contextmanager
def _as_file(data: bytes, suffix: str) -> Iterator[str]:
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.NamedTemporaryFile(suffix=suffix, dir=memory) as file:
        file.write(data)
        file.flush()
        yield file.name


def _rle(data: bytes) -> object:
    from samlet.rle import (
        mask_to_compressed_rle,
        rle_area,
        rle_to_bbox,
        rle_to_mask,
        rle_to_string,
        string_to_rle,
    )

    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # no JSON: then it may be the string itself
        return string_to_rle(data, (6, 9))
    mask = rle_to_mask(value, limits=Limits(max_pixels=10**6))
    assert int(mask.sum()) == rle_area(value)
    again = mask_to_compressed_rle(mask)
    assert rle_to_bbox(value) == rle_to_bbox(again)
    assert np.array_equal(rle_to_mask({"size": value["size"], "counts": rle_to_string(value)}), mask)
    return mask


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _toml_card(data: bytes) -> object:
    from samlet.card import Card

    return Card.from_toml(_text(data), origin="mutant")


def _json_card(data: bytes) -> object:
    from samlet.card import Card

    return Card.from_json(_text(data), origin="mutant")


def _weights(data: bytes) -> object:
    from samlet.checkpoint import canonical, identify, parse, parse_metadata

    with contextlib.suppress(CheckpointError):
        parse_metadata(data, origin="mutant")
    found = parse(data, origin="mutant")
    identify(canonical(found, origin="mutant"))
    return [array.sum() for array in found.arrays.values()]


def _pickle(data: bytes) -> object:
    return _weights(torch_file(data).bytes())


def _embedding(data: bytes) -> object:
    from samlet.embedding import Embedding

    return Embedding.from_bytes(data, origin="mutant")


def _form(data: bytes) -> object:
    from samlet.limits import SERVER_LIMITS
    from samlet.server.bodies import upload

    return upload(data, "multipart/form-data; boundary=XX", SERVER_LIMITS)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("jpeg", seeds.jpegs, _picture),
        Target("png", seeds.pngs, _picture, repaired=mutate.png_repaired),
        Target("webp", seeds.webps, _picture, repaired=mutate.riff_repaired),
        Target("bmp", seeds.bmps, _picture),
        Target("tiff", seeds.tiffs, _picture),
        Target("prompt", seeds.prompts_of_the_library, _prompt, is_text=True),
        Target("prompt-http", seeds.prompts_over_http, _http_prompt, is_text=True),
        Target("prompts-jsonl", seeds.prompts_as_lines, _prompts_of(".jsonl"), is_text=True),
        Target("prompts-csv", seeds.prompts_as_table, _prompts_of(".csv"), is_text=True),
        Target("prompts-coco", seeds.prompts_as_coco, _prompts_of(".json"), is_text=True),
        Target("rle", seeds.rles, _rle, is_text=True),
        Target("card-toml", seeds.cards_as_toml, _toml_card, CheckpointError, is_text=True),
        Target("card-json", seeds.cards_as_json, _json_card, CheckpointError, is_text=True),
        Target(
            "safetensors",
            seeds.safetensors_files,
            _weights,
            CheckpointError,
            is_text=True,
            repaired=mutate.header_repaired,
        ),
        Target("torch", seeds.archives, _weights, CheckpointError),
        Target("pickle", seeds.pickles, _pickle, CheckpointError),
        Target("embedding", seeds.embeddings, _embedding, repaired=mutate.header_repaired),
        Target("form", seeds.forms, _form),
    )
}
"""By name."""
