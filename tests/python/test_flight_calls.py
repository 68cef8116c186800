"""Every call of Flight by plain pyarrow.flight: spines that are kept, sets that are read side by side, sessions, cancelling."""

import json
import struct
from concurrent.futures import ThreadPoolExecutor

import pyarrow
import pyarrow.flight as flight
import pytest
import readings
from program import Server


@pytest.fixture(scope="module")
def plain(readings_client, server):
    with flight.connect(server.url) as connection:
        yield connection


def command(**body) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(json.dumps(body))


def ticket(**body) -> flight.Ticket:
    return flight.Ticket(json.dumps(body))


def rows_and_report(reader) -> tuple[pyarrow.Table, dict]:
    batches, last = [], None
    for chunk in reader:
        if chunk.data is not None and chunk.data.num_rows:
            batches.append(chunk.data)
        last = chunk.app_metadata
    return pyarrow.Table.from_batches(batches, reader.schema), json.loads(last.to_pybytes())


def keep(connection, rows: pyarrow.Table) -> dict:
    writer, answers = connection.do_put(command(spine={}), rows.schema)
    with writer:
        writer.write_table(rows)
        writer.done_writing()
        return json.loads(answers.read().to_pybytes())


def record(connection, rows: pyarrow.Table, features: list[str]) -> str:
    wanted = {"features": features, "spine": keep(connection, rows)["spine"]}
    return rows_and_report(connection.do_get(ticket(historical_features=wanted)))[1]["training_set"]


def test_a_spine_goes_up_once_and_is_asked_for_many_times(plain):
    kept = keep(plain, readings.spine())
    assert (kept["rows"], kept["repeated"]) == (readings.spine().num_rows, False)
    assert keep(plain, readings.spine()) == {**kept, "repeated": True}
    wanted = {"features": ["reading.value"], "spine": kept["spine"]}
    table, report = rows_and_report(plain.do_get(ticket(historical_features=wanted)))
    assert table.select(readings.spine().column_names).equals(readings.spine())
    assert table["value"].to_pylist() == readings.VALUES
    assert report["training_set"] is not None
    # Without rows of its own, an exchange names the spine too.
    writer, reader = plain.do_exchange(command(historical_features={**wanted, "features": ["reading.quality"]}))
    with writer:
        writer.begin(pyarrow.schema([]))
        writer.done_writing()
        table, _ = rows_and_report(reader)
    assert table["quality"].to_pylist() == readings.QUALITIES


def test_a_recorded_set_is_read_from_all_its_endpoints_at_once_and_after_a_restart(tmp_path_factory):
    store = tmp_path_factory.mktemp("restarted") / "store"
    rows = 300_000
    times = pyarrow.array([1_704_106_800_000_000 + (row % 500) * 60_000_000 for row in range(rows)], pyarrow.int64())
    spine = pyarrow.table({
        "sensor": pyarrow.array([("a", "b", "c")[row % 3] for row in range(rows)]),
        "at": times.cast(pyarrow.timestamp("us", "UTC")),
        "label": pyarrow.array(range(rows), pyarrow.int64()),
    })  # fmt: skip
    with Server(store) as server:
        import lineament

        with lineament.connect(server.url) as client:
            client.apply(readings.DEFINITIONS)
            client.ingest("reading", readings.rows())
            expected = client.get_historical_features(spine, ["reading.value", "reading.grade"])
            assert client.training_set(expected.id).to_arrow().equals(expected.to_arrow())
        with flight.connect(server.url) as connection:
            info = connection.get_flight_info(command(training_set=expected.id))
    assert (len(info.endpoints), info.total_records, info.ordered) == (2, rows, True)
    # The server is another; the tickets are the old ones.
    with Server(store) as server, flight.connect(server.url) as connection, ThreadPoolExecutor(4) as threads:

        def read(endpoint):
            return rows_and_report(connection.do_get(endpoint.ticket))

        parts = list(threads.map(read, info.endpoints))
        again = list(threads.map(read, reversed(info.endpoints)))
    table = pyarrow.concat_tables([table for table, _ in parts])
    assert table.equals(expected.to_arrow().replace_schema_metadata(table.schema.metadata))
    assert [part.equals(other) for (part, _), (other, _) in zip(parts, reversed(again), strict=True)] == [True, True]
    spans = [(report["from"], report["until"], report["verdict"]) for _, report in parts]
    assert spans == [(0, 262_144, "equal"), (262_144, rows, "equal")]
    assert {report["digest"] for _, report in parts} == {expected.digest}


# Messages of Flight.proto, field by field: pyarrow has no calls for them.


def message(number: int, content: bytes) -> bytes:
    assert number < 16
    length, size = len(content), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def action(connection, name: str, body: bytes = b"", options: flight.FlightCallOptions | None = None) -> bytes:
    [result] = connection.do_action(flight.Action(name, body), options)
    return result.body.to_pybytes()


