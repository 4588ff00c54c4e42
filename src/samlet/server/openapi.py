"""What /openapi.json says of bodies that are read by hand: those with pictures, and those that workers parse."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from samlet.server import schema

_TAKEN: tuple[type[BaseModel], ...] = (schema.Prompt, schema.Everything, schema.Text)
_REF = "#/components/schemas/{model}"
_REASONS = {
    400: "the request cannot be used",
    401: "the token is missing or wrong",
    403: "the request came by another name or from another site",
    404: "there is no such thing, or no longer",
    408: "the request came too slowly",
    413: "the request, picture or prompt is too large",
    415: "that is no picture, or a broken one",
    422: "the prompt makes no sense",
    429: "too many requests wait",
    501: "the server was started without what this needs",
    503: "the server cannot take it now",
}


def refuses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe refusals for a route; those at the door are added."""
    return {
        status: {"model": schema.Refusal, "description": _REASONS[status]}
        for status in sorted({*statuses, 401, 403})
    }


def json_body(form: type[BaseModel], *, optional: bool = False) -> dict[str, Any]:
    """Describe a body of JSON."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=form.__name__)}}}
    return {"requestBody": {"required": not optional, "content": content}}


def image_body(*, model: bool = False, prompt: bool = False) -> dict[str, Any]:
    """Describe a body with a picture: a form, or where no prompt comes along the file itself."""
    file = {"type": "string", "format": "binary"}
    properties: dict[str, Any] = {"image": {**file, "description": "JPEG, PNG, WebP or BMP"}}
    required = ["image"]
    if model:
        properties["model"] = {"type": "string", "maxLength": 60}
    if prompt:
        properties["prompt"] = {"$ref": _REF.format(model="Prompt")}
        required.append("prompt")
    form = {"type": "object", "properties": properties, "required": required}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if prompt:
        content["multipart/form-data"]["encoding"] = {"prompt": {"contentType": "application/json"}}
    else:
        content |= {kind: {"schema": file} for kind in ("image/jpeg", "image/png", "image/webp")}
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI, more: tuple[type[BaseModel], ...] = ()) -> dict[str, Any]:
    """Give the whole description, with the forms that FastAPI does not know of.

    Args:
        app: The application.
        more: Forms of the adapters.
    """
    from fastapi.openapi.utils import get_openapi

    described = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, forms = models_json_schema([(each, "validation") for each in (*_TAKEN, *more)], ref_template=_REF)
    described.setdefault("components", {}).setdefault("schemas", {}).update(forms.get("$defs", {}))
    return described
