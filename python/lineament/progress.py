"""Progress of what takes a while: one line on standard error, where a person watches, in a terminal or a
notebook."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

#: Nothing is shown of what takes less, in seconds.
_PATIENCE = 0.5
#: How often the line is drawn at most, in seconds.
_EVERY = 0.1
_WIDTH = 32


class Progress:
    """A bar that counts rows; without a total, the count alone. Where nobody watches it does nothing.

    `shown`: whether it is; None leaves it to `watched`.
    """

    def __init__(self, what: str, total: int | None = None, *, shown: bool | None = None) -> None:
        self.what = what
        self.total = total
        self.rows = 0
        self._stream: TextIO = sys.stderr
        self._shown = watched(self._stream) if shown is None else shown
        self._began = self._stage_began = time.monotonic()
        self._drawn = 0.0
        self._width = 0

    def add(self, rows: int) -> None:
        """So many more rows are done."""
        self.rows += rows
        if self._shown:
            now = time.monotonic()
            if now - self._began >= _PATIENCE and now - self._drawn >= _EVERY:
                self._drawn = now
                self._draw(self._line(now))

    def stage(self, what: str, total: int | None = None) -> None:
        """Something else begins, and counts from 0."""
        self.what, self.total, self.rows = what, total, 0
        self._stage_began = time.monotonic()
        self.add(0)

    def close(self) -> None:
        """Takes the line away: what was done is the caller's to say."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, now: float) -> str:
        rate = self.rows / max(now - self._stage_began, 1e-9)
        if not self.total:
            return f"{self.what}  {self.rows:,} rows"
        done = min(self.rows / self.total, 1.0)
        full = int(done * _WIDTH)
        left = f", {(self.total - self.rows) / rate:,.0f} s left" if 0 < self.rows < self.total else ""
        bar = "█" * full + "░" * (_WIDTH - full)
        return f"{self.what}  {bar}  {self.rows:,} of {self.total:,} rows ({done:.0%}{left})"

    def _draw(self, line: str) -> None:
        blank = " " * max(0, self._width - len(line))
        self._width = len(line)
        self._write(f"\r{line}{blank}")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError, UnicodeError):
            # A closed or narrow stream is no reason to fail what is being shown.
            self._shown = False


def watched(stream: TextIO | None) -> bool:
    """Whether a person sees what is written to a stream: it is a terminal, or the output of a notebook's
    cell."""
    if stream is None:
        return False
    try:
        if stream.isatty():
            return True
    except (AttributeError, ValueError):
        return False
    # A notebook's stream is of the kernel's own class; a redirected one is not.
    return type(stream).__module__.partition(".")[0] == "ipykernel"
