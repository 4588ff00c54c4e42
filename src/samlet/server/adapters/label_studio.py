"""Label Studio's machine learning backend: /setup, /predict, /webhook, and /health, which is samlet's own.

What a person clicks with a smart tool comes in percent of the picture and goes back as a brush and as polygons.
"""

import asyncio
import math
import secrets
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from samlet import __version__
from samlet.errors import InputError
from samlet.polygons import mask_to_polygons
from samlet.server import answers, schema
from samlet.server.adapters.brush import mask_to_brush
from samlet.server.adapters.forms import StudioEvent, StudioRegion, StudioRequest, StudioSetup
from samlet.server.adapters.studio_config import Controls, read_controls
from samlet.server.adapters.studio_files import Downloads
from samlet.server.answers import Kitchen, to_json
from samlet.server.bodies import parsed, picture_of_text, received
from samlet.server.openapi import json_body, refuses
from samlet.server.routes import worked

__all__ = ["Downloads", "router"]

router = APIRouter()
_TOLERANCE = 1.0  # pixels
_SPECK = 0.01  # polygons below this share of the mask are left out
_FORMS = refuses(400, 404, 408, 413, 415, 422, 429, 501, 503)
_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")


@router.post("/setup", tags=["labelling tools"], openapi_extra=json_body(StudioSetup), responses=_FORMS)
async def setup(request: Request) -> dict[str, Any]:
    """Tell Label Studio which model this is. The access token that it sends along is neither kept nor used."""
    async with received(request, request.app.state.limits.max_json_bytes) as body:
        parsed(StudioSetup, body)
    return {"model_version": _version(request.app.state.kitchen)}


@router.post("/predict", tags=["labelling tools"], openapi_extra=json_body(StudioRequest), responses=_FORMS)
async def predict(request: Request) -> Response:
    """Answer what a person did with a smart tool; without that there is nothing to predict."""
    state = request.app.state
    async with received(request, state.limits.max_body_bytes) as body:
        asked = await asyncio.to_thread(parsed, StudioRequest, body)
        regions = asked.params.context.result if asked.params and asked.params.context else []
        if not regions or not asked.tasks:
            return Response(
                to_json({"results": [], "model_version": _version(state.kitchen)}),
                media_type="application/json",
            )
        controls = read_controls(asked.label_config)
        named = controls.picture_of(asked.tasks[0].data)
        # Its own threads: another server's pace must not take a worker from everybody.
        if named.startswith("data:"):
            picture = await asyncio.to_thread(picture_of_text, named, state.limits)
        else:
            picture = await state.downloads.fetch(named)

        def work() -> bytes:
            results = answered(state.kitchen, picture, regions, controls)
            return to_json({"results": [results], "model_version": _version(state.kitchen)})

        return Response(await worked(request, work, kind="label_studio"), media_type="application/json")


@router.post(
    "/webhook",
    status_code=201,
    tags=["labelling tools"],
    openapi_extra=json_body(StudioEvent),
    responses={200: {"description": "an event that nothing follows from"}, **_FORMS},
)
async def webhook(request: Request) -> Response:
    """Take note of an event: this server does not learn from annotations, and says so by doing nothing."""
    async with received(request, request.app.state.limits.max_json_bytes) as body:
        event = parsed(StudioEvent, body)
    known = event.action in _EVENTS
    status = {"status": "ok"} if known else {"status": "Unknown event"}
    return Response(to_json(status), 201 if known else 200, media_type="application/json")


def answered(
    kitchen: Kitchen, picture: bytes, regions: list[StudioRegion], controls: Controls
) -> dict[str, Any]:
    """Give one prediction for what a person clicked.

    Args:
        kitchen: What there is.
        picture: The task's picture.
        regions: Clicks and rectangles, in percent.
        controls: The project's tags.

    Returns:
        Label Studio's prediction: a brush where the project has one, polygons where it has those.

    Raises:
        SamletError: The picture or the clicks cannot be used.
    """
    _, kept = answers.kept_for(kitchen, picture, None)
    height, width = kept.embedding.frame.image_hw
    masks = answers.answered(
        kitchen.of(kept), kept.embedding, _prompt(regions, width, height), limits=kitchen.limits
    )
    label = next((name for region in reversed(regions) for name in _labels(region)), None)
    results = []
    for mask, score in zip(masks.iter_masks(), masks.scores.tolist(), strict=True):
        sure = round(score, 6) if math.isfinite(score) else 0.0
        common = {
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": sure,
            "readonly": False,
        }
        results += [{**common, **result} for result in _results(mask, label, controls, regions[-1])]
    scores = [result["score"] for result in results]
    return {
        "result": results,
        "model_version": _version(kitchen),
        "score": sum(scores) / len(scores) if scores else 0.0,
    }


def _results(
    mask: NDArray[np.bool_], label: str | None, controls: Controls, region: StudioRegion
) -> list[dict[str, Any]]:
    found = []
    to_name = controls.image or region.to_name
    brush = controls.named("brush", label)
    polygon = controls.named("polygon", label)
    if brush is not None or polygon is None:
        kind = "brushlabels" if label is not None else "brush"
        value: dict[str, Any] = {"format": "rle", "rle": mask_to_brush(mask)}
        found.append(_result(kind, brush or region.from_name, to_name, value, label))
    if polygon is not None:
        kind = "polygonlabels" if label is not None else "polygon"
        area = int(np.count_nonzero(mask))
        for part in mask_to_polygons(mask, tolerance=_TOLERANCE):
            ring = part.exterior
            if _area(ring) >= _SPECK * area:
                percent = ring / [mask.shape[1], mask.shape[0]] * 100
                value = {"points": np.round(percent, 4).tolist(), "closed": True}
                found.append(_result(kind, polygon, to_name, value, label))
    return found


def _result(
    kind: str, from_name: str, to_name: str, value: dict[str, Any], label: str | None
) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(5),
        "type": kind,
        "from_name": from_name,
        "to_name": to_name,
        "value": value if label is None else {**value, kind: [label]},
    }


def _prompt(regions: list[StudioRegion], width: int, height: int) -> schema.Prompt:
    """Turn percent into pixels; with clicks, the last rectangle goes along, without any, each is an object."""
    if any(region.image_rotation % 360 for region in regions):
        raise InputError(
            "expected a picture that is not rotated in Label Studio, got one that is; rotate it back"
        )
    points, labels, boxes = [], [], []
    for region in regions:
        value = region.value
        x, y = _pixel(value.x, width), _pixel(value.y, height)
        if region.type.startswith("keypoint"):
            points.append([x, y])
            labels.append(1 if region.is_positive else 0)
        elif region.type.startswith("rectangle"):
            boxes.append([x, y, _pixel(value.x + value.width, width), _pixel(value.y + value.height, height)])
        else:
            raise InputError(
                f"expected clicks (keypoint) and rectangles, got {region.type!r:.40}; use those smart tools"
            )
    if points:
        boxes = boxes[-1:]
    return schema.Prompt(points=points or None, labels=labels or None, boxes=boxes or None)  # type: ignore[arg-type]


def _pixel(percent: float, side: int) -> float:
    return min(max(percent * side / 100, 0.0), float(side))


def _labels(region: StudioRegion) -> list[str]:
    return region.value.keypointlabels or region.value.rectanglelabels or region.value.labels


def _area(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _version(kitchen: Kitchen) -> str:
    return f"samlet-{kitchen.default}-{__version__}"
