"""The command line: words in, one call of the library out."""

from jaxkd.cli._main import main

__all__ = ["main"]
