"""Text and names as SQL writes them."""

from __future__ import annotations


def literal(text: str) -> str:
    """A text."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
