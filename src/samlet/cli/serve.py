"""`samlet serve`: the HTTP API, the web page, and what labelling tools speak."""

import argparse
import functools
import ipaddress
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import run as shared
from samlet.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from samlet.model import Model
    from samlet.server import Settings
    from samlet.server.tls import Identity

_TOKEN = "SAMLET_TOKEN"
_STUDIO_KEY = "LABEL_STUDIO_API_KEY"
_DESCRIPTION = """\
Serve the web page, the HTTP API and the protocols of labelling tools, for this machine alone unless told otherwise.
"""
_EXAMPLES = """\
examples:
  samlet serve                                     then open http://127.0.0.1:8000
  samlet serve --model mobile_sam --model nano     the first is the default
  SAMLET_TOKEN=... samlet serve --host 0.0.0.0     for others, who need the token
  samlet serve --host 0.0.0.0 --tls                for a phone on the same network, with its camera
  samlet serve --cache redis://localhost:6379/0    several servers, one cache

The API describes itself at /openapi.json, /metrics is for Prometheus. Stop it with Ctrl-C or SIGTERM: what is being
worked on is finished first.
"""
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "serve",
        help="serve the web page, the HTTP API and labelling tools",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    where.add_argument(
        "--port",
        type=functools.partial(shared.whole, option="--port", least=0, most=65535),
        default=8000,
        help="port; 0 takes a free one (default: %(default)s)",
    )
    where.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which clients call this server (default: names of this machine if it listens there alone, "
        "else any)",
    )
    where.add_argument(
        "--allow-frame",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a site that may show the page in a frame, such as https://huggingface.co",
    )
    _add_tls(parser.add_argument_group("encryption"))
    who = parser.add_argument_group("who")
    who.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"what clients have to send as 'Authorization: Bearer TOKEN'; rather set {_TOKEN}, which others on this "
        "machine cannot read",
    )
    _add_models(parser.add_argument_group("models"))
    _add_work(parser.add_argument_group("work"))
    parser.add_argument_group("labelling tools").add_argument(
        "--label-studio",
        metavar="URL",
        help=f"where Label Studio runs, whose uploads may be fetched with the key in {_STUDIO_KEY}; nothing else is "
        "ever fetched",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        MissingExtraError: The packages of the extra `server` are not installed.
        InputError: An option makes no sense, or the address cannot be had.
        ModelError: A model cannot be used.
    """
    try:
        from samlet.server import serving, tls
        from samlet.server.app import create_app
    except ImportError as error:
        raise MissingExtraError(
            f"this needs {error.name or 'a package'}; install it with pip install 'samlet[server]'"
        ) from None
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it repeats what strangers send
    settings = _settings(args)
    identity = _identity(args)
    listening = serving.bind(args.host, args.port)
    with listening:
        app = create_app(_models(args, settings.workers), settings, **_readers(args))
        port = listening.getsockname()[1]
        host = f"[{args.host}]" if ":" in args.host else args.host
        scheme = "http" if identity is None else "https"
        print(f"samlet: serving on {scheme}://{host}:{port}/  (Ctrl-C stops)", file=sys.stderr, flush=True)
        if identity is not None:
            _introduce(identity, tls.local_addresses() if not _is_loopback(args.host) else [], port)
        if settings.token is None and not _is_loopback(args.host):
            shared.note(f"everybody who reaches port {port} may use it; set {_TOKEN} to ask for a token")
        serving.server(app, settings, identity=identity).run(sockets=[listening])
    return 0


def _add_tls(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--tls",
        action="store_true",
        help="https, which browsers want before they give a page the camera; with a certificate of this machine's own, "
        "made once and kept in samlet's cache, of which browsers warn",
    )
    group.add_argument(
        "--certificate", type=Path, metavar="FILE", help="one that somebody signed, in PEM; instead of --tls"
    )
    group.add_argument(
        "--key", type=Path, metavar="FILE", help="its private key, unless it is in the same file"
    )


def _identity(args: argparse.Namespace) -> "Identity | None":
    from samlet.server import tls

    if args.certificate is not None:
        return tls.own(args.certificate, args.key)
    if args.key is not None:
        raise InputError("expected --certificate along with --key, got the key alone; give both")
    return tls.self_signed() if args.tls else None


def _introduce(identity: "Identity", addresses: list[str], port: int) -> None:
    for address in addresses:
        name = f"[{address}]" if ":" in address else address
        shared.note(f"others on this network reach it at https://{name}:{port}/")
    if identity.is_self_signed:
        shared.note(
            "nobody signed this machine's certificate, so browsers warn; before you go on, compare its SHA-256 "
            f"fingerprint: {identity.fingerprint}"
        )


def _add_models(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="a name from `samlet models`, or a weights file; may come several times, the first is the default "
        "(default: nano)",
    )
    group.add_argument(
        "--threads",
        type=functools.partial(shared.whole, option="--threads", most=4096, advice="leave it out for all"),
        metavar="N",
        help="threads for one run of a network (default: the cores divided by the workers)",
    )
    shared.add_runtime(group)
    reading = group.add_mutually_exclusive_group()
    reading.add_argument(
        "--clip",
        nargs=3,
        metavar=("IMAGE.onnx", "TEXT.onnx", "TOKENIZER.json"),
        help="the three files of a CLIP, for prompts of words (docs/how-to/text-prompts.md)",
    )
    reading.add_argument(
        "--detector",
        metavar="NAME",
        help="a GroundingDINO or OWLv2, for prompts of words: a folder, or a repository in the Hugging Face cache",
    )


def _add_work(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--workers",
        type=functools.partial(shared.whole, option="--workers", most=256),
        metavar="N",
        help="requests worked on at a time (default: the number of cores, 2 to 8)",
    )
    group.add_argument(
        "--queue",
        type=functools.partial(shared.whole, option="--queue", most=100_000),
        default=0,
        metavar="N",
        help="requests that may wait; further ones are told to come back (default: 16 for each worker)",
    )
    group.add_argument(
        "--cache-bytes",
        type=_size,
        default="512M",
        metavar="SIZE",
        help="embeddings kept in memory, such as 512M or 4G; nano's take 4 MB a picture (default: %(default)s)",
    )
    group.add_argument(
        "--cache",
        metavar="URL",
        help="a Redis or Valkey that several servers share, as redis://HOST:6379/0 (pip install 'samlet[redis]')",
    )
    group.add_argument(
        "--cache-seconds",
        type=functools.partial(shared.whole, option="--cache-seconds", most=10**8),
        default=3600,
        metavar="S",
        help="unused embeddings are forgotten after this long (default: %(default)s)",
    )


def _settings(args: argparse.Namespace) -> "Settings":
    from samlet.server.settings import LOOPBACK_HOSTS, Settings

    hosts = tuple(name.lower() for name in args.allow_host)
    if not hosts and _is_loopback(args.host):
        bare = f"[{args.host}]" if ":" in args.host else args.host.lower()
        hosts = (*LOOPBACK_HOSTS, bare)
    bad = [origin for origin in args.allow_frame if not re.fullmatch(r"https?://[\w.*:-]{1,200}", origin)]
    if bad:
        raise InputError(f"expected an origin such as https://huggingface.co, got {bad[0]!r:.80}; correct it")
    options: dict[str, Any] = {} if args.workers is None else {"workers": args.workers}
    return Settings(
        **options,
        queue=args.queue,
        cache_bytes=args.cache_bytes,
        cache_url=args.cache,
        cache_seconds=args.cache_seconds,
        token=args.token or os.environ.get(_TOKEN) or None,
        hosts=hosts,
        frame_ancestors=tuple(args.allow_frame),
        label_studio_url=args.label_studio,
        label_studio_key=os.environ.get(_STUDIO_KEY) or None,
    )


def _models(args: argparse.Namespace, workers: int) -> "dict[str, Model]":
    from samlet import model
    from samlet.limits import SERVER_LIMITS

    # Workers share the cores: with more threads than that they wait for each other, spinning.
    threads = args.threads or max(1, (os.cpu_count() or 1) // workers)
    loaded: dict[str, Model] = {}
    for wanted in args.model or ["nano"]:
        found = model.load(
            wanted, threads=threads, limits=SERVER_LIMITS.picture, backend=args.backend, shape=args.shape
        )
        if found.card.name in loaded:
            raise InputError(f"expected different models, got {found.card.name} twice; name each once")
        loaded[found.card.name] = found
    return loaded


def _readers(args: argparse.Namespace) -> dict[str, Any]:
    from samlet import text

    if args.clip is not None:
        return {"scorer": text.load_clip(*args.clip, threads=args.threads)}
    if args.detector is not None:
        return {"detector": text.load_detector(args.detector)}
    return {}


def _size(text: str) -> int:
    """Read a size in bytes, with K, M or G for powers of 1,024."""
    parts = re.fullmatch(r"(\d{1,12})\s*([kmg]?)i?b?", text.strip().lower())
    if parts is None:
        raise InputError(f"expected a size such as 512M after --cache-bytes, got {text!r:.40}; correct it")
    return int(parts[1]) * _UNITS[parts[2]]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
