"""Teacher embeddings on disk: shards of safetensors, each whole or absent, that say which teacher made them.

An embedding is kept without its padding, in float16 or as int8 with one scale a channel, together with the teacher's
mean vector on the padding. A shard is named by what is in it, so that any number of processes and machines may write
into one folder, and a run that was killed has lost the shard it was writing and nothing else.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.atomic import atomic_write
from samlet.card import Card
from samlet.checkpoint import to_safetensors
from samlet.errors import EmbeddingError, InputError
from samlet.geometry import Frame
from samlet.session import Session
from samlet.train.sources import Source
from samlet.train.teacher_views import view_of

INDEX = "store.json"
FORMAT = 1
KINDS = ("float16", "int8")
_META = "samlet.shard"


@dataclass(frozen=True)
class Facts:
    """What all shards of a store share; two stores with the same facts may be mixed, others not.

    Attributes:
        teacher: The teacher's name.
        digest: Of its weights and preprocessing (`Card.digest`).
        side: Longest side of a picture on the teacher's canvas.
        stride: Canvas pixels to a cell of the embedding.
        channels: Of the embedding.
        kind: "float16" or "int8".
        views: Views of each picture, see `teacher_views`.
        seed: Of the views.
    """

    teacher: str
    digest: str
    side: int
    stride: int
    channels: int
    kind: str
    views: int = 1
    seed: int = 1

    @classmethod
    def of(cls, card: Card, *, kind: str = "float16", views: int = 1, seed: int = 1) -> "Facts":
        """Say what a store of a teacher's embeddings will hold.

        Raises:
            InputError: The kind is unknown, there are no views, or the model has no SAM-shaped embedding.
        """
        if kind not in KINDS or views < 1:
            raise InputError(
                f"expected a kind of {', '.join(KINDS)} and at least one view, got {kind!r} and {views}; "
                "correct the options"
            )
        if card.family != "sam":
            raise InputError(
                f"expected a teacher that embeds pictures, such as sam_vit_h, mobile_sam or nano, got {card.name}; "
                "choose another"
            )
        return cls(card.name, card.digest, card.side, card.stride, card.embedding_channels, kind, views, seed)


@dataclass(frozen=True)
class Taught:
    """What the teacher made of one view.

    Attributes:
        key: Of the picture.
        view: Number of the view.
        values: (C, h, w) float32, on the part of the canvas that is picture, rounded up to whole cells.
        fill: (C,) the teacher's mean vector on the padding; zeros where there is none.
        frame: Where the view lies on the teacher's canvas.
    """

    key: str
    view: int
    values: NDArray[np.float32]
    fill: NDArray[np.float32]
    frame: Frame


@dataclass
class Quantised:
    """How much was lost by storing: sums of squares, which add up over shards."""

    error: float = 0.0
    power: float = 0.0

    @property
    def relative(self) -> float:
        """Root mean square error over the root mean square of the embeddings."""
        return float(np.sqrt(self.error / self.power)) if self.power else 0.0


def teach(session: Session, source: Source, key: str, view: int, *, seed: int) -> Taught:
    """Let the teacher look at one view.

    Raises:
        ImageError: The picture cannot be read.
        BackendError: The runtime failed.
    """
    embedding = session.embed(view_of(source.read(key), key, view, seed=seed))
    array, frame = embedding.arrays["image_embeddings"][0], embedding.frame
    h, w = cells_of(frame, session.card.stride)
    padding = np.concatenate(
        [array[:, h:].reshape(len(array), -1), array[:, :h, w:].reshape(len(array), -1)], 1
    )
    fill = padding.mean(1) if padding.size else np.zeros(len(array), np.float32)
    return Taught(key, view, np.ascontiguousarray(array[:, :h, :w]), fill.astype(np.float32), frame)


def cells_of(frame: Frame, stride: int) -> tuple[int, int]:
    """Cells (h, w) of an embedding that see any of the picture."""
    height, width = frame.scaled_hw
    return -(-height // stride), -(-width // stride)


@dataclass(frozen=True)
class Row:
    """Where an embedding is: the shard, its number in it, and its frame on the teacher's canvas."""

    shard: str
    number: int
    frame: Frame


