"""`python -m lineament.feast REPO`: brings a Feast repository into a store, and compares one retrieval on
both."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..client import Client, connect
from ..errors import Error
from ..server import serve
from .comparison import compare
from .definitions import SourceFile, Translation, translate
from .repository import Repository
from .sources import read_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Gives 0 where all that was asked for was done and no cell differs, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m lineament.feast",
        description="Bring a Feast repository into a store: definitions, file sources, and one retrieval on both to compare.",
    )
    parser.add_argument("repo", help="the folder with feature_store.yaml, or the one above its feature_repo")
    parser.add_argument("--folder", default="features", help="where the definitions are written (features)")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--store", help="a store to serve meanwhile, made where there is none")
    place.add_argument(
        "--url", help="a server that runs; without it and --store only definitions are written"
    )
    parser.add_argument(
        "--rows", type=int, default=1_000, help="about how many rows a view are compared (1000); 0 for none"
    )
    given = parser.parse_args(arguments)
    try:
        return _import(given)
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _import(given: argparse.Namespace) -> int:
    repository = Repository(given.repo)
    translation = translate(repository.contents, repository.folder)
    if not translation.files:
        print("the repository defines nothing that has a counterpart here")
        _print_notes(translation)
        return 1
    written = translation.write(Path(given.folder))
    print(f"{len(written)} definitions written to {given.folder}")
    _print_notes(translation)
    if given.store is None and given.url is None:
        return 0
    with ExitStack() as stack:
        client = _client(stack, given)
        print(client.apply(given.folder))
        for source in translation.sources:
            _ingest(client, source)
        if given.rows <= 0:
            return 0
        compared = compare(client, repository, translation.sources, given.rows)
        print(compared)
        return 0 if compared.same else 1


def _client(stack: ExitStack, given: argparse.Namespace) -> Client:
    if given.url is not None:
        return stack.enter_context(connect(given.url))
    return stack.enter_context(serve(given.store)).connect()


def _ingest(client: Client, source: SourceFile) -> None:
    table = read_source(source)
    if table.num_rows == 0:
        print(f"{source.view}: the source has no rows")
        return
    # The same file again is the same request.
    print(client.ingest(source.view, table, claim="back_fill"))


def _print_notes(translation: Translation) -> None:
    for title, lost in (("no counterpart", True), ("other than in Feast", False)):
        notes = [note for note in translation.notes if note.lost is lost]
        if notes:
            print(f"{title}:")
            for note in notes:
                print(f"  {note}")


if __name__ == "__main__":
    sys.exit(main())
