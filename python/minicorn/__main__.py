"""The command: ``minicorn``, or ``python -m minicorn``."""

import sys

from . import _AGAIN, _minicorn


def main() -> int:
    """Do what the command line says; the result is the exit status."""
    return _minicorn.command(sys.argv, _AGAIN)


if __name__ == "__main__":
    sys.exit(main())
