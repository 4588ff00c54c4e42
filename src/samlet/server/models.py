"""Which models the server has, for every client; and their networks as files, for browsers that run them themselves."""

import asyncio
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from samlet.card import Card
from samlet.errors import CheckpointError, InputError
from samlet.model import Model
from samlet.server.answers import Kitchen
from samlet.server.openapi import refuses

router = APIRouter()
_NAME = InPath(max_length=60, description="one of /v1/models")
Role = Literal["encoder", "decoder"]
_ROLE = InPath(description="the encoder is for pages with a live camera")
_BYTES = "application/octet-stream"
_FILE = {"content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}}}


@router.get("/v1/models", tags=["models"])
async def models(request: Request) -> dict[str, Any]:
    """List the models, with what each can do; the fields are those that X-AnyLabeling reads, and samlet's own."""
    kitchen: Kitchen = request.app.state.kitchen
    return {
        "success": True,
        "data": {name: described(kitchen, name, model) for name, model in kitchen.models.items()},
    }


@router.get("/v1/models/{model}/info", tags=["models"], responses=refuses(404))
async def info(request: Request, model: str = _NAME) -> dict[str, Any]:
    """Describe one model."""
    kitchen: Kitchen = request.app.state.kitchen
    name, found = kitchen.model(model)
    return {"success": True, "data": {"model_id": name, **described(kitchen, name, found)}}


@router.get(
    "/v1/models/{model}/{role}.onnx",
    tags=["models"],
    response_class=Response,
    responses={200: _FILE, **refuses(400, 404, 503)},
)
async def graph(request: Request, model: str = _NAME, role: Role = _ROLE) -> Response:
    """Give a network's graph, whose weights are in the file that X-Weights-Location names."""
    onnx, weights = await _packed(request, model, role)
    headers = {"X-Weights-Location": weights.name, "Cache-Control": "no-cache"}
    return Response(onnx, media_type=_BYTES, headers=headers)


@router.get(
    "/v1/models/{model}/{role}.bin",
    tags=["models"],
    response_class=Response,
    responses={200: _FILE, **refuses(400, 404, 503)},
)
async def graph_weights(request: Request, model: str = _NAME, role: Role = _ROLE) -> Response:
    """Give a network's weights, at the offsets that its graph names."""
    _, weights = await _packed(request, model, role)
    return FileResponse(weights, media_type=_BYTES, headers={"Cache-Control": "no-cache"})


def described(kitchen: Kitchen, name: str, model: Model) -> dict[str, Any]:
    """Describe a model for clients."""
    card = model.card
    widgets = [
        *(("edit_text", None), ("button_send", None)) * kitchen.reads,
        ("button_run", None),
        ("button_add_point", None),
        ("button_remove_point", None),
        ("button_add_rect", None),
        ("button_clear", None),
        ("button_finish_object", None),
        ("mask_fineness_slider", 10),
        ("mask_fineness_value_label", None),
        ("toggle_preserve_existing_annotations", False),
    ]
    return {
        "display_name": card.title,
        "family": card.family,
        "licence": card.licence,
        "weights_licence": card.weights_licence,
        "default": name == kitchen.default,
        "object_head": model.session.has_objects,
        "text": kitchen.reads,
        "canvas": {"side": card.side, "pad": card.pad, "mean": list(card.mean), "std": list(card.std)},
        "batch_processing_mode": "text_prompt" if kitchen.reads else "default",
        "widgets": [{"name": widget, "value": value} for widget, value in widgets],
        "params": {},
    }


async def _packed(request: Request, model: str, role: str) -> tuple[bytes, Path]:
    """Give a network's graph and the file with its weights, which is written at the first use."""
    name, found = request.app.state.kitchen.model(model)
    known: dict[tuple[str, str], tuple[bytes, Path]] = request.app.state.networks
    if (name, role) not in known:
        known[name, role] = await asyncio.to_thread(_pack, found.card, role)
    return known[name, role]


def _pack(card: Card, role: str) -> tuple[bytes, Path]:
    from samlet.packed import pack_model

    if "decoder" not in card.graphs:
        raise InputError(f"expected a model with a decoder, got {card.name}; ask the server for masks")
    graph = pack_model(card, roles=[role])[role]
    if graph.packed is None:
        raise CheckpointError(f"expected a file with the {role}'s weights of {card.name}, got none")
    return graph.onnx, graph.packed
