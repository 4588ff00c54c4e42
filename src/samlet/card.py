"""The card of a model: what it is, which files it needs, how a picture is prepared for it.

A card is data. The built-in ones are TOML files beside this module; a network trained with samlet carries its
own card as JSON in the metadata of its safetensors file. Both go through the same strict reader, because the
second kind comes from outside.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from samlet.errors import CheckpointError

_GRAPH_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}\.onnx")
_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GRAPH_ROLES = ("encoder", "decoder")
_TEXTS = ("name", "family", "title", "licence", "weights_licence", "paper", "notes")
_KEYS = frozenset(
    {*_TEXTS, "aliases", "side", "pad", "mean", "std", "embedding_channels", "mask_grid"}
    | {"zoom_below", "zoom_margin", "graphs", "files", "quality"}
)


@dataclass(frozen=True, slots=True)
class CardFile:
    """One file of a model, with the digest that it must have before anything parses it.

    Attributes:
        role: What the file is for; "weights" is the only role so far.
        path: Where it lies: inside the package ("weights/nano.safetensors") or absolute; None with a url.
        url: HTTPS address of a file that does not ship with the package; None if it has a path.
        sha256: Expected SHA-256, 64 lower-case hexadecimal digits.
        size: Expected size in bytes.
    """

    role: str
    path: str | None
    url: str | None
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Card:
    """Everything samlet knows about one model; see `cards/nano.toml` for an example.

    Attributes:
        name: What users type.
        aliases: Other names for the same model.
        family: Which room of `samlet.families` turns pictures and prompts into network inputs.
        title: One line for people.
        licence: Licence of the code and structure.
        weights_licence: Licence of the weights, with what they were trained on.
        paper: Where the idea is described.
        files: The files with the weights.
        graphs: Graph role ("encoder", "decoder") to the file name in `samlet/graphs`.
        side: Longest side of the picture inside the network's canvas, in pixels.
        pad: "square" for a canvas of side x side, or the multiple to which each of its sides is rounded up.
        mean: Per-channel mean (RGB, 0..255) subtracted before the network.
        std: Per-channel divisor (RGB, 0..255 units).
        embedding_channels: Channels of the embedding.
        mask_grid: Side of the low-res logits of a square canvas; four times the embedding's grid.
        zoom_below: `zoom="auto"` looks twice at boxes whose longer side is below this share of the picture's.
        zoom_margin: Share of the box's longer side added around it for the second look.
        quality: Measured figures, each under a key that names its protocol.
        notes: What a user should know before relying on the model.
    """

    name: str
    aliases: tuple[str, ...]
    family: str
    title: str
    licence: str
    weights_licence: str
    paper: str
    files: tuple[CardFile, ...]
    graphs: Mapping[str, str]
    side: int
    pad: str | int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    embedding_channels: int
    mask_grid: int
    zoom_below: float
    zoom_margin: float
    quality: Mapping[str, float]
    notes: str

    @property
    def stride(self) -> int:
        """Canvas pixels per cell of the embedding: 8 for nano, 16 for SAM."""
        return self.side // (self.mask_grid // 4)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides an embedding: the weights' digests and the preprocessing.

        Two cards with the same digest may share embeddings; title, notes and quality do not count.
        """
        decisive = {
            "family": self.family,
            "weights": sorted((file.role, file.sha256) for file in self.files),
            "graphs": dict(self.graphs),
            "side": self.side,
            "pad": self.pad,
            "mean": self.mean,
            "std": self.std,
            "embedding_channels": self.embedding_channels,
            "mask_grid": self.mask_grid,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Give the card as plain lists, dicts, texts and numbers, in the layout `from_dict` reads."""
        return {
            **{key: getattr(self, key) for key in _TEXTS},
            "aliases": list(self.aliases),
            "side": self.side,
            "pad": self.pad,
            "mean": list(self.mean),
            "std": list(self.std),
            "embedding_channels": self.embedding_channels,
            "mask_grid": self.mask_grid,
            "zoom_below": self.zoom_below,
            "zoom_margin": self.zoom_margin,
            "graphs": dict(self.graphs),
            "quality": dict(self.quality),
            "files": [
                {"role": file.role, **_address(file), "sha256": file.sha256, "size": file.size}
                for file in self.files
            ],
        }

    def to_json(self) -> str:
        """Give the card without its files, as the text a trainer stores under the metadata key "samlet.card".

        The files are left out because a file cannot hold its own digest; whoever opens it adds them.
        """
        fields = self.to_dict()
        fields["files"] = []
        return json.dumps(fields, sort_keys=True, ensure_ascii=False)

    def with_files(self, *files: CardFile) -> "Card":
        """Give the same card with other files, for instance the file that carried it."""
        return replace(self, files=tuple(files))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], *, origin: str) -> "Card":
        """Read a card strictly: every key must be there, none may be unknown, every value is checked.

        Args:
            fields: What TOML or JSON gave.
            origin: Where the fields came from, for messages.

        Raises:
            CheckpointError: A key is missing, unknown or has a value that no model can have.
        """
        read = _Reader(fields, origin, _KEYS)
        texts = {key: read.text(key) for key in _TEXTS}
        if not _MODEL_NAME.fullmatch(texts["name"]):
            raise read.error("name", "lower-case letters, digits, '_', '.' or '-' (64 at most)")
        aliases = read.array("aliases")
        if not all(isinstance(alias, str) and _MODEL_NAME.fullmatch(alias) for alias in aliases):
            raise read.error("aliases", "a list of model names")
        side = read.integer("side", 32, 8192)
        mask_grid = read.integer("mask_grid", 16, 8192)
        if mask_grid % 4 or side % (mask_grid // 4):
            raise read.error("mask_grid", f"four times a divisor of side ({side})")
        stride = side // (mask_grid // 4)
        pad = fields["pad"]
        if pad != "square" and (type(pad) is not int or not stride <= pad <= side or pad % stride):
            raise read.error("pad", f"'square' or a multiple of the stride ({stride}) up to side ({side})")
        std = read.triple("std")
        if min(std) <= 0:
            raise read.error("std", "three numbers above 0")
        quality = read.table("quality")
        if not all(_is_number(value) for value in quality.values()):
            raise read.error("quality", "a table of numbers")
        return cls(
            **texts,
            aliases=tuple(aliases),
            files=tuple(_read_file(entry, origin) for entry in read.array("files")),
            graphs=_read_graphs(read),
            side=side,
            pad=pad,
            mean=read.triple("mean"),
            std=std,
            embedding_channels=read.integer("embedding_channels", 1, 4096),
            mask_grid=mask_grid,
            zoom_below=read.number("zoom_below", 0.0, 1.0),
            zoom_margin=read.number("zoom_margin", 0.0, 8.0),
            quality={key: float(value) for key, value in quality.items()},
        )

    @classmethod
    def from_toml(cls, text: str, *, origin: str) -> "Card":
        """Read a card from TOML; see `from_dict`.

        Args:
            text: The whole card.
            origin: Where the text came from, for messages.

        Raises:
            CheckpointError: The text is not TOML, or not a card.
        """
        try:
            fields = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise CheckpointError(
                f"expected a model card in TOML in {origin}, but it does not parse ({error}); "
                "correct the file"
            ) from None
        return cls.from_dict(fields, origin=origin)

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> "Card":
        """Read a card from JSON, as `to_json` writes it; see `from_dict`.

        Args:
            text: The whole card.
            origin: Where the text came from, for messages.

        Raises:
            CheckpointError: The text is not JSON, or not a card.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise CheckpointError(
                f"expected a model card as a JSON object in {origin}, but it does not parse; "
                "write the file again with samlet's trainer"
            )
        return cls.from_dict(fields, origin=origin)


class _Reader:
    """Typed access to the fields of a card, with one form of message for everything that is wrong."""

    def __init__(self, fields: Mapping[str, Any], origin: str, keys: frozenset[str]) -> None:
        self._fields, self._origin = fields, origin
        missing, unknown = sorted(keys - fields.keys()), sorted(fields.keys() - keys)
        if missing or unknown:
            found = [f"lacks {', '.join(missing)}"] if missing else []
            found += [f"has unknown {', '.join(map(str, unknown))}"] if unknown else []
            raise CheckpointError(
                f"expected the keys of a model card in {origin}, but it {' and '.join(found)}; "
                "correct the card"
            )

    def error(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"expected {expected} for '{key}' in the card {self._origin}, got {self._fields[key]!r:.80}; "
            "correct the card"
        )

    def text(self, key: str) -> str:
        value = self._fields[key]
        if not isinstance(value, str):
            raise self.error(key, "a text")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._fields[key]
        if type(value) is not int or not low <= value <= high:
            raise self.error(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self._fields[key]
        if not _is_number(value) or not low <= value <= high:
            raise self.error(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def array(self, key: str) -> list[Any]:
        value = self._fields[key]
        if not isinstance(value, list):
            raise self.error(key, "a list")
        return value

    def table(self, key: str) -> dict[str, Any]:
        value = self._fields[key]
        if not isinstance(value, dict):
            raise self.error(key, "a table")
        return value

    def triple(self, key: str) -> tuple[float, float, float]:
        value = self._fields[key]
        if not isinstance(value, list) or len(value) != 3 or not all(map(_is_number, value)):
            raise self.error(key, "three numbers (red, green, blue)")
        return float(value[0]), float(value[1]), float(value[2])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_graphs(read: _Reader) -> dict[str, str]:
    """Check that the graphs are plain names of files in the package: an outsider's card may hold any text."""
    graphs = read.table("graphs")
    named = all(isinstance(name, str) and _GRAPH_NAME.fullmatch(name) for name in graphs.values())
    if sorted(graphs) != sorted(_GRAPH_ROLES) or not named:
        raise read.error("graphs", "a table with encoder and decoder, each the plain name of an .onnx file")
    return dict(graphs)


def _read_file(entry: object, origin: str) -> CardFile:
    if not isinstance(entry, dict):
        raise CheckpointError(
            f"expected tables under 'files' in the card {origin}, got {entry!r:.80}; correct the card"
        )
    address = "url" if "url" in entry else "path"
    read = _Reader(entry, origin, frozenset(("role", address, "sha256", "size")))
    where = read.text(address)
    if read.text("role") != "weights":
        raise read.error("role", "'weights'")
    if address == "url" and not where.startswith("https://"):
        raise read.error("url", "an https:// address")
    if not _SHA256.fullmatch(read.text("sha256")):
        raise read.error("sha256", "64 lower-case hexadecimal digits")
    return CardFile(
        role="weights",
        path=where if address == "path" else None,
        url=where if address == "url" else None,
        sha256=entry["sha256"],
        size=read.integer("size", 1, 2**40),
    )


def _address(file: CardFile) -> dict[str, str]:
    return {"url": file.url} if file.path is None and file.url is not None else {"path": file.path or ""}
