"""The command line: one file a command, and nothing heavy imported before it is needed."""

from samlet.cli.main import main

__all__ = ["main"]
