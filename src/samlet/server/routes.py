"""The API, version 1: one function a route, each reading its request, handing the work to the pool, and answering."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from samlet.everything import Objects as Boxes
from samlet.server import answers, schema
from samlet.server.answers import Kitchen, to_json
from samlet.server.bodies import parsed, received, until_gone, upload
from samlet.server.openapi import image_body, json_body, refuses
from samlet.server.pool import Pool
from samlet.server.refusals import GoneError, refusal

Result = TypeVar("Result")
router = APIRouter()
_ID = InPath(pattern=r"^[A-Za-z0-9_-]{8,64}$", description="id of an embedding", max_length=64)
_MODEL = Query(None, max_length=60, description="one of /v1/models; the default if left out")


@router.get("/health", tags=["operation"])
async def health(request: Request) -> dict[str, Any]:
    """Say that the server is up; for people who watch over it, and for Label Studio."""
    kitchen: Kitchen = request.app.state.kitchen
    return {"status": "UP", "models_loaded": len(kitchen.models), "model_class": "samlet"}


@router.get("/metrics", tags=["operation"], response_class=Response)
async def metrics(request: Request) -> Response:
    """Give counters and times in Prometheus' text form."""
    text = request.app.state.metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post(
    "/v1/embeddings",
    status_code=201,
    tags=["pictures"],
    response_model=schema.Facts,
    openapi_extra=image_body(model=True),
    responses=refuses(400, 404, 408, 413, 415, 429, 503),
)
async def embed(request: Request, model: str | None = _MODEL) -> Response:
    """Embed a picture: the expensive half, once; then prompt it by its id."""
    state = request.app.state
    async with received(request, state.limits.max_body_bytes) as body:
        kind = request.headers.get("content-type", "")

        def work() -> bytes:
            found = upload(body, kind, state.limits)
            return to_json(answers.embed(state.kitchen, found.picture, found.fields.get("model") or model))

        return _json(await worked(request, work, kind="embed"), status=201)


@router.get(
    "/v1/embeddings/{id}",
    tags=["pictures"],
    response_model=schema.Facts,
    responses=refuses(404, 503),
)
async def embedding(request: Request, id: str = _ID) -> Response:
    """Say what a kept picture is."""
    kitchen: Kitchen = request.app.state.kitchen
    kept = await asyncio.to_thread(kitchen.cache.get, id)
    return _json(to_json(answers.facts(kitchen, id, kept)))


@router.delete("/v1/embeddings/{id}", status_code=204, tags=["pictures"], responses=refuses(404, 503))
async def forget(request: Request, id: str = _ID) -> Response:
    """Forget a picture at once, with all that was made of it."""
    if not await asyncio.to_thread(request.app.state.kitchen.cache.remove, id):
        from samlet.server.cache import unknown

        raise unknown()
    return Response(status_code=204)


@router.get(
    "/v1/embeddings/{id}/array",
    tags=["pictures"],
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        **refuses(404, 422, 503),
    },
)
async def array(request: Request, id: str = _ID) -> Response:
    """Give the embedding itself, float32 little endian, for decoding in the browser."""
    kitchen: Kitchen = request.app.state.kitchen
    data, headers = await asyncio.to_thread(answers.array, kitchen, id)
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get(
    "/v1/embeddings/{id}/objects",
    tags=["masks"],
    response_model=schema.Objects,
    responses=refuses(400, 404, 429, 503),
)
async def objects(
    request: Request,
    id: str = _ID,
    at_most: int = Query(Boxes().at_most, ge=1, le=320, description="most boxes"),
) -> Response:
    """Give boxes of objects, from the model's object head."""
    kitchen: Kitchen = request.app.state.kitchen
    work = partial(answers.objects, kitchen, id, at_most)
    return _json(await worked(request, lambda: to_json(work()), kind="objects"))


@router.post(
    "/v1/embeddings/{id}/segment",
    tags=["masks"],
    response_model=schema.Answer,
    openapi_extra=json_body(schema.Prompt),
    responses=refuses(404, 408, 413, 422, 429, 503),
)
async def segment(request: Request, id: str = _ID) -> Response:
    """Cut out what the prompt points at: the cheap half, as often as you like."""
    state = request.app.state
    async with received(request, state.limits.max_json_bytes) as body:

        def work() -> bytes:
            return to_json(answers.segment(state.kitchen, id, parsed(schema.Prompt, body)))

        return _json(await worked(request, work, kind="segment"))


@router.post(
    "/v1/segment",
    tags=["masks"],
    response_model=schema.Answer,
    openapi_extra=image_body(model=True, prompt=True),
    responses=refuses(400, 404, 408, 413, 415, 422, 429, 503),
)
async def segment_once(request: Request) -> Response:
    """Send a picture and a prompt together, once; nothing is kept."""
    state = request.app.state
    async with received(request, state.limits.max_body_bytes) as body:
        kind = request.headers.get("content-type", "")

        def work() -> bytes:
            found = upload(body, kind, state.limits)
            prompt = parsed(schema.Prompt, found.fields.get("prompt", "{}"))
            return to_json(
                answers.segment_once(state.kitchen, found.picture, found.fields.get("model"), prompt)
            )

        return _json(await worked(request, work, kind="segment_once"))


