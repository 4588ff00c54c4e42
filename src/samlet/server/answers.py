"""What the workers do: pictures to embeddings, prompts to masks, masks to JSON. No HTTP here, and no waiting."""

import base64
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samlet.codecs import mask_to_png_bytes, mask_to_polygons
from samlet.embedding import Embedding
from samlet.errors import InputError, LimitError, UnknownModelError
from samlet.image import Image
from samlet.limits import ServerLimits
from samlet.masks import Masks, StoredMasks
from samlet.model import Model
from samlet.prompt import Prompt
from samlet.rle import Rle, mask_to_rle, rle_area, rle_to_bbox, rle_to_string
from samlet.server import schema
from samlet.server.cache import Cache, Kept
from samlet.server.refusals import UnknownEmbeddingError, UnsupportedError

if TYPE_CHECKING:
    from samlet.regions import Scorer
    from samlet.text import Detector


@dataclass(frozen=True)
class Kitchen:
    """All that an answer is made from; shared by all workers, holds nothing of a visitor but the cache.

    Attributes:
        models: Loaded models by the name that requests use; the first is the default.
        cache: Embeddings at work.
        limits: Bounds.
        scorer: Rates regions by text, if the server was started with one.
        detector: Finds boxes by text, if the server was started with one.
    """

    models: Mapping[str, Model]
    cache: Cache
    limits: ServerLimits
    scorer: "Scorer | None" = None
    detector: "Detector | None" = None

    @property
    def default(self) -> str:
        """Name of the model for requests that name none."""
        return next(iter(self.models))

    @property
    def reads(self) -> bool:
        """Whether there is something that understands words."""
        return self.scorer is not None or self.detector is not None

    def model(self, name: str | None) -> tuple[str, Model]:
        """Find a model.

        Raises:
            UnknownModelError: The server has no such model.
        """
        wanted = name or self.default
        if wanted not in self.models:
            raise UnknownModelError(
                f"expected one of this server's models ({', '.join(self.models)}), got {wanted!r:.60}; see /v1/models"
            )
        return wanted, self.models[wanted]

    def of(self, kept: Kept) -> Model:
        """Give the model that made an embedding."""
        return self.model(kept.embedding.model)[1]


def embed(
    kitchen: Kitchen, picture: bytes, model: str | None, *, digest: str | None = None
) -> dict[str, Any]:
    """Embed a picture and keep it.

    Raises:
        ImageError: It is none, or a broken one.
        LimitError: It is too large.
        UnknownModelError: The server has no such model.
        BackendError: The runtime failed.
    """
    started = time.perf_counter()
    name, chosen = kitchen.model(model)
    view = chosen.embed(Image.load(picture, limits=kitchen.limits.picture, name="picture"))
    # Under the name that requests know, which for a file is not the card's.
    kept = Kept(replace(view, image=None, model=name), picture)
    found = kitchen.cache.put(kept, digest=digest)
    return facts(kitchen, found, kept) | {"milliseconds": milliseconds(started)}


def kept_for(kitchen: Kitchen, picture: bytes, model: str | None) -> tuple[str, Kept]:
    """Find what is kept of the same bytes, or embed them: for clients that send a picture with every click.

    Raises:
        ImageError: It is no picture, or a broken one.
        LimitError: It is too large.
        UnknownModelError: The server has no such model.
        BackendError: The runtime failed.
    """
    name, _ = kitchen.model(model)
    digest = hashlib.sha256(name.encode() + b"\0" + picture).hexdigest()
    known = kitchen.cache.find(digest)
    if known is not None:
        with suppress(UnknownEmbeddingError):
            return known, kitchen.cache.get(known)
    known = str(embed(kitchen, picture, model, digest=digest)["id"])
    return known, kitchen.cache.get(known)


def facts(kitchen: Kitchen, name: str, kept: Kept) -> dict[str, Any]:
    """Say what a kept picture is."""
    height, width = kept.embedding.frame.image_hw
    return {
        "id": name,
        "model": kept.embedding.model,
        "width": width,
        "height": height,
        "expires": kitchen.cache.ttl,
    }


def segment(kitchen: Kitchen, name: str, prompt: schema.Prompt) -> dict[str, Any]:
    """Answer a prompt on a kept picture.

    Raises:
        UnknownEmbeddingError: It is no longer kept, or the answer to refine is not.
        PromptError: The prompt makes no sense.
        LimitError: It asks for too much.
        BackendError: The runtime failed.
    """
    started = time.perf_counter()
    kept = kitchen.cache.get(name)
    hint = None if prompt.hint_from is None else kitchen.cache.hint(name, prompt.hint_from)
    masks = answered(kitchen.of(kept), kept.embedding, prompt, limits=kitchen.limits, hint=hint)
    answer = None
    if not isinstance(masks, StoredMasks) and len(masks) <= kitchen.limits.max_refinable:
        answer = kitchen.cache.keep_hint(name, np.ascontiguousarray(masks.hint, np.float32))
    described = list(describe(masks, prompt.format, prompt.tolerance))
    return {"id": answer, "masks": described, "milliseconds": milliseconds(started)}


