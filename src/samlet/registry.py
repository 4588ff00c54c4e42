"""Which models exist: the cards in the package, their aliases, and files of people's own."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from samlet import store
from samlet.card import Card, CardFile
from samlet.errors import CheckpointError, ModelError, OutputError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from samlet.backends.base import GraphFile
    from samlet.checkpoint import Checkpoint

CARD_KEY = "samlet.card"
"""Metadata key under which a trained safetensors file carries its card (`Card.to_json`)."""

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth")
_RECOGNITION = (
    1  # counts up when the same file is to be recognised as something else, or is remembered otherwise
)
_PARTS = {
    "encoder": ("image_encoder.", "encoder."),
    "decoder": ("prompt_encoder.", "mask_decoder."),
    "network": ("model.",),
}


class _Recognised(NamedTuple):
    """What a weights file is: that of a card it carries, or of a network known by its weights."""

    card: str | None
    architecture: str | None
    decoder: bool
    reg_max: int | None


@cache
def cards() -> "Mapping[str, Card]":
    """Give the cards of the package by name, in alphabetical order.

    Raises:
        CheckpointError: A card in the package is broken.

    Example:
        >>> "nano" in cards()
        True
    """
    found: dict[str, Card] = {}
    folder = package_files("samlet") / "cards"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            card = Card.from_toml(entry.read_text("utf-8"), origin=entry.name)
            found[card.name] = card
    return MappingProxyType(found)


def resolve(name_or_path: str | Path, *, decoder: str | Path | None = None) -> Card:
    """Find the card for a model's name, an alias, or a file.

    A file may be a `.toml` card with its weights beside it, a `.safetensors` file trained with samlet, which
    carries its card, or an official checkpoint (.pt, .pth or .safetensors), which is recognised by its content.
    A file that is there goes before a model of the same name, so that "mobile_sam.pt" in the working folder is
    that file and otherwise the official one. "hf://owner/name/file" is fetched with huggingface_hub (the extra
    "hub"), which knows private repositories.

    Args:
        name_or_path: What the user calls the model.
        decoder: A file with SAM's prompt encoder and mask decoder, for an encoder that came without.

    Raises:
        UnknownModelError: There is no such model; the message lists those that exist.
        ModelError: The path cannot be read.
        CheckpointError: The file is no checkpoint, or of a network that samlet does not know.

    Example:
        >>> resolve("nano").family
        'sam'
    """
    wanted = str(name_or_path).strip()
    if wanted.startswith("hf://"):
        wanted = str(store.fetch_from_hub(*store.parse_reference(wanted)))
    suffix = Path(wanted).suffix.lower()
    by_name = {alias: card for card in cards().values() for alias in (*card.aliases, card.name)}
    known = by_name.get(wanted.lower()) if not isinstance(name_or_path, Path) else None
    if suffix == ".toml":
        return _from_card_file(Path(wanted))
    if suffix in WEIGHT_SUFFIXES and (known is None or Path(wanted).exists()):
        _check_there(Path(wanted), by_name)
        return _from_weights(Path(wanted), decoder=None if decoder is None else Path(decoder))
    if known is not None:
        return known
    if isinstance(name_or_path, Path):
        raise UnknownModelError(
            f"expected a model file ending in .safetensors, .pt, .pth or .toml, got {wanted!r:.200}; "
            "give one of those, or the name of a model"
        )
    close = get_close_matches(wanted.lower(), by_name, n=1)
    advice = (
        f"did you mean {close[0]}?"
        if close
        else "`samlet models` lists them, or give the path of a weights file"
    )
    raise UnknownModelError(
        f"expected the name of a model, such as nano or mobile_sam, got {name_or_path!r:.80}; {advice}"
    )


def read_weights(card: Card, graphs: "Sequence[GraphFile]") -> "dict[str, NDArray[Any]]":
    """Read all weights of a model, by official name, and check that they are those of its graphs.

    Args:
        card: The model; files that are not on this computer are downloaded.
        graphs: Its graphs; together they say which weights the files must hold.

    Raises:
        ModelError: A file is missing and cannot be had.
        ChecksumError: A file is not the one the card names.
        CheckpointError: A file is broken, or its weights are not those of the graphs.
    """
    from samlet import checkpoint

    weights: dict[str, NDArray[Any]] = {}
    for file in card.files:
        arrays = _part(file, _arrays(store.read_verified(file), origin=_origin(file)))
        twice = sorted(arrays.keys() & weights.keys())
        if twice:
            raise CheckpointError(
                f"expected each weight once in the files of {card.name}, but {twice[0]} comes twice; "
                "correct the card"
            )
        weights.update(arrays)
    expected = {name: shape for graph in graphs for name, shape in graph.checkpoint.items()}
    needed = {name for graph in graphs for name in graph.checkpoint.keys() - graph.unused}
    unused = frozenset(expected.keys() - needed)  # what one half of a decoder leaves to the other is needed
    checkpoint.check_keys(weights, expected, optional=unused, origin=", ".join(map(_origin, card.files)))
    return weights


def _arrays(data: bytes, *, origin: str) -> "dict[str, NDArray[Any]]":
    from samlet import checkpoint

    return checkpoint.canonical(checkpoint.parse(data, origin=origin), origin=origin)


def _part(file: CardFile, arrays: "dict[str, NDArray[Any]]") -> "dict[str, NDArray[Any]]":
    """Take what a file is for: people give a whole SAM where only its decoder is wanted."""
    prefixes = _PARTS.get(file.role)
    if prefixes is None:
        return arrays
    found = {name: array for name, array in arrays.items() if name.startswith(prefixes)}
    if not found:
        raise CheckpointError(
            f"expected the {file.role} of a model in {_origin(file)}, but it holds none of its weights; "
            "give the file that does"
        )
    return found


def _origin(file: CardFile) -> str:
    return file.path or file.file_name


def _check_there(path: Path, by_name: "Mapping[str, Card]") -> None:
    """Say what to do about a weights file that is not there; "weights/mobile_sam.pt" is in everybody's examples."""
    if path.exists():
        return
    known = by_name.get(path.name.lower())
    if known is None:
        advice = "correct the path, or give the name of a model (`samlet models` lists them)"
    else:
        sources = " and ".join(f"{file.url} ({file.size:,} bytes)" for file in known.files if file.url)
        advice = (
            f"put it there from {sources}, or say {path.name} without a folder and it is downloaded "
            "at the first use"
        )
    raise ModelError(f"expected a model file at {str(path)!r:.200}, found none; {advice}")


