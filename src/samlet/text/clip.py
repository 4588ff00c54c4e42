"""CLIP on ONNX Runtime: which files it takes, where they lie, and what to do if they are not there."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from samlet import store
from samlet.card import CardFile
from samlet.errors import InputError, MissingExtraError, ModelError
from samlet.text import tokens
from samlet.text.pictures import prepare
from samlet.text.scoring import CosineScorer
from samlet.text.tokens import MAX_TOKENS, Tokens
from samlet.text.towers import Tower

CLIP_REPOSITORY = "Xenova/clip-vit-base-patch32"
"""Where OpenAI's CLIP ViT-B/32 is published as ONNX files; other exports of the same layout do as well."""

_SIDE = 224
_AT_A_TIME = 16


def _file(role: str, path: str) -> CardFile:
    url = f"https://huggingface.co/{CLIP_REPOSITORY}/resolve/main/{path}"
    # Nobody has published digests of these files that could be compared: so samlet does not download them.
    return CardFile(role=role, path=None, url=url, sha256="", size=0, repo=CLIP_REPOSITORY)


CLIP_FILES: tuple[CardFile, CardFile, CardFile] = (
    _file("image", "onnx/vision_model.onnx"),
    _file("text", "onnx/text_model.onnx"),
    _file("tokenizer", "tokenizer.json"),
)
"""Image tower, text tower and tokenizer of the CLIP that `load_clip` takes if no paths are given."""


def load_clip(
    image: str | Path | None = None,
    text: str | Path | None = None,
    tokenizer: str | Path | None = None,
    *,
    threads: int | None = None,
) -> CosineScorer:
    """Load a CLIP as a scorer for `samlet.regions.by_text`, without torch.

    Args:
        image: ONNX file that makes "image_embeds" (N, D) of "pixel_values" (N, 3, side, side).
        text: ONNX file that makes "text_embeds" (N, D) of "input_ids" (N, K), if it wants one with an
            "attention_mask".
        tokenizer: The tokenizer.json beside them. Without any of the three, the files of `CLIP_FILES` are taken
            from where samlet keeps what was put there by hand.
        threads: Threads for one run; None lets the runtime decide.

    Returns:
        The scorer.

    Raises:
        InputError: Only some of the three were given.
        MissingExtraError: The package `tokenizers` is not installed.
        ModelError: A file is missing, damaged, refers to other files, or is another kind of network.
        BackendError: ONNX Runtime refuses a file.
    """
    given = (image, text, tokenizer)
    if any(path is None for path in given) and any(path is not None for path in given):
        raise InputError(
            "expected the three files of a CLIP (image, text, tokenizer) or none of them, got only some; "
            "give files that belong together"
        )
    words = _read(tokenizer, CLIP_FILES[2])
    tokens.package()  # before half a gigabyte is read
    # One file after the other: the bytes of the first are gone when the second is read.
    seeing, reading = (
        Tower(*_read(path, file), threads=threads) for path, file in zip(given, CLIP_FILES[:2], strict=False)
    )
    return CosineScorer(_picture_half(seeing), _text_half(reading, *words))


def clip_from_open_clip(model: Any, preprocess: Any, tokenizer: Any) -> CosineScorer:
    """Make a scorer of a model that was loaded with the package `open_clip`.

    Loading is the caller's: samlet neither imports `open_clip` nor fetches anything for it.

    Args:
        model: What `open_clip.create_model_and_transforms` gives first, in evaluation mode.
        preprocess: What it gives last, for evaluation.
        tokenizer: What `open_clip.get_tokenizer` gives.

    Returns:
        The scorer.

    Example:
        >>> import open_clip  # doctest: +SKIP
        >>> model, _, look = open_clip.create_model_and_transforms("ViT-B-32", "clip.safetensors")  # doctest: +SKIP
        >>> scorer = clip_from_open_clip(model.eval(), look, open_clip.get_tokenizer("ViT-B-32"))  # doctest: +SKIP
    """

    def vector(found: Any) -> NDArray[np.float32]:
        return np.asarray(found.detach().float().cpu().numpy()[0], np.float32)

    def pictures(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        # One at a time: stacking them would need torch itself.
        seen = (preprocess(PILImage.fromarray(crop))[None] for crop in crops)
        return np.stack([vector(model.encode_image(picture)) for picture in seen])

    return CosineScorer(pictures, lambda text: vector(model.encode_text(tokenizer([text]))))


def default_scorer(instead: str = "scorer=rate with a function rate(crops, text)") -> CosineScorer:
    """Give the CLIP that was put on this computer, or say in one sentence how to get one.

    Args:
        instead: What else the caller could pass, for the sentence.

    Returns:
        The scorer of `load_clip`; the same one each time.

    Raises:
        MissingExtraError: There is no CLIP here, or no package to read texts for it.
        ModelError: A file is damaged.
    """
    lacking = [file.file_name for file in CLIP_FILES if not _is_here(file)]
    if lacking or not tokens.is_installed():
        steps = []
        if lacking:
            steps.append(
                f"put {', '.join(lacking)} of https://huggingface.co/{CLIP_REPOSITORY} into "
                f"{store.cache_folder() / 'by_hand'}"
            )
        if not tokens.is_installed():
            steps.append("pip install 'samlet[text]'")
        raise MissingExtraError(
            "expected something that reads texts, got none, for samlet ships no text model; "
            f"{' and '.join(steps)}, or pass {instead} that gives a number for each crop"
        )
    return _loaded(tuple(str(store.locate(file)) for file in CLIP_FILES))


@lru_cache(maxsize=1)
def _loaded(paths: tuple[str, ...]) -> CosineScorer:
    """Load once for all that ask: the files have 600 MB."""
    return load_clip()


def _is_here(file: CardFile) -> bool:
    try:
        return store.locate(file).is_file()
    except ModelError:
        return False


def _read(path: str | Path | None, file: CardFile) -> tuple[bytes, str]:
    """Read a file: its content, and its name for messages."""
    if path is None:
        return store.read_verified(file), file.file_name
    return store.describe(Path(path))[1], Path(path).name


def _picture_half(tower: Tower) -> Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]:
    name = tower.only(4, usual="pixel_values")
    side = tower.shapes[name][2] or _SIDE

    def embed(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        starts = range(0, len(crops), _AT_A_TIME)
        return np.concatenate(
            [tower.run({name: prepare(crops[start : start + _AT_A_TIME], side)}) for start in starts]
        )

    return embed


def _text_half(tower: Tower, description: bytes, origin: str) -> Callable[[str], NDArray[np.float32]]:
    name = tower.only(2, usual="input_ids")
    length = tower.shapes[name][1]
    reader = Tokens(description, origin=origin, length=length or MAX_TOKENS)

    def embed(text: str) -> NDArray[np.float32]:
        ids = reader(text)
        # CLIP looks back only, and reads its answer where the text ends: what follows does not count.
        rest = (0, (length or len(ids)) - len(ids))
        feeds = {name: np.pad(ids, rest, constant_values=int(ids[-1]))[None]}
        if "attention_mask" in tower.shapes:
            feeds["attention_mask"] = np.pad(np.ones_like(ids), rest)[None]
        return np.asarray(tower.run(feeds)[0], np.float32)

    return embed
