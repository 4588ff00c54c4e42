"""`python -m samlet` is the same as `samlet`."""

from samlet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