def _from_card_file(path: Path) -> Card:
    """Read a card of the user's own; its files lie beside it unless their paths are absolute."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"expected a model card at {path}, but it cannot be read ({error}); correct the path"
        ) from None
    card = Card.from_toml(text, origin=str(path))
    beside = path.resolve().parent
    return card.with_files(
        *(file if file.path is None else replace(file, path=str(beside / file.path)) for file in card.files)
    )


def _from_weights(path: Path, *, decoder: Path | None) -> Card:
    """Find the card of a weights file; its digest is that of the file as it lies there now."""
    file = store.name_by_content(path)
    found = _recognise(file, path)
    if found.card is not None:
        return Card.from_json(found.card, origin=str(path)).with_files(file)
    base = _base_card(found, path)
    official = file.sha256 in {published.sha256 for published in base.files}
    if "decoder" in base.graphs and decoder is None and not found.decoder:
        raise CheckpointError(
            f"expected an encoder and a mask decoder in {path}, found the encoder alone "
            f"({found.architecture}); give the file with the decoder too: load(..., decoder=PATH) or --decoder PATH"
        )
    files = [file]
    if decoder is not None:
        files = [replace(file, role="encoder"), replace(store.name_by_content(decoder), role="decoder")]
    if official and decoder is None:
        return base.with_files(file)
    return replace(
        base.with_files(*files),
        name=re.sub(r"[^a-z0-9_.-]", "-", path.stem.lower()).lstrip("_.-")[:64] or "mine",
        aliases=(),
        title=f"{path.name}: the network of {base.name} with weights of its own",
        weights_licence="That of the file you gave",
        quality={},
        notes="Nobody measured it: samlet evaluate does.",
    )


def _recognise(file: CardFile, path: Path) -> _Recognised:
    """Say what a file is; read once for each content, and remembered in the cache by the content's digest."""

    def read() -> bytes:
        from samlet import checkpoint

        parsed: Checkpoint = checkpoint.parse(store.read_verified(file), origin=str(path))
        text = parsed.metadata.get(CARD_KEY)
        if text is not None:
            return json.dumps([text, None, False, None]).encode()
        found = checkpoint.identify(checkpoint.canonical(parsed, origin=str(path)))
        if found.architecture is None:
            what = "a mask decoder alone" if found.decoder else "none that samlet knows"
            raise CheckpointError(
                f"expected the weights of a network in {path}, found {what}; "
                "give a file of a model that `samlet models` lists, or one with a card of its own"
            )
        return json.dumps([None, *found]).encode()

    digest = hashlib.sha256(json.dumps(["recognised", _RECOGNITION, file.sha256]).encode()).hexdigest()
    try:
        content = store.keep(digest, "recognised.json", read).read_bytes()
    except (
        OutputError,
        OSError,
    ):  # a cache that cannot be written or is cleared just now is no reason to fail
        content = read()
    return _Recognised(*json.loads(content))


def _base_card(found: _Recognised, path: Path) -> Card:
    """Find the card whose network a file holds, to take its preprocessing over."""
    stem = f"{found.architecture}_encoder"
    if found.reg_max is not None:
        stem = f"{found.architecture}_rm{found.reg_max}"
    graph = f"{stem}.onnx"
    for card in cards().values():
        if graph in card.graphs.values() and all(file.role in ("weights", "network") for file in card.files):
            return card
    if stem.startswith("tiny_vit"):  # sizes that nobody published, but samlet trains
        base = cards()["mobile_sam"]
        return replace(base, graphs={**base.graphs, "encoder": graph})
    raise CheckpointError(
        f"expected a network that samlet has a graph for in {path}, found {stem}; "
        "export one with python -m samlet.export.graphs and write a card for it"
    )
