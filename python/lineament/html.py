"""HTML for notebooks. Whatever comes from data or people is escaped here, and nowhere else is HTML put
together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as _escape


def escaped(text: object) -> str:
    """Text that stands for itself, in an element and in a quoted attribute."""
    return _escape(str(text), quote=True)


def paragraph(text: object) -> str:
    """Text as a paragraph; its line breaks stay."""
    return f"<p>{escaped(text).replace(chr(10), '<br>')}</p>"


def heading(text: object, note: object = "") -> str:
    """A line that says what follows, with something smaller beside it."""
    beside = f" <small>{escaped(note)}</small>" if note != "" else ""
    return f"<p><b>{escaped(text)}</b>{beside}</p>"


def table(rows: Iterable[Sequence[object]], head: Sequence[object] = ()) -> str:
    """Rows of cells under their head; nothing where there is neither."""
    body = "".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    if not body and not head:
        return ""
    names = "".join(f"<th>{escaped(name)}</th>" for name in head)
    top = f"<thead><tr>{names}</tr></thead>" if names else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"


def facts(pairs: Iterable[tuple[object, object]]) -> str:
    """Names with what is true of them; pairs without a value are left out."""
    body = "".join(
        f"<tr><th>{escaped(name)}</th><td>{escaped(value)}</td></tr>"
        for name, value in pairs
        if value not in (None, "")
    )
    return f"<table><tbody>{body}</tbody></table>" if body else ""


def listing(lines: Sequence[object]) -> str:
    """Lines as a list; nothing where there are none."""
    return "<ul>" + "".join(f"<li>{escaped(line)}</li>" for line in lines) + "</ul>" if lines else ""
