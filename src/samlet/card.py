"""The card of a model: what it is, which files it needs, how a picture is prepared for it.

A card is data. The built-in ones are TOML files beside this module; a network trained with samlet carries its
own card as JSON in the metadata of its safetensors file. Both go through the same strict reader, because the
second kind comes from outside.
"""

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from samlet.errors import CheckpointError, InputError

_GRAPH_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}\.onnx")
_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"(spaces/|datasets/)?[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_ROLE = re.compile(r"[a-z][a-z_]{0,31}")
_FILE_ROLES = ("weights", "encoder", "decoder", "network")
_TEXTS = ("name", "family", "title", "licence", "weights_licence", "paper", "notes")
_DEFAULTS: Mapping[str, Any] = {
    "aliases": [],
    "notes": "",
    "pad": "square",
    "embedding_channels": 256,
    "mask_grid": 256,
    "zoom_below": 0.0,
    "zoom_margin": 0.0,
    "zoom_clicks": 0,
    "settings": {},
    "quality": {},
}
SHAPES = ("auto", "padded", "fit")
"""Forms of canvas; see `Card.shaped`."""
_FITS_EVERY_NETWORK = (
    64  # EfficientViT needs it; the others take multiples of 32, and 16:9 in 1,024 pixels is 9 of 64
)
_KEYS = frozenset({*_TEXTS, "side", "mean", "std", "graphs", "files", *_DEFAULTS})


