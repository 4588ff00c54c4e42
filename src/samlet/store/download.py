"""From an address to a file that is complete and the right one, whatever network and server do meanwhile.

Bytes go to a partial file. It gets its final name only after its size and digest have been compared with the
card's, so that nobody ever finds a wrong or half a file under that name. What is partial stays, and is gone on
with the next time.
"""

import contextlib
import http.client
import json
import logging
import os
import re
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from samlet.atomic import flush_folder
from samlet.card import CardFile
from samlet.errors import ChecksumError, InputError, ModelError, OutputError
from samlet.store import layout, web
from samlet.store.integrity import fault_of
from samlet.store.progress import Report, readable

_log = logging.getLogger("samlet.store")

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try at an address that gives nothing."""

_WORTH = 64 * 1024  # a try that brings so many bytes is no failure: long files on bad lines take many tries
_BLOCK = 64 * 1024
_SLOWEST, _WINDOW = 1024, 60.0  # bytes a second over so many seconds; slower counts as dead
_LONGEST_UNKNOWN = 16 * 2**30  # of a file whose size nobody published
_sleep = time.sleep


@dataclass(frozen=True, slots=True)
class _Job:
    """One file on its way.

    Attributes:
        file: What is wanted.
        part: Where the bytes go.
        note: Which address and version (ETag) the partial file is of.
        report: Who wants to know how far it is.
    """

    file: CardFile
    part: Path
    note: Path
    report: Report

    def here(self) -> int:
        """Count the bytes that are here already."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def discard(self) -> None:
        """Forget what is here."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def download(file: CardFile, target: Path, report: Report) -> None:
    """Download a file whose digest is known, and give it its final name once it is verified.

    The caller holds the lock of this file.

    Args:
        file: What is wanted.
        target: Its final name, in the cache.
        report: Called with bytes here and bytes in all.

    Raises:
        ChecksumError: An address gave other bytes than the card names, and no other address helped.
        ModelError: No address gives the file.
        InputError: SAMLET_MIRROR or HF_TOKEN is no such thing.
        OutputError: The disk is full or cannot be written; what is here stays.
    """
    job = _Job(file, layout.partial(file, "part"), layout.partial(file, "json"), report)
    failures: dict[str, web.FailedError] = {}
    try:
        job.part.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in addresses(file):
            for failed, error in failures.items():
                _log.warning("%s did not give %s (%s); trying %s", failed, target.name, error, url)
            try:
                _from(url, job)
                return _publish(job, target)
            except web.FailedError as error:
                failures[url] = error
    except OSError as error:
        raise OutputError(
            f"could not write {job.part} ({error.strerror or error}); free some space or set SAMLET_CACHE to "
            "another folder, and what is already here will be gone on with"
        ) from error
    reasons = "; ".join(f"{url}: {error}" for url, error in failures.items())
    wrong = any(error.wrong for error in failures.values())
    raise (ChecksumError if wrong else ModelError)(
        f"expected to download the model file {target.name} ({readable(file.size)}), but it failed ({reasons}); "
        f"{layout.advice(file)}"
    )


def addresses(file: CardFile) -> list[str]:
    """List where a file may be had, in the order of trying: the user's mirror, then the card's address.

    Raises:
        InputError: SAMLET_MIRROR is no HTTPS address.
    """
    found = []
    mirror = os.environ.get("SAMLET_MIRROR", "").strip().rstrip("/")
    if mirror:
        if not web.is_allowed(mirror):
            raise InputError(
                f"expected an https:// address without user name in SAMLET_MIRROR, got {mirror!r:.200}; "
                "set it again or unset it"
            )
        found.append(f"{mirror}/{layout.key(file)}/{urllib.parse.quote(layout.plain_name(file))}")
    if file.url and web.is_allowed(file.url):
        found.append(file.url)
    return found


def _from(url: str, job: _Job) -> None:
    """Get the whole, right file from one address, in as many tries as are worth it."""
    tries, joined, restarted, furthest = 0, False, False, job.here()
    while True:
        joined = joined or job.here() > 0
        try:
            _attempt(url, job)
        except web.FailedError as error:
            # Counted from the furthest point, or a server that always starts again would keep us for ever.
            gained, furthest = job.here() - furthest, max(furthest, job.here())
            tries = 0 if gained >= _WORTH else tries + 1
            if not error.again or tries > len(PAUSES):
                raise
            _sleep(error.wait or PAUSES[max(tries, 1) - 1])
            continue
        fault = fault_of(job.file, job.part)
        if fault is None:
            return
        job.discard()
        if not joined or restarted:
            raise web.FailedError(f"{fault}, so it was deleted", wrong=True)
        # Pieces of different versions do not fit together: once more, from the start.
        tries, joined, restarted, furthest = 0, False, True, 0


def _attempt(url: str, job: _Job) -> None:
    """Ask once for what is missing, and write what comes."""
    start, size = job.here(), job.file.size
    if size and start >= size:
        if start == size:
            return  # complete already; whether it is right is the caller's question
        job.discard()
        start = 0
    headers = {"Range": f"bytes={start}-", **_if_range(url, job)} if start else {}
    try:
        response = web.request(url, headers)
    except web.RangeError as error:
        job.discard()
        raise web.FailedError(str(error), again=start > 0) from None
    with contextlib.closing(response):
        begin, total = _announced(response, start, size)
        if begin == 0:
            job.discard()
            _remember(url, response.headers.get("ETag"), job)
        with job.part.open("ab", buffering=0) as stream:
            _pour(response, stream, total, job.report)
        if total and job.here() < total:
            raise web.FailedError(f"the connection broke after {job.here():,} of {total:,} bytes", again=True)


def _announced(response: http.client.HTTPResponse, start: int, size: int) -> tuple[int, int]:
    """Check the head of an answer, and give the place where its bytes belong and the file's whole size (or 0)."""
    kind = response.headers.get_content_type() if response.headers.get("Content-Type") else ""
    if kind in ("text/html", "application/xhtml+xml"):
        raise web.FailedError("it sends a web page (a login or a proxy?) instead of the file")
    coding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    if coding != "identity":
        raise web.FailedError(f"it sends the file compressed ({coding[:40]}), which was not asked for")
    begin, total = 0, 0
    if response.status == 206:
        match = re.fullmatch(
            r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", response.headers.get("Content-Range") or ""
        )
        if match is None or int(match[1]) != start:
            raise web.FailedError("it sends another part of the file than asked for")
        begin, total = start, 0 if match[2] == "*" else int(match[2])
    elif response.status == 200:
        total = response.length or 0
    else:
        raise web.FailedError(f"it answers {response.status}")
    if size and total and total != size:
        raise web.FailedError(f"expected {size:,} bytes, it announces {total:,}", wrong=True)
    if not size and total > _LONGEST_UNKNOWN:
        raise web.FailedError(f"it announces {total:,} bytes, more than a model has")
    return begin, total or size


