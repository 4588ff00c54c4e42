"""`samlet fetch`: download models ahead of time, or carry them to a computer without network."""

import argparse
from pathlib import Path


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "fetch",
        help="download models ahead of time",
        description="Download the files of models into the cache, compare them with their published digests, and "
        "print where they lie. What is here already is compared too, and downloaded again if it is damaged.",
        epilog="SAMLET_CACHE, SAMLET_MIRROR and SAMLET_OFFLINE are explained in docs/how-to/offline.md.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="a model; samlet models lists them")
    parser.add_argument(
        "--to", metavar="DIR", help="also put copies into this folder, to carry them elsewhere"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fetch the files of each model in turn.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        UnknownModelError: There is no model of that name.
        ModelError: A file cannot be had, or is not the one its card names.
        InputError: A setting of the environment makes no sense.
        OutputError: The disk is full or cannot be written.
    """
    from samlet import store
    from samlet.registry import resolve

    cards = [resolve(name) for name in args.names]  # a name that is wrong stops us before any download
    for card in cards:
        for file in card.files:
            path = store.fetch(file, verify=True)
            if args.to is not None:
                path = store.copy_to(file, Path(args.to))
            print(f"{card.name}: {path}", flush=True)
    return 0
