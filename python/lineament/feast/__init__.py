"""Brings a Feast repository into a store: definitions, the files behind them, and a retrieval on both to
compare.

Feast's definitions are Python, so that only Feast can read them: install this package beside Feast, where the
repository is used, and run `python -m lineament.feast REPO --store ./store`. See docs/feast.md.
"""

from .comparison import Comparison, compare
from .definitions import Note, SourceFile, Translation, translate
from .repository import Repository, Unreadable
from .sources import read_source

__all__ = [
    "Comparison",
    "Note",
    "Repository",
    "SourceFile",
    "Translation",
    "Unreadable",
    "compare",
    "read_source",
    "translate",
]
