"""Where every command begins and ends: arguments in, an exit code out, an error as one sentence on stderr."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn, TextIO

from samlet.cli.output import one_line
from samlet.errors import InputError, OutputError, SamletError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""

READER_GONE = 141
"""Exit code when whoever read our output has left, as in `samlet ... | head`: 128 + SIGPIPE."""

_EPILOG = """\
exit codes: 0 done, 2 the input cannot be used, 3 the model cannot be used, 5 the runtime failed,
6 some pictures of several failed, 7 a result cannot be written, 70 a fault in samlet, 130 Ctrl-C

Add --debug to any command to see where an error came from.
"""
_TAKES_COORDINATES = ("--point", "--not-point", "--box")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of samlet.

    Args:
        argv: The words after `samlet`; None takes them from the process.

    Returns:
        The exit code; `samlet --help` lists them.

    Example:
        >>> main(["--version"])  # doctest: +ELLIPSIS
        samlet ...
        0
    """
    words, debug = _take_debug(list(sys.argv[1:] if argv is None else argv))
    if hasattr(
        sys.stdout, "reconfigure"
    ):  # a file name that the terminal's encoding lacks is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(words)
    except KeyboardInterrupt:
        _say("samlet: stopped by Ctrl-C; what is already written is complete")
        return INTERRUPTED
    except BrokenPipeError:
        _forget(sys.stdout)
        return READER_GONE
    except SamletError as error:
        if debug:
            traceback.print_exc()
        _say(f"samlet: error: {one_line(str(error))}")
        return error.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        what = one_line(str(error))
        reason = f"{type(error).__name__}: {what}" if what else type(error).__name__
        advice = (
            "please report it with what stands above" if debug else "run it again with --debug to see where"
        )
        _say(f"samlet: error: something went wrong inside samlet ({reason}); {advice}")
        return SamletError.exit_code


def _run(words: list[str]) -> int:
    parser = _parser()
    try:
        args = parser.parse_args(_joined(words))
    except SystemExit:  # after --help and --version
        return _finish(0)
    if args.command is None:
        raise InputError(
            "expected a command (segment, everything, text, edit, serve, batch, annotate, multiview, sequence, "
            "camera, models, fetch, convert, export, quantize, evaluate, compare, distill, finetune), got none; "
            "see samlet --help"
        )
    return _finish(int(args.run(args) or 0))


def _finish(code: int) -> int:
    """Flush while errors can still be reported: afterwards Python only prints a warning."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _forget(sys.stdout)
        raise OutputError(
            f"expected to write to standard output, but it failed ({error.strerror or error}); "
            "free some space or send it elsewhere"
        ) from error
    return code


class _Parser(argparse.ArgumentParser):
    """A parser that raises one sentence instead of printing a page and leaving."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    # Imported here so that `import samlet.cli` costs next to nothing; the commands import late too.
    from samlet import __version__
    from samlet.cli import (
        annotate,
        batch,
        camera,
        compare,
        convert,
        distill,
        edit,
        evaluate,
        everything,
        export,
        fetch,
        finetune,
        models,
        multiview,
        quantize,
        segment,
        sequence,
        serve,
        text,
    )

    parser = _Parser(
        prog="samlet",
        description="Cut anything out of a picture with a click, a box, a word, or everything at once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"samlet {__version__}")
    # Taken out of the words before they are parsed, so that it may stand anywhere; here only to be listed.
    parser.add_argument("--debug", action="store_true", help="on an error, also print where it came from")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    known = (
        segment,
        everything,
        text,
        edit,
        serve,
        batch,
        annotate,
        multiview,
        sequence,
        camera,
        models,
        fetch,
        convert,
        export,
        quantize,
        evaluate,
        compare,
        distill,
        finetune,
    )
    for command in known:
        command.add_parser(commands)
    return parser


def _take_debug(words: list[str]) -> tuple[list[str], bool]:
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _joined(words: list[str]) -> list[str]:
    """Write `--box -5,0,20,30` as `--box=-5,0,20,30`: argparse takes the former's value for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in _TAKES_COORDINATES and re.match(r"-[\d.]", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _forget(stream: TextIO) -> None:
    """Point a stream whose reader has left at nothing, or Python complains about it while it exits."""
    try:
        target = stream.fileno()
    except (OSError, ValueError, AttributeError):  # not a file, for instance under a test
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, target)
    os.close(nothing)