class Cookies(flight.ClientMiddlewareFactory):
    """What a client with cookies does."""

    def __init__(self) -> None:
        self.cookie = None

    def start_call(self, info):
        return self.Call(self)

    class Call(flight.ClientMiddleware):
        def __init__(self, factory) -> None:
            self.factory = factory

        def sending_headers(self):
            return {"cookie": self.factory.cookie} if self.factory.cookie else {}

        def received_headers(self, headers):
            for cookie in headers.get("set-cookie", []):
                self.factory.cookie = cookie.split(";")[0]


def test_a_session_names_the_run_of_its_calls(readings_client, server):
    def option(name: str, text: str) -> bytes:
        return message(1, message(1, name.encode()) + message(2, message(1, text.encode())))

    cookies = Cookies()
    with flight.connect(server.url, middleware=[cookies]) as connection:
        body = option("run", "session-run") + option("colour", "red")
        # The one that is not known is named: INVALID_NAME.
        assert action(connection, "SetSessionOptions", body) == message(1, message(1, b"colour") + message(2, b"\x08\x01"))
        assert option("run", "session-run") in action(connection, "GetSessionOptions")
        wanted = {"features": ["reading.value"], "spine": keep(connection, readings.spine())["spine"]}
        _, report = rows_and_report(connection.do_get(ticket(historical_features=wanted)))
        runs = f"SELECT run FROM lineament.training_sets WHERE training_set = '{report['training_set']}'"
        assert "session-run" in str(readings_client.sql(runs).to_arrow()["run"].to_pylist())
        assert action(connection, "CloseSession") == b"\x08\x01"
        assert option("run", "session-run") not in action(connection, "GetSessionOptions")


def test_a_running_query_is_cancelled(plain):
    long = "SELECT r.value, n.value FROM reading r CROSS JOIN generate_series(1, 100000000) n"
    info = plain.get_flight_info(flight.FlightDescriptor.for_command(long))
    reader = plain.do_get(info.endpoints[0].ticket)
    reader.read_chunk()
    assert action(plain, "CancelFlightInfo", message(1, info.serialize())) == b"\x08\x01"
    with pytest.raises(flight.FlightCancelledError, match="cancelled by its caller"):
        while True:
            reader.read_chunk()
    with pytest.raises(pyarrow.ArrowKeyError, match="nothing of this query"):
        action(plain, "CancelFlightInfo", message(1, info.serialize()))


def test_an_endpoint_is_renewed(plain):
    info = plain.get_flight_info(flight.FlightDescriptor.for_command("SELECT 7 AS seven"))
    endpoint = flight.FlightEndpoint.deserialize(
        action(plain, "RenewFlightEndpoint", message(1, info.endpoints[0].serialize()))
    )
    assert plain.do_get(endpoint.ticket).read_all()["seven"].to_pylist() == [7]


@pytest.mark.parametrize("name", ["BeginTransaction", "EndTransaction", "BeginSavepoint", "EndSavepoint"])
def test_transactions_are_refused(plain, name):
    with pytest.raises(NotImplementedError, match="not supported"):
        action(plain, name)


def sql_command(name: str, *fields: bytes) -> flight.FlightDescriptor:
    url = f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()
    return flight.FlightDescriptor.for_command(message(1, url) + message(2, b"".join(fields)))


def told(connection, descriptor: flight.FlightDescriptor) -> pyarrow.Table:
    """What a command says, which has the schema that was announced."""
    info = connection.get_flight_info(descriptor)
    table = connection.do_get(info.endpoints[0].ticket).read_all()
    assert table.schema.equals(info.schema)
    assert connection.get_schema(descriptor).schema.equals(info.schema)
    return table


def test_commands_of_flight_sql(plain):
    assert told(plain, sql_command("CommandGetCatalogs"))["catalog_name"].to_pylist() == ["store"]
    assert "lineament" in told(plain, sql_command("CommandGetDbSchemas"))["db_schema_name"].to_pylist()
    tables = told(plain, sql_command("CommandGetTables", message(3, b"reading"), b"\x28\x01"))
    [schema] = tables["table_schema"].to_pylist()
    assert "value" in pyarrow.ipc.read_schema(pyarrow.py_buffer(schema)).names
    assert told(plain, sql_command("CommandGetTableTypes"))["table_type"].to_pylist() == ["TABLE", "VIEW"]
    keys = told(plain, sql_command("CommandGetPrimaryKeys", message(3, b"reading")))
    assert keys["column_name"].to_pylist() == ["sensor", "valid_at"]
    for name in ("CommandGetExportedKeys", "CommandGetImportedKeys"):
        assert told(plain, sql_command(name, message(3, b"reading"))).num_rows == 0
    both = sql_command("CommandGetCrossReference", message(3, b"reading"), message(6, b"reading"))
    assert told(plain, both).num_rows == 0
    info = told(plain, sql_command("CommandGetSqlInfo", message(1, struct.pack("3B", 0, 3, 9))))
    assert info["value"].to_pylist() == ["Lineament", True, True]
    with pytest.raises(NotImplementedError, match="Arrow's own"):
        plain.get_flight_info(sql_command("CommandGetXdbcTypeInfo"))
    with pytest.raises(NotImplementedError, match="Substrait"):
        plain.get_flight_info(sql_command("CommandStatementSubstraitPlan"))
