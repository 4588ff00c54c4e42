"""The web page's files: an allowlist of kinds, each with its right type, and nothing above their folder."""

from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

FOLDER = Path(str(files("samlet.server"))) / "web"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".bin": "application/octet-stream",
    ".txt": "text/plain; charset=utf-8",
}


class Page:
    """Answers what no route does: `/`, and the page's files by their names, also below /web/."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Serve a folder; it may be missing, in an installation without the page."""
        self._files = _Files(directory=folder) if folder.is_dir() else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if self._files is None:
            raise HTTPException(404)
        await self._files(scope, receive, send)


class _Files(StaticFiles):
    def get_path(self, scope: Scope) -> str:
        name = str(scope["path"]).lstrip("/")
        name = name.removeprefix("web/") if name.startswith("web/") else name
        return name or "index.html"

    async def get_response(self, path: str, scope: Scope) -> Response:
        kind = _TYPES.get(PurePosixPath(path).suffix.lower())
        if kind is None or path.endswith("/") or "\\" in path or "\0" in path:
            raise HTTPException(404)
        return await super().get_response(path, scope)

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        response.headers["Content-Type"] = _TYPES[PurePosixPath(str(full_path)).suffix.lower()]
        # Asked again each time and answered by 304: a new version is seen at once.
        response.headers["Cache-Control"] = "no-cache"
        return response
