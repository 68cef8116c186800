"""A consumer of OpenLineage events: a real HTTP server, in a process of its own so that it can be killed.

    python openlineage_consumer.py PORT FILE [PAUSE]

It appends each event to FILE, one a line, and answers 201. A line of FILE.answers, if there is one, is the status of
the next answer instead, with a header where one follows (`429 Retry-After: 1`); such an event is not taken. PAUSE is
how many seconds each event takes.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, FILE = int(sys.argv[1]), Path(sys.argv[2])
PAUSE = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
ANSWERS = FILE.with_suffix(".answers")


class Consumer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(PAUSE)
        answer = self.next_answer()
        if answer is None:
            assert self.path == "/api/v1/lineage", self.path
            assert self.headers["Content-Type"] == "application/json"
            with FILE.open("ab") as file:
                file.write(body + b"\n")
            answer = "201"
        status, _, header = answer.partition(" ")
        said = b"" if status == "201" else b"not this one"
        self.send_response(int(status))
        if header:
            self.send_header(*header.split(": ", 1))
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def next_answer(self) -> str | None:
        if not ANSWERS.exists():
            return None
        first, *rest = ANSWERS.read_text().splitlines() or [""]
        ANSWERS.write_text("\n".join(rest))
        return first or None

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Consumer).serve_forever()
