"""Putting the server together: models, cache, pool and routes become one ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from samlet import __version__
from samlet.errors import InputError, SamletError
from samlet.model import Model
from samlet.server import models, routes, runtime_routes
from samlet.server.adapters import FORMS, label_studio, osam, x_anylabeling
from samlet.server.answers import Kitchen
from samlet.server.bodies import Budget
from samlet.server.cache import Cache, MemoryCache
from samlet.server.guard import Guard
from samlet.server.metrics import Metrics
from samlet.server.openapi import describe
from samlet.server.page import Page
from samlet.server.pool import Pool
from samlet.server.refusals import refusal
from samlet.server.settings import Settings

if TYPE_CHECKING:
    from samlet.regions import Scorer
    from samlet.text import Detector

_SWEEP_SECONDS = 60.0
_DESCRIPTION = """Send a picture once, then prompt it as often as you like.

Coordinates are picture pixels (x, y), (0, 0) is the top-left corner. Every refusal is one sentence with an id."""


def create_app(
    loaded: Mapping[str, Model],
    settings: Settings | None = None,
    *,
    scorer: "Scorer | None" = None,
    detector: "Detector | None" = None,
) -> FastAPI:
    """Make the application.

    Args:
        loaded: Models by the names that requests use, at least one; the first is the default.
        settings: How it is run.
        scorer: Rates regions by text, for prompts of words.
        detector: Finds boxes by text, for prompts of words.

    Returns:
        The application; any ASGI server runs it, but bounds on connections are those of `samlet.server.serving`.

    Raises:
        InputError: There is no model.
        MissingExtraError: A shared cache is wanted and the package redis is not installed.

    Example:
        >>> import samlet
        >>> from samlet.server import Settings, create_app
        >>> app = create_app({"nano": samlet.load("nano")}, Settings())  # doctest: +SKIP
    """
    settings = settings or Settings()
    if not loaded:
        raise InputError("expected at least one model to serve, got none; name one")
    pool = Pool(workers=settings.workers, queue=settings.queue, wait_seconds=settings.limits.wait_seconds)
    cache = _cache(settings)
    budget = Budget(settings.limits.max_bodies_bytes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(_sweep(cache))
        yield
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper
        app.state.downloads.close()
        await pool.stop()
        cache.close()

    app = FastAPI(
        title="samlet",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings, app.state.limits, app.state.budget = settings, settings.limits, budget
    app.state.pool, app.state.metrics = pool, Metrics(pool, cache, budget)
    app.state.kitchen = Kitchen(dict(loaded), cache, settings.limits, scorer=scorer, detector=detector)
    app.state.networks = {}
    app.state.downloads = label_studio.Downloads(settings)
    for room in (routes, models, runtime_routes, x_anylabeling, label_studio, osam):
        app.include_router(room.router)
    app.router.default = Page()
    app.add_exception_handler(SamletError, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(RequestValidationError, _wrong_form)
    app.add_middleware(Guard, settings=settings, metrics=app.state.metrics)
    _describe_lazily(app)
    return app


def _cache(settings: Settings) -> Cache:
    if settings.cache_url is None:
        return MemoryCache(
            settings.cache_bytes, ttl=settings.cache_seconds, max_answers=settings.limits.max_answers
        )
    from samlet.server.shared_cache import SharedCache

    return SharedCache(
        settings.cache_url,
        settings.cache_bytes,
        ttl=settings.cache_seconds,
        limits=settings.limits.picture,
        max_answers=settings.limits.max_answers,
    )


async def _sweep(cache: Cache) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        cache.sweep()


def _describe_lazily(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app, FORMS)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


# These are coroutines because Starlette hands plain functions to threads of its own.
async def _refused(_: Request, error: Exception) -> JSONResponse:
    status, body, headers = refusal(error)
    return JSONResponse(body, status, headers)


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    sentence = {
        404: "expected the path of a file or of the API, got one that is not there; see /openapi.json",
        405: f"expected another method for this path, got {request.method[:20]}; see /openapi.json",
    }.get(status, "expected a request as /openapi.json describes it, got something else; correct it")
    asked = InputError(sentence)
    asked.http_status = status
    headers = dict(getattr(error, "headers", None) or {})
    _, body, _ = refusal(asked)
    return JSONResponse(body, status, headers)


async def _wrong_form(_: Request, error: Exception) -> JSONResponse:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    place = ".".join(str(part) for part in first.get("loc", ()))[:80]
    asked = InputError(
        f"expected a request as /openapi.json describes it, but {place} is wrong ({str(first.get('msg'))[:120]}); "
        "correct it"
    )
    asked.http_status = 422
    return await _refused(_, asked)
