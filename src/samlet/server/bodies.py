"""Requests' bodies, read while they are counted, and taken apart in a worker: nothing of them ever reaches a disk."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from samlet.errors import ImageError, InputError, LimitError, PromptError
from samlet.limits import ServerLimits
from samlet.server.refusals import GoneError, SlowError, UnavailableError

Schema = TypeVar("Schema", bound=BaseModel)
_DATA_URI = re.compile(r"data:[\w.+-]{0,64}/?[\w.+-]{0,64}(;[\w=.+-]{0,64}){0,4};base64,", re.ASCII)
_DRAIN_BYTES = 64 * 2**20
_DRAIN_SECONDS = 2.0
_BOUNDARY = re.compile(r'boundary="?([^";,]{1,200})"?', re.ASCII)


class Budget:
    """How many bytes of requests are held at a time, in all.

    Attributes:
        taken: Bytes held now.
    """

    def __init__(self, most: int) -> None:
        """Begin with nothing taken."""
        self.most, self.taken = most, 0

    def take(self, count: int) -> None:
        """Count bytes that arrived.

        Raises:
            UnavailableError: There would be too many.
        """
        if self.taken + count > self.most:
            raise UnavailableError(
                "expected room for another upload, but others are being received; try again soon"
            )
        self.taken += count

    def give(self, count: int) -> None:
        """Count bytes that are no longer held."""
        self.taken -= count


@asynccontextmanager
async def received(request: Request, at_most: int) -> AsyncIterator[bytes]:
    """Read a body whole; it counts against the budget until the block is left.

    Args:
        request: The request; its application's state has `limits` and `budget`.
        at_most: Longest body.

    Yields:
        The body.

    Raises:
        LimitError: It is longer, or says so.
        SlowError: It stops, or takes too long.
        UnavailableError: Too many bytes are held for other requests.
        GoneError: The client left before its end.
    """
    budget: Budget = request.app.state.budget
    _check_length(request.headers.get("content-length"), at_most)
    body = bytearray()
    try:
        try:
            async with asyncio.timeout(request.app.state.limits.body_seconds):
                await _fill(body, request, at_most)
        except TimeoutError:
            raise SlowError(
                "expected the whole request in time, but it came too slowly; send it again"
            ) from None
        yield bytes(body)
    finally:
        budget.give(len(body))


async def until_gone(request: Request) -> None:
    """Wait until the client has left; only after the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def drain(request_receive: Any) -> None:
    """Throw away the rest of a body for a moment, so that a client that still sends gets to read its answer."""
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0:
                message = await request_receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return


def parsed(schema: type[Schema], body: bytes | str) -> Schema:
    """Read JSON of a known form.

    Raises:
        PromptError: It is none, or of another form; the sentence names the place.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise PromptError(_sentence(error)) from None


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture with the fields that came with it.

    Attributes:
        picture: The bytes of its file.
        fields: Other parts by name.
    """

    picture: bytes
    fields: dict[str, str]


def upload(body: bytes, content_type: str, limits: ServerLimits) -> Upload:
    """Find the picture in a body: the part `image` of a form, or the body itself.

    Args:
        body: The body.
        content_type: Its type as the client says.
        limits: Bounds on the parts.

    Raises:
        InputError: The form is broken, has too many parts, or no picture.
        ImageError: The body is empty, or of a type that is no picture.
    """
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind == "multipart/form-data":
        return _from_form(body, content_type, limits)
    if kind in ("application/json", "text/plain", "application/x-www-form-urlencoded") or not body:
        raise ImageError(
            f"expected a picture as the part 'image' of a form or as the body itself, got {kind[:40] or 'nothing'}; "
            "send its file"
        )
    return Upload(body, {})


def picture_of_text(text: str, limits: ServerLimits) -> bytes:
    """Decode base64, with or without a data: URI before it.

    Raises:
        ImageError: It is no base64; an address is refused, since nothing is fetched.
        LimitError: It is too long.
    """
    head = _DATA_URI.match(text, 0, 400)
    coded = text[head.end() :] if head else text
    if "\n" in coded:  # what `base64` on a command line writes
        coded = coded.replace("\r", "").replace("\n", "")
    if len(coded) > limits.picture.max_bytes * 4 // 3 + 1024:
        raise LimitError(
            f"expected a picture of at most {limits.picture.max_bytes:,} bytes, got more; send a smaller one"
        )
    try:
        return base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(
            "expected a picture as base64 or as a data: URI, got something else; addresses are not fetched"
        ) from None


def _check_length(told: str | None, at_most: int) -> None:
    if told is not None and (not told.isdecimal() or len(told) > 18 or int(told) > at_most):
        raise LimitError(f"expected a request of at most {at_most:,} bytes, got more; send less")


async def _fill(body: bytearray, request: Request, at_most: int) -> None:
    """Append what arrives; what is in `body` is what was taken from the budget."""
    budget: Budget = request.app.state.budget
    more = True
    while more:
        async with asyncio.timeout(request.app.state.limits.idle_seconds):
            message = await request.receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        chunk = message.get("body", b"")
        if len(body) + len(chunk) > at_most:
            raise LimitError(f"expected a request of at most {at_most:,} bytes, got more; send less")
        budget.take(len(chunk))
        body += chunk
        more = message.get("more_body", False)


def _from_form(body: bytes, content_type: str, limits: ServerLimits) -> Upload:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import FormParser

    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise InputError("expected a form with a boundary, got none; let your client set the content type")
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}

    def check() -> None:
        if len(fields) + len(files) >= limits.max_parts:
            raise InputError(
                f"expected a form of at most {limits.max_parts} parts, got more; send 'image' and what goes with it"
            )

    def on_field(field: Any) -> None:
        check()
        name, value = _text(field.field_name), field.value or b""
        # Some clients send the file without a file name; then it is a field.
        if name == "image":
            files[name] = value
        else:
            fields[name] = _text(value)

    def on_file(file: Any) -> None:
        check()
        files[_text(file.field_name)] = file.file_object.getvalue()

    # What is above the memory bound would go to a temporary file: there is none, the body is bounded already.
    config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
    parser = FormParser("multipart/form-data", on_field, on_file, boundary=boundary[1], config=config)
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise InputError("expected a form as multipart/form-data, got a broken one; send it again") from None
    if not files.get("image"):
        raise ImageError("expected a form with a picture in the part 'image', got none; add it")
    return Upload(files["image"], fields)


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:80]
    told = str(first["msg"])[:160].rstrip(".")
    return f"expected JSON as /openapi.json describes it, but {place or 'it'} is wrong ({told}); correct it"