@router.post(
    "/v1/embeddings/{id}/everything",
    tags=["masks"],
    response_class=StreamingResponse,
    openapi_extra=json_body(schema.Everything, optional=True),
    responses={
        200: {
            "description": 'lines of JSON: {"progress": [done, total]} and at last {"masks": [...]}',
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        },
        **refuses(400, 404, 408, 413, 422, 429, 503),
    },
)
async def everything(request: Request, id: str = _ID) -> Response:
    """Find everything in the picture; the answer comes as lines of JSON, progress first."""
    state = request.app.state
    async with received(request, state.limits.max_json_bytes) as body:
        wanted = parsed(schema.Everything, body or b"{}")
    # What is wrong with the request is said with a status, as long as there is one to say.
    await asyncio.to_thread(state.kitchen.cache.get, id)
    lines = _Lines()
    work = asyncio.ensure_future(
        state.pool.run(lambda: answers.everything(state.kitchen, id, wanted, lines.progress), long=True)
    )
    work.add_done_callback(lines.close)
    await lines.begun(work, request)
    return StreamingResponse(_streamed(lines, work), media_type="application/x-ndjson")


@router.post(
    "/v1/embeddings/{id}/text",
    tags=["masks"],
    response_model=schema.Answer,
    openapi_extra=json_body(schema.Text),
    responses=refuses(400, 404, 408, 413, 422, 429, 501, 503),
)
async def text(request: Request, id: str = _ID) -> Response:
    """Find what words name, if the server has a model that reads."""
    state = request.app.state
    async with received(request, state.limits.max_json_bytes) as body:
        wanted = parsed(schema.Text, body)
        answers.check_reads(state.kitchen)
        work = partial(answers.text, state.kitchen, id, wanted)
        return _json(await worked(request, lambda: to_json(work()), kind="text", long=True))


async def worked(request: Request, work: Callable[[], Result], *, kind: str, long: bool = False) -> Result:
    """Run work in the pool, and drop it when the client leaves before it has begun.

    Args:
        request: Whose body is read.
        work: What to do.
        kind: Name of it in the metrics.
        long: Whether it takes seconds.

    Raises:
        GoneError: The client left.
        BusyError: There is no room.
    """
    state = request.app.state

    def timed() -> Result:
        with state.metrics.work_seconds.labels(kind).time():
            return work()

    pool: Pool = state.pool
    job = asyncio.ensure_future(pool.run(timed, long=long))
    gone = asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait((job, gone), return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise GoneError
        return job.result()
    finally:
        for each in (job, gone):
            each.cancel()
        await asyncio.gather(job, gone, return_exceptions=True)


class _Lines:
    """Progress on its way from a worker to the event loop; only the newest counts."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._stopped = threading.Event()
        self.newest: tuple[int, int] | None = None

    def progress(self, done: int, total: int) -> None:
        """Called by the worker."""
        if self._stopped.is_set():
            raise GoneError
        self.newest = (done, total)
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._news.set)

    def close(self, _: object = None) -> None:
        """Wake whoever waits: there will be no more."""
        self._news.set()

    def stop(self) -> None:
        """Make the worker end at its next step."""
        self._stopped.set()

    async def begun(self, work: "asyncio.Future[Any]", request: Request) -> None:
        """Wait for the first news, so that an error before it becomes a status.

        Raises:
            GoneError: The client left.
            Exception: What the work raised.
        """
        news, gone = asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(until_gone(request))
        try:
            await asyncio.wait((news, gone), return_when=asyncio.FIRST_COMPLETED)
            if not news.done():
                raise GoneError
            if work.done():
                work.result()
        except BaseException:
            self.stop()
            work.cancel()
            raise
        finally:
            for each in (news, gone):
                each.cancel()
            await asyncio.gather(news, gone, return_exceptions=True)

    async def next(self) -> tuple[int, int] | None:
        """Wait for news; None when the work is done."""
        await self._news.wait()
        self._news.clear()
        newest, self.newest = self.newest, None
        return newest


async def _streamed(lines: _Lines, work: "asyncio.Future[dict[str, Any]]") -> AsyncIterator[bytes]:
    try:
        while not work.done():
            newest = await lines.next()
            if newest is not None:
                yield to_json({"progress": newest}) + b"\n"
        if lines.newest is not None:  # told together with the end
            yield to_json({"progress": lines.newest}) + b"\n"
        try:
            yield to_json(work.result()) + b"\n"
        except Exception as error:
            yield json.dumps(refusal(error)[1]).encode() + b"\n"
    finally:  # also when the client has left
        lines.stop()
        if not work.cancel() and not work.cancelled():
            work.exception()  # looked at, or asyncio complains that nobody did


def _json(body: bytes, *, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