def _pour(response: http.client.HTTPResponse, stream: BinaryIO, total: int, report: Report) -> None:
    """Write what comes, never more than announced; errors of the disk stay what they are."""
    here = stream.tell()
    most = total or _LONGEST_UNKNOWN
    mark, marked = time.monotonic(), here
    report(here, total)
    while here < most:
        try:
            # read1 hands on what has come, where read would wait for a full block of a slow server.
            block = response.read1(min(_BLOCK, most - here))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise web.failure(error) from None
        if not block:
            return
        rest = memoryview(block)
        while rest:
            rest = rest[stream.write(rest) :]
        here += len(block)
        report(here, total)
        if time.monotonic() - mark > _WINDOW:
            if here - marked < _SLOWEST * _WINDOW:
                raise web.FailedError(f"slower than {_SLOWEST} bytes a second", again=True)
            mark, marked = time.monotonic(), here


def _if_range(url: str, job: _Job) -> dict[str, str]:
    """Go on only with the same version, if the server told us which it was."""
    try:
        note = json.loads(job.note.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(note, dict) or note.get("url") != url or not isinstance(note.get("etag"), str):
        return {}
    return {"If-Range": note["etag"]}


def _remember(url: str, etag: str | None, job: _Job) -> None:
    # A weak ETag ("W/...") does not promise equal bytes and may not be used with ranges.
    if etag and re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag):
        job.note.write_text(json.dumps({"url": url, "etag": etag}), "utf-8")


def _publish(job: _Job, target: Path) -> None:
    """Give the verified file its name, in an order that survives a power cut."""
    with job.part.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(job.part, target)
    flush_folder(target.parent)
    job.note.unlink(missing_ok=True)
