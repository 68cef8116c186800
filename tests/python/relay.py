"""The real server behind one that looks on: what headers a call carries, and what is sent to actions.

`lineament.manifest`, which the real server does not have, is answered with the manifest that it wrote. Errors
come through as errors without a class of their own, for a Flight server in Python has no other.
"""

import json
from pathlib import Path

import pyarrow
import pyarrow.flight as flight


class _Headers(flight.ServerMiddlewareFactory):
    def start_call(self, info, headers):
        return _Call({name: values[0] for name, values in headers.items() if name.startswith("lineament-")})


class _Call(flight.ServerMiddleware):
    def __init__(self, headers):
        self.headers = headers


class Relay(flight.FlightServerBase):
    def __init__(self, url: str, store: Path) -> None:
        super().__init__("grpc://127.0.0.1:0", middleware={"headers": _Headers()})
        self._real = flight.connect(url)
        self._known = {action.type for action in self._real.list_actions()}
        self._store = store
        #: `(action, body)` of every action.
        self.taken: list[tuple[str, dict]] = []
        #: The headers of every retrieval.
        self.retrievals: list[dict[str, str]] = []
        #: Actions that the server behaves as if it had none of.
        self.without: set[str] = set()

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def bodies(self, action: str) -> list[dict]:
        return [body for name, body in self.taken if name == action]

    def _options(self, context) -> flight.FlightCallOptions:
        headers = context.get_middleware("headers").headers
        return flight.FlightCallOptions(
            headers=[(name.encode(), value.encode()) for name, value in headers.items()]
        )

    def do_action(self, context, action):
        body = json.loads(action.body.to_pybytes() or b"{}")
        if action.type in self.without:
            raise KeyError(f"there is no action `{action.type}`; actions: {', '.join(sorted(self._known))}")
        self.taken.append((action.type, body))
        if action.type == "lineament.manifest" and action.type not in self._known:
            manifest = self._store / "training_sets" / body["training_set"] / "manifest.json"
            return [manifest.read_bytes()]
        return list(self._real.do_action(action, self._options(context)))

    def get_flight_info(self, context, descriptor):
        return self._real.get_flight_info(descriptor, self._options(context))

    def do_get(self, context, ticket):
        reader = self._real.do_get(ticket, self._options(context))
        return flight.GeneratorStream(reader.schema, _chunks(reader))

    def do_exchange(self, context, descriptor, reader, writer):
        self.retrievals.append(context.get_middleware("headers").headers)
        upward, downward = self._real.do_exchange(descriptor, self._options(context))
        rows = reader.read_all()
        upward.begin(rows.schema)
        upward.write_table(rows)
        upward.done_writing()
        writer.begin(downward.schema)
        for batch, metadata in _chunks(downward):
            if metadata is None:
                writer.write_batch(batch)
            else:
                writer.write_with_metadata(batch, metadata)
        upward.close()


def _chunks(reader):
    empty = pyarrow.RecordBatch.from_pylist([], schema=reader.schema)
    for chunk in reader:
        yield empty if chunk.data is None else chunk.data, chunk.app_metadata
