"""osam's HTTP interface, `POST /api/generate`: the engine behind labelme's AI polygons."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from samlet.errors import PromptError
from samlet.masks import Masks
from samlet.server import answers, schema
from samlet.server.adapters.forms import OsamPrompt, OsamRequest
from samlet.server.answers import Kitchen, to_json
from samlet.server.bodies import parsed, picture_of_text, received
from samlet.server.cache import Kept
from samlet.server.openapi import json_body, refuses
from samlet.server.routes import worked

router = APIRouter()
_TOP_LEFT, _BOTTOM_RIGHT = 2, 3
_THEIRS = ("efficientsam", "sam", "sam2", "sam3", "yoloworld")
"""osam's own models: clients name one of them whether or not it is here, so the default model answers, and says so."""


@router.post(
    "/api/generate",
    tags=["labelling tools"],
    openapi_extra=json_body(OsamRequest),
    responses=refuses(400, 404, 408, 413, 415, 422, 429, 501, 503),
)
async def generate(request: Request) -> Response:
    """Answer a client of osam."""
    state = request.app.state
    async with received(request, state.limits.max_body_bytes) as body:

        def work() -> bytes:
            return to_json(answered(state.kitchen, parsed(OsamRequest, body)))

        return Response(await worked(request, work, kind="osam"), media_type="application/json")


def answered(kitchen: Kitchen, asked: OsamRequest) -> dict[str, Any]:
    """Give annotations for what was asked.

    Args:
        kitchen: What there is.
        asked: The request; without a prompt, the middle of the picture is clicked on, as osam does.

    Returns:
        osam's response: the model that answered, annotations with full-size masks as base64 PNG, and the first
        mask by itself for older clients.

    Raises:
        SamletError: The picture, the prompt or the model cannot be used.
    """
    picture = picture_of_text(asked.image, kitchen.limits)
    _, kept = answers.kept_for(kitchen, picture, _model(kitchen, asked.model))
    prompt = asked.prompt or OsamPrompt()
    labels: list[str | None]
    masks: Masks
    if prompt.texts and not prompt.points:
        answers.check_reads(kitchen)
        found = answers.named(kitchen, kept, schema.Text(find=prompt.texts, at_most=prompt.max_annotations))
        masks, labels = found, [str(text) for text in found.facts["text"]]
    else:
        masks = answers.answered(
            kitchen.of(kept), kept.embedding, _prompt(prompt, kept), limits=kitchen.limits
        )
        labels = [None] * len(masks)
    annotations = [
        {"bounding_box": _box(mask["box_xyxy"]), "text": label, "score": mask["score"], "mask": mask["png"]}
        for mask, label in zip(answers.describe(masks, "png", 0.0), labels, strict=True)
    ]
    return {
        "model": kept.embedding.model,
        "image_embedding": None,
        "annotations": annotations,
        "mask": annotations[0]["mask"] if annotations else None,
    }


def _model(kitchen: Kitchen, name: str) -> str | None:
    family = name.partition(":")[0].lower()
    return family if family in kitchen.models else None if family in _THEIRS else name


def _prompt(prompt: OsamPrompt, kept: Kept) -> schema.Prompt:
    height, width = kept.embedding.frame.image_hw
    points = prompt.points or [[width / 2, height / 2]]
    labels = prompt.point_labels or [1] * len(points)
    if len(labels) != len(points):
        raise PromptError(
            f"expected one label a point, got {len(labels)} for {len(points)} points; send as many as points"
        )
    corners: dict[int, list[float]] = {
        label: point for point, label in zip(points, labels, strict=True) if label in (2, 3)
    }
    clicks = [(point, label) for point, label in zip(points, labels, strict=True) if label in (0, 1)]
    if len(corners) == 1:
        raise PromptError("expected both corners of a box, labels 2 and 3, got one; send the other")
    box = [*corners[_TOP_LEFT], *corners[_BOTTOM_RIGHT]] if corners else None
    return schema.Prompt(
        points=[point for point, _ in clicks] or None,
        labels=[1 if label else 0 for _, label in clicks] or None,
        boxes=box,
    )


def _box(xyxy: list[int]) -> dict[str, int]:
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), xyxy, strict=True))