@dataclass(frozen=True, slots=True)
class CardFile:
    """One file of a model, with the digest that it must have before anything parses it.

    Attributes:
        role: What the file holds: "weights" (everything), or "encoder", "decoder", "network" for that part alone.
        path: Where it lies: inside the package ("weights/nano.safetensors") or absolute; None with a url.
        url: HTTPS address of a file that does not ship with the package; None if it has a path.
        sha256: Expected SHA-256, 64 lower-case hexadecimal digits; "" if nobody published it.
        size: Expected size in bytes; 0 if nobody published it.
        repo: Hugging Face repository ("owner/name") in whose local cache the file may lie already; "" if none.
        git_sha1: Git's own digest of the file (SHA-1 over "blob <size>", a zero byte and the bytes), 40 digits;
            "" if unknown. It stands in where no SHA-256 was published.
    """

    role: str
    path: str | None
    url: str | None
    sha256: str
    size: int
    repo: str = ""
    git_sha1: str = ""

    @property
    def file_name(self) -> str:
        """The file's own name: the last part of its path or address."""
        return (self.path or self.url or "").replace("\\", "/").rsplit("/", 1)[-1].split("?", 1)[0]


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
        graphs: Graph role to the file name in `samlet/graphs`; which roles there are is the family's business.
        settings: Numbers, texts and switches that only the family knows, such as a detector's thresholds.
        side: Longest side of the picture inside the network's canvas, in pixels.
        pad: "square" for a canvas of side x side, or the multiple to which each of its sides is rounded up.
        mean: Per-channel mean (RGB, 0..255) subtracted before the network.
        std: Per-channel divisor (RGB, 0..255 units).
        embedding_channels: Channels of the embedding.
        mask_grid: Side of the low-res logits of a square canvas; four times the embedding's grid.
        zoom_below: `zoom="auto"` looks twice at boxes whose longer side is below this share of the picture's.
        zoom_margin: Share of the box's longer side added around it for the second look.
        zoom_clicks: `zoom="auto"` looks from near at small objects with so many clicks; 0 is never.
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
    zoom_clicks: int
    quality: Mapping[str, float]
    notes: str
    settings: Mapping[str, float | int | bool | str] = field(default_factory=dict)

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
            "weights": sorted((file.role, file.sha256 or file.git_sha1) for file in self.files),
            "graphs": dict(self.graphs),
            "side": self.side,
            "pad": self.pad,
            "mean": self.mean,
            "std": self.std,
            "embedding_channels": self.embedding_channels,
            "mask_grid": self.mask_grid,
            **({"settings": dict(self.settings)} if self.settings else {}),
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
            "zoom_clicks": self.zoom_clicks,
            "graphs": dict(self.graphs),
            "settings": dict(self.settings),
            "quality": dict(self.quality),
            "files": [_file_to_dict(file) for file in self.files],
        }

    def to_json(self) -> str:
        """Give the card without its files, as the text a trainer stores under the metadata key "samlet.card".

        The files are left out because a file cannot hold its own digest; whoever opens it adds them.
        """
        fields = self.to_dict()
        fields["files"] = []
        return json.dumps(fields, sort_keys=True, ensure_ascii=False)

    def shaped(self, shape: str) -> "Card":
        """Give the same model for another form of canvas; embeddings of the two do not mix, their digests differ.

        Args:
            shape: "padded" for SAM's square; "fit" for the scaled picture, padded only to a multiple of what the
                network needs, so that a 16:9 picture costs little more than half; "auto" for the form that the
                model was trained and measured in.

        Raises:
            InputError: It is none of the three.

        Example:
            >>> from samlet.registry import resolve
            >>> [resolve("mobile_sam").shaped(shape).pad for shape in ("auto", "padded", "fit")]
            ['square', 'square', 64]
        """
        if shape not in SHAPES:
            raise InputError(f"expected a shape ({', '.join(SHAPES)}), got {shape!r:.40}; choose one of them")
        if shape == "auto" or (shape == "fit" and self.pad != "square"):
            return self
        return replace(self, pad="square" if shape == "padded" else _FITS_EVERY_NETWORK)

    def with_files(self, *files: CardFile) -> "Card":
        """Give the same card with other files, for instance the file that carried it."""
        return replace(self, files=tuple(files))

    def resized(self, side: int) -> "Card":
        """Give a card whose pictures have another longest side in the network; its digest differs too.

        Raises:
            InputError: The side is not a multiple of what the network's strides need.
        """
        step = self.pad if isinstance(self.pad, int) else self.stride
        if side < step or side > 8192 or side % step:
            raise InputError(
                f"expected --size as a multiple of {step} up to 8192, got {side}; {self.side} is the default"
            )
        return replace(self, side=side, mask_grid=4 * side // self.stride)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], *, origin: str) -> "Card":
        """Read a card strictly: no key may be unknown, every value is checked; few keys may be left out.

        Left out, "aliases", "notes", "settings" and "quality" are empty, "pad" is "square", and the embedding
        is SAM's: 256 channels, a 256 x 256 grid of logits, no zoom.

        Args:
            fields: What TOML or JSON gave.
            origin: Where the fields came from, for messages.

        Raises:
            CheckpointError: A key is missing, unknown or has a value that no model can have.
        """
        read = _Reader({**_DEFAULTS, **fields}, origin, _KEYS)
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
        pad = read.value("pad")
        if pad != "square" and (type(pad) is not int or not stride <= pad <= side or pad % stride):
            raise read.error("pad", f"'square' or a multiple of the stride ({stride}) up to side ({side})")
        std = read.triple("std")
        if min(std) <= 0:
            raise read.error("std", "three numbers above 0")
        quality, settings = read.table("quality"), read.table("settings")
        if not all(_is_number(value) for value in quality.values()):
            raise read.error("quality", "a table of numbers")
        if not all(isinstance(value, str | bool) or _is_number(value) for value in settings.values()):
            raise read.error("settings", "a table of numbers, texts and switches")
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
            zoom_clicks=read.integer("zoom_clicks", 0, 100),
            quality={key: float(value) for key, value in quality.items()},
            settings=dict(settings),
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
        except (ValueError, RecursionError) as error:  # no TOML, a number of thousands of digits, or too deep
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
            found += [f"has unknown {', '.join(map(_plain, unknown[:5]))}"] if unknown else []
            raise CheckpointError(
                f"expected the keys of a model card in {origin}, but it {' and '.join(found)}; "
                "correct the card"
            )

    def value(self, key: str) -> Any:
        return self._fields[key]

    def error(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"expected {expected} for '{key}' in the card {self._origin}, got {_shown(self._fields[key])}; "
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


def _plain(key: object) -> str:
    """Give a key as it is, or quoted and cut if it is none of a sane file."""
    return str(key) if re.fullmatch(r"[\w.-]{1,40}", str(key)) else repr(key)[:40]


def _shown(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # TOML's 0x may be longer than Python is willing to write out
        return "a whole number of thousands of digits"


def _is_number(value: object) -> bool:
    # Compared, since math.isfinite refuses whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _read_graphs(read: _Reader) -> dict[str, str]:
    """Check that the graphs are plain names of files in the package: an outsider's card may hold any text."""
    graphs = read.table("graphs")
    named = all(isinstance(name, str) and _GRAPH_NAME.fullmatch(name) for name in graphs.values())
    if not graphs or not named or not all(_ROLE.fullmatch(role) for role in graphs):
        raise read.error("graphs", "a table of roles, each with the plain name of an .onnx file")
    return dict(graphs)


def _read_file(entry: object, origin: str) -> CardFile:
    if not isinstance(entry, dict):
        raise CheckpointError(
            f"expected tables under 'files' in the card {origin}, got {_shown(entry)}; correct the card"
        )
    address = "url" if "url" in entry else "path"
    optional: dict[str, Any] = {"repo": "", "git_sha1": ""}
    read = _Reader({**optional, **entry}, origin, frozenset(("role", address, "sha256", "size", *optional)))
    where = read.text(address)
    if read.text("role") not in _FILE_ROLES:
        raise read.error("role", f"one of {', '.join(_FILE_ROLES)}")
    if address == "url" and not where.startswith("https://"):
        raise read.error("url", "an https:// address")
    # A file inside the package or beside a trained model always has its digest; only others' may lack one.
    unpublished = address == "url" and read.text("sha256") == ""
    if not unpublished and not _SHA256.fullmatch(read.text("sha256")):
        raise read.error("sha256", "64 lower-case hexadecimal digits")
    if read.text("git_sha1") and not _SHA1.fullmatch(read.text("git_sha1")):
        raise read.error("git_sha1", "40 lower-case hexadecimal digits")
    if read.text("repo") and not _REPO.fullmatch(read.text("repo")):
        raise read.error("repo", "a repository as 'owner/name'")
    return CardFile(
        role=entry["role"],
        path=where if address == "path" else None,
        url=where if address == "url" else None,
        sha256=entry["sha256"],
        size=read.integer("size", 0 if address == "url" else 1, 2**40),
        repo=read.text("repo"),
        git_sha1=read.text("git_sha1"),
    )


def _file_to_dict(file: CardFile) -> dict[str, Any]:
    """Give a file's entry in the layout `_read_file` reads; what is unknown is left out."""
    by_url = file.path is None and file.url is not None
    known = {key: value for key, value in (("repo", file.repo), ("git_sha1", file.git_sha1)) if value}
    return {
        "role": file.role,
        **({"url": file.url} if by_url else {"path": file.path or ""}),
        "sha256": file.sha256,
        "size": file.size,
        **known,
    }
