"""onnxruntime-web for the page, from samlet's cache; see `samlet.server.web_runtime`."""

import asyncio
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from samlet.server import web_runtime

router = APIRouter(include_in_schema=False)  # for the page alone
_TYPES = {
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
}


@router.get("/runtime/runtime.json")
async def facts() -> Response:
    """Say whether the runtime is here; the page makes masks itself then."""
    return Response(
        await asyncio.to_thread(web_runtime.facts),
        media_type="application/json",
        headers={"Cache-Control": "no-cache"},
    )


@router.get("/runtime/{version}/{name}")
async def file(version: str, name: str) -> Response:
    """Give one of its files."""
    known = version == web_runtime.VERSION and name in (*web_runtime.FILES, web_runtime.LICENCE)
    folder = await asyncio.to_thread(web_runtime.installed) if known else None
    if folder is None:
        raise HTTPException(404)
    # The path names the version, so that 14 MB travel to a browser once.
    lasting = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(folder / name, media_type=_TYPES[Path(name).suffix], headers=lasting)