@dataclass
class TeacherStore:
    """A folder of shards, open for reading; `add` writes one more.

    Attributes:
        folder: Where.
        facts: What its shards share.
        at: Where each view is, by (key, view).
        broken: Reason by key of pictures that could not be read.
        lost: What quantisation cost.
    """

    folder: Path
    facts: Facts
    at: dict[tuple[str, int], Row] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    lost: Quantised = field(default_factory=Quantised)

    @classmethod
    def open(cls, folder: str | Path, *, expect: Facts | None = None) -> "TeacherStore":
        """Open a store; a new one is begun if `expect` says what it will hold.

        Raises:
            InputError: There is no store, or it is of another teacher, or made otherwise.
        """
        folder = Path(folder)
        index = folder / INDEX
        if not index.exists():
            if expect is None:
                raise InputError(
                    f"expected a store of teacher embeddings in {folder}, found none; make it with samlet distill embed"
                )
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(index, json.dumps({"format": FORMAT, **asdict(expect)}, indent=1))
        store = cls(folder, _read_facts(index))
        if expect is not None and expect != store.facts:
            old, new = asdict(store.facts), asdict(expect)
            told = ", ".join(
                f"{k} {_short(new[k])} instead of {_short(old[k])}" for k in new if new[k] != old[k]
            )
            raise InputError(
                f"expected embeddings of {store.facts.teacher} as they are in {folder}, got {told}; "
                "choose another folder: teachers are not mixed"
            )
        for path in sorted(folder.glob("shard-*.safetensors")):
            store._take(path)
        return store

    def _take(self, path: Path) -> None:
        meta = _read_meta(path)
        if meta["digest"] != self.facts.digest:
            raise InputError(
                f"expected shards of {self.facts.teacher} in {self.folder}, but {path.name} is another teacher's; "
                "move it away"
            )
        for number, (key, view, frame) in enumerate(meta["rows"]):
            self.at[(key, view)] = Row(path.name, number, Frame.from_dict(frame))
        self.broken.update(meta["broken"])
        self.lost.error += meta["error"]
        self.lost.power += meta["power"]

    def __len__(self) -> int:
        """Give the number of stored views."""
        return len(self.at)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Keys of pictures that still lack a view; unreadable ones do not count."""
        numbers = range(self.facts.views)
        return [
            key
            for key in keys
            if key not in self.broken and any((key, view) not in self.at for view in numbers)
        ]

    def add(self, taught: Sequence[Taught], broken: Mapping[str, str]) -> Path:
        """Write one shard, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {}
        lost = Quantised()
        for number, each in enumerate(taught):
            for name, array in _packed(each.values, self.facts.kind).items():
                arrays[f"{number}.{name}"] = array
            arrays[f"{number}.fill"] = each.fill.astype(np.float16)
            back = _unpacked({name: arrays[f"{number}.{name}"] for name in _parts(self.facts.kind)})
            lost.error += float(np.square(back - each.values, dtype=np.float64).sum())
            lost.power += float(np.square(each.values, dtype=np.float64).sum())
        meta = {
            "digest": self.facts.digest,
            "rows": [[each.key, each.view, each.frame.to_dict()] for each in taught],
            "broken": dict(broken),
            "error": lost.error,
            "power": lost.power,
        }
        names = json.dumps([[each.key, each.view] for each in taught] + sorted(broken))
        path = self.folder / f"shard-{hashlib.sha256(names.encode()).hexdigest()[:20]}.safetensors"
        atomic_write(path, to_safetensors(arrays, {_META: json.dumps(meta, sort_keys=True)}))
        self._take(path)
        return path

    def read(self, key: str, view: int) -> Taught:
        """Read one embedding back; may be called from any thread.

        Raises:
            InputError: It is not in the store.
            EmbeddingError: Its shard is damaged.
        """
        if (key, view) not in self.at:
            raise InputError(
                f"expected view {view} of {key!r:.120} in {self.folder}, found none; run samlet distill embed again"
            )
        from safetensors import SafetensorError, safe_open

        row = self.at[(key, view)]
        path, number = self.folder / row.shard, row.number
        try:
            with safe_open(path, framework="numpy") as file:
                parts = {part: file.get_tensor(f"{number}.{part}") for part in _parts(self.facts.kind)}
                fill = file.get_tensor(f"{number}.fill").astype(np.float32)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise EmbeddingError(
                f"expected {key!r:.80} in {path}, but it cannot be read ({error}); delete the shard and embed again"
            ) from None
        return Taught(key, view, _unpacked(parts), fill, row.frame)


def embed_shard(
    keys: Sequence[str],
    *,
    source: Source,
    session: Session,
    folder: str | Path,
    facts: Facts,
    store: TeacherStore | None = None,
) -> tuple[Path, int, dict[str, str]]:
    """Embed some pictures into one shard: the plain function that a local pool, Ray or a cluster schedules.

    Args:
        keys: Of the pictures; unreadable ones are noted in the shard.
        source: Where they are.
        session: The teacher.
        folder: The store.
        facts: As `Facts.of` gave them for the teacher.
        store: The store if it is open already.

    Returns:
        The shard, how many pictures are in it, and the reasons why others are not.
    """
    if session.card.digest != facts.digest:
        raise InputError(
            f"expected the teacher {facts.teacher}, got {session.card.name}; open the store's own teacher"
        )
    store = TeacherStore.open(folder, expect=facts) if store is None else store
    taught: list[Taught] = []
    broken: dict[str, str] = {}
    for key in keys:
        try:
            views = [teach(session, source, key, view, seed=facts.seed) for view in range(facts.views)]
        except InputError as error:
            broken[key] = str(error)
        else:
            taught += views
    return store.add(taught, broken), len(keys) - len(broken), broken


def _parts(kind: str) -> tuple[str, ...]:
    return ("int8", "scale") if kind == "int8" else ("half",)


def _packed(values: NDArray[np.float32], kind: str) -> dict[str, NDArray[Any]]:
    if kind == "float16":
        return {"half": values.astype(np.float16)}
    scale = np.abs(values).max((1, 2)) / 127
    scale[scale == 0] = 1
    return {
        "int8": np.rint(values / scale[:, None, None]).astype(np.int8),
        "scale": scale.astype(np.float32),
    }


def _unpacked(parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    if "half" in parts:
        return parts["half"].astype(np.float32)
    return parts["int8"].astype(np.float32) * parts["scale"][:, None, None]


def _read_facts(index: Path) -> Facts:
    try:
        fields = json.loads(index.read_text("utf-8"))
        if fields.pop("format") != FORMAT:
            raise ValueError("it has another format")
        return replace(Facts(**fields))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"expected the description of a store in {index}, but it cannot be used ({error}); embed into a new folder"
        ) from None


def _read_meta(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            meta: dict[str, Any] = json.loads(file.metadata()[_META])
        if {"digest", "rows", "broken", "error", "power"} - meta.keys():
            raise ValueError("its metadata is incomplete")
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise EmbeddingError(
            f"expected a shard of teacher embeddings in {path}, but it cannot be read ({error}); "
            "delete it and embed again"
        ) from None
    return meta


def _short(value: object) -> str:
    return f"{value!s:.12}"
