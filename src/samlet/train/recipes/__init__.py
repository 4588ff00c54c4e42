"""One file a recipe; each can be read from top to bottom and run with `python -m`."""