def segment_once(
    kitchen: Kitchen, picture: bytes, model: str | None, prompt: schema.Prompt
) -> dict[str, Any]:
    """Answer a prompt on a picture that is not kept.

    Raises:
        InputError: The prompt refers to an earlier answer; else as `embed` and `segment`.
    """
    started = time.perf_counter()
    if prompt.hint_from is not None:
        raise InputError(
            "expected no hint_from for a picture that is sent once, got one; use /v1/embeddings and refine there"
        )
    chosen = kitchen.model(model)[1]
    view = chosen.embed(Image.load(picture, limits=kitchen.limits.picture, name="picture"))
    masks = answered(chosen, view, prompt, limits=kitchen.limits)
    described = list(describe(masks, prompt.format, prompt.tolerance))
    return {"id": None, "masks": described, "milliseconds": milliseconds(started)}


def everything(
    kitchen: Kitchen, name: str, wanted: schema.Everything, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Find everything in a kept picture.

    Args:
        kitchen: What there is.
        name: The picture.
        wanted: How much of it.
        progress: Told how far the work is; may raise to end it.

    Raises:
        UnknownEmbeddingError: It is no longer kept.
        InputError: The model cannot do it that way.
        BackendError: The runtime failed.
    """
    started = time.perf_counter()
    masks = found(kitchen, kitchen.cache.get(name), wanted, progress=progress)
    described = list(describe(masks, wanted.format, wanted.tolerance))
    return {"masks": described, "milliseconds": milliseconds(started)}


def found(
    kitchen: Kitchen,
    kept: Kept,
    wanted: schema.Everything,
    *,
    mask_iou: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StoredMasks:
    """Find everything in a kept picture, as masks; see `everything`."""
    from samlet.everything import Objects

    settings = Objects(at_most=wanted.at_most)
    if mask_iou is not None:
        settings = replace(settings, mask_iou=mask_iou)
    view = kept.whole(kitchen.limits.picture)
    masks = kitchen.of(kept).everything(view, grid=wanted.grid, objects=settings, progress=progress)
    return masks[masks.areas >= wanted.min_area][: wanted.at_most] if len(masks) else masks


def text(kitchen: Kitchen, name: str, wanted: schema.Text) -> dict[str, Any]:
    """Find what words name in a kept picture.

    Raises:
        UnsupportedError: The server was started without a model that reads.
        UnknownEmbeddingError: The picture is no longer kept.
        InputError: The texts make no sense.
        BackendError: The runtime failed.
    """
    started = time.perf_counter()
    check_reads(kitchen)
    kept = kitchen.cache.get(name)
    found = named(kitchen, kept, wanted)
    described = [
        {**mask, "label": str(label)}
        for mask, label in zip(
            describe(found, wanted.format, wanted.tolerance), found.facts["text"], strict=True
        )
    ]
    return {"id": None, "masks": described, "milliseconds": milliseconds(started)}


def named(kitchen: Kitchen, kept: Kept, wanted: schema.Text) -> StoredMasks:
    """Find what words name, as masks; see `text`."""
    texts = [wanted.find] if isinstance(wanted.find, str) else wanted.find
    if len(texts) > 16 or any(len(each) > 400 for each in texts):
        raise LimitError("expected at most 16 texts of 400 characters each, got more; send fewer")
    view = kept.whole(kitchen.limits.picture)
    if kitchen.detector is not None:
        return kitchen.of(kept).text(view, texts, detector=kitchen.detector, threshold=wanted.threshold)
    return kitchen.of(kept).text(
        view, texts, scorer=kitchen.scorer, at_most=wanted.at_most or 1, threshold=wanted.threshold
    )


def check_reads(kitchen: Kitchen) -> None:
    """Refuse words where nothing understands them.

    Raises:
        UnsupportedError: The server was started without a model that reads.
    """
    if not kitchen.reads:
        raise UnsupportedError(
            "expected a prompt of points or boxes: this server was started without a model that reads; "
            "its operator may add one with --clip or --detector"
        )


def objects(kitchen: Kitchen, name: str, at_most: int) -> dict[str, Any]:
    """Give the boxes that the object head finds in a kept picture.

    Raises:
        UnknownEmbeddingError: It is no longer kept.
        InputError: The model has no object head.
        BackendError: The runtime failed.
    """
    started = time.perf_counter()
    kept = kitchen.cache.get(name)
    boxes, scores = kitchen.of(kept).session.objects(kept.embedding, at_most=at_most)
    return {
        "boxes": np.round(boxes, 2).tolist(),
        "scores": np.round(scores.astype(np.float64), 4).tolist(),
        "milliseconds": milliseconds(started),
    }


def array(kitchen: Kitchen, name: str) -> tuple[bytes, dict[str, str]]:
    """Give an embedding's array as bytes, with its shape and frame as headers.

    Raises:
        UnknownEmbeddingError: It is no longer kept.
        InputError: The model has no such array (FastSAM).
    """
    kept = kitchen.cache.get(name)
    found = kept.embedding.arrays.get("image_embeddings")
    if found is None:
        raise InputError(
            f"expected a model with image_embeddings, got {kept.embedding.model}; ask for masks instead"
        )
    frame = kept.embedding.frame
    told = {
        "image_hw": frame.image_hw,
        "scaled_hw": frame.scaled_hw,
        "canvas_hw": frame.canvas_hw,
        "side": kitchen.of(kept).card.side,
    }
    headers = {"X-Shape": ",".join(map(str, found.shape)), "X-Frame": json.dumps(told)}
    return np.ascontiguousarray(found, "<f4").tobytes(), headers


def answered(
    model: Model,
    embedding: Embedding,
    wanted: schema.Prompt,
    *,
    limits: ServerLimits,
    hint: NDArray[np.float32] | None = None,
) -> Masks:
    """Answer a prompt, after its answer was bounded.

    Raises:
        PromptError: The prompt makes no sense.
        LimitError: The masks would be too many for the size of the picture.
        BackendError: The runtime failed.
    """
    frame = embedding.frame
    prompt = Prompt.make(
        image_hw=frame.image_hw,
        points=wanted.points,
        labels=wanted.labels,
        boxes=wanted.boxes,
        hint=hint,
        limits=limits.picture,
    )
    count = len(prompt) * (3 if wanted.multimask else 1)
    pixels = count * frame.image_hw[0] * frame.image_hw[1]
    if pixels > limits.max_mask_pixels:
        raise LimitError(
            f"expected masks of at most {limits.max_mask_pixels:,} pixels in all, got {count:,} prompts on a picture "
            f"of {frame.image_hw[1]} x {frame.image_hw[0]}; ask for fewer at a time"
        )
    return model.session.segment(embedding, prompt, multimask=wanted.multimask)


def describe(masks: Masks, form: schema.Format, tolerance: float) -> Iterator[dict[str, Any]]:
    """Describe masks for JSON; each is made at full size once, and only one at a time.

    Args:
        masks: N masks, or N times three candidates.
        form: What each is given as.
        tolerance: Simplification of polygons, in pixels.

    Yields:
        One description for each mask, candidates after each other.
    """
    scores = masks.scores.reshape(-1).tolist()
    if isinstance(masks, StoredMasks):
        for rle, score in zip(masks.rles, scores, strict=True):
            mask = (
                None if form == "rle" else next(masks.of([rle], [score], masks.frame.image_hw).iter_masks())
            )
            yield _described(rle, mask, score, form, tolerance)
        return
    for mask, score in zip(masks.iter_masks(), scores, strict=True):
        yield _described(mask_to_rle(mask), mask, score, form, tolerance)


def to_json(value: Any) -> bytes:
    """Write JSON without spaces; numbers that JSON does not know are faults of ours."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def milliseconds(started: float) -> float:
    """Milliseconds since `time.perf_counter()` was `started`, with two digits."""
    return round((time.perf_counter() - started) * 1000, 2)


def _described(
    rle: Rle, mask: NDArray[np.bool_] | None, score: float, form: schema.Format, tolerance: float
) -> dict[str, Any]:
    x, y, width, height = rle_to_bbox(rle)
    described: dict[str, Any] = {
        "score": round(score, 6) if math.isfinite(score) else None,
        "box_xyxy": [x, y, x + width, y + height],
        "area": rle_area(rle),
    }
    if form == "rle" or mask is None:
        described["rle"] = {"size": rle["size"], "counts": rle_to_string(rle)}
    elif form == "polygons":
        described["polygons"] = [
            {"exterior": part.exterior.tolist(), "holes": [hole.tolist() for hole in part.holes]}
            for part in mask_to_polygons(mask, tolerance=tolerance)
        ]
    else:
        described["png"] = base64.b64encode(mask_to_png_bytes(mask)).decode("ascii")
    return described
