"""Packages that this one does without: whatever needs one says so where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(package: str, wanted: str) -> Iterator[None]:
    """Around the import of a package. Where it cannot be imported, the error says what wanted it, and how to get it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{wanted} needs {package}, which cannot be imported here ({error}); pip install 'lineament[{package}]'",
            name=package,
        ) from None
