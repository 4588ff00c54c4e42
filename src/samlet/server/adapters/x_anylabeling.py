"""X-AnyLabeling's remote server: `POST /v1/predict`; `GET /v1/models` is samlet's own, with the fields it reads.

The tool sends the whole picture with every click; it is embedded once and found again by its bytes.
"""

import math
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from samlet.errors import InputError
from samlet.masks import Masks
from samlet.polygons import Polygon, mask_to_polygons, simplify_rings
from samlet.server import answers, schema
from samlet.server.adapters.forms import Mark, XParams, XRequest
from samlet.server.answers import Kitchen, to_json
from samlet.server.bodies import parsed, picture_of_text, received
from samlet.server.openapi import json_body, refuses
from samlet.server.routes import worked

router = APIRouter()
LABEL = "AUTOLABEL_OBJECT"
"""What X-AnyLabeling calls an object whose name the person has yet to say."""

_SPECK = 0.01  # parts below this share of the mask are left out: a person would have to delete each
_DEFAULT_IOU = 0.8


@router.post(
    "/v1/predict",
    tags=["labelling tools"],
    openapi_extra=json_body(XRequest),
    responses=refuses(400, 404, 408, 413, 415, 422, 429, 501, 503),
)
async def predict(request: Request) -> Response:
    """Answer X-AnyLabeling: marks become one object, words what they name, and neither finds everything."""
    state = request.app.state
    async with received(request, state.limits.max_body_bytes) as body:

        def work() -> bytes:
            return to_json({"success": True, "data": answered(state.kitchen, parsed(XRequest, body))})

        return Response(await worked(request, work, kind="x_anylabeling"), media_type="application/json")


def answered(kitchen: Kitchen, asked: XRequest) -> dict[str, Any]:
    """Give shapes for what was asked.

    Args:
        kitchen: What there is.
        asked: The request.

    Returns:
        X-AnyLabeling's data: shapes, a description, and for marks that they do not replace what is drawn.

    Raises:
        SamletError: The picture, the marks or the model cannot be used.
    """
    picture = picture_of_text(asked.image, kitchen.limits)
    _, kept = answers.kept_for(kitchen, picture, asked.model)
    params = asked.params
    if params.marks:
        masks = answers.answered(
            kitchen.of(kept), kept.embedding, _prompt(params.marks), limits=kitchen.limits
        )
        return {"shapes": shapes(masks, params, [LABEL] * len(masks)), "description": "", "replace": False}
    if params.text_prompt:
        answers.check_reads(kitchen)
        texts = [text.strip() for text in params.text_prompt.replace(".", ",").split(",") if text.strip()]
        found = answers.named(kitchen, kept, schema.Text(find=texts or params.text_prompt, at_most=64))
        return {
            "shapes": shapes(found, params, [str(text) for text in found.facts["text"]]),
            "description": "",
        }
    wanted = schema.Everything(at_most=64)
    everything = answers.found(
        kitchen, kept, wanted, mask_iou=params.iou_threshold or _DEFAULT_IOU, progress=None
    )
    everything = everything[everything.scores >= params.conf_threshold]
    return {"shapes": shapes(everything, params, [LABEL] * len(everything)), "description": ""}


def shapes(masks: Masks, params: XParams, labels: list[str]) -> list[dict[str, Any]]:
    """Describe masks as X-AnyLabeling's polygons, one for each part, the parts of a mask in one group."""
    found: list[dict[str, Any]] = []
    for number, (mask, score, label) in enumerate(
        zip(masks.iter_masks(), masks.scores.reshape(-1).tolist(), labels, strict=True), start=1
    ):
        area = int(np.count_nonzero(mask))
        parts = [part for part in mask_to_polygons(mask) if _area(part.exterior) >= _SPECK * area]
        found += [
            {
                "label": label,
                "shape_type": "polygon",
                "points": _ring(part, params.epsilon_factor),
                "score": round(score, 6) if math.isfinite(score) else None,
                "attributes": {},
                "description": None,
                "difficult": False,
                "direction": 0,
                "flags": None,
                "group_id": number if len(parts) > 1 else None,
                "kie_linking": [],
            }
            for part in parts
        ]
    return found


def _prompt(marks: list[Mark]) -> schema.Prompt:
    points = [mark for mark in marks if mark.type == "point"]
    boxes = [mark for mark in marks if mark.type == "rectangle"]
    if any(len(mark.data) != 2 for mark in points) or any(len(mark.data) != 4 for mark in boxes):
        raise InputError(
            "expected marks with 2 numbers for a point and 4 for a rectangle, got another; send them as "
            "X-AnyLabeling does"
        )
    box = None
    if boxes:  # the last one that is drawn counts, in whichever direction it was drawn
        x0, y0, x1, y1 = boxes[-1].data
        box = [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]
    return schema.Prompt(
        points=[mark.data for mark in points] or None,
        labels=[0 if mark.label == 0 else 1 for mark in points] or None,
        boxes=box,
    )


def _ring(part: Polygon, share: float) -> list[list[float]]:
    """Simplify an outline by a share of its length, and close it as X-AnyLabeling's own server does."""
    ring = part.exterior
    length = float(np.hypot(*(np.roll(ring, -1, axis=0) - ring).T).sum())
    simple = simplify_rings([ring], share * length)[0] if share else ring
    points: list[list[float]] = (simple if len(simple) >= 3 else ring).tolist()
    return [*points, points[0]]


def _area(ring: Any) -> float:
    x, y = np.asarray(ring).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
