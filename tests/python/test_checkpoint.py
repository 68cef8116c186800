"""Checkpoints: a store opens from one, and does without where it is damaged."""

import re
import subprocess

import pyarrow.parquet
import readings
from program import command, fails, run

ROWS = "SELECT count(*) AS rows FROM reading"


def test_a_checkpoint_is_written_and_holds(readings_client, server):
    written = re.fullmatch(r"checkpoint (\d+): (blake3:[0-9a-f]{64})\n", run(server.store, "checkpoint"))
    assert written is not None
    sequence, digest = written.groups()
    assert run(server.store, "checkpoint") == written[0], "nothing came after it, and it was written again"
    held = run(server.store, "checkpoint", "--check")
    assert held == f"checkpoint {sequence} holds: {int(sequence) + 1} entries fold to {digest}\n"
    # Other readers need no code of ours.
    folder = server.store / "checkpoints" / f"{int(sequence):020}"
    (batches,) = folder.glob("batches-*.parquet")
    table = pyarrow.parquet.read_table(batches)
    assert table["rows"].to_pylist() == [readings.rows().num_rows]


def test_a_damaged_checkpoint_is_passed_over_and_changes_no_answer(readings_client, server):
    run(server.store, "checkpoint")
    newest = max((server.store / "checkpoints").iterdir())
    expected = run(server.store, "sql", ROWS)
    objects = sorted(newest.iterdir())
    assert len(objects) >= 4
    for path in objects:
        whole = path.read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
            path.write_bytes(damaged)
            done = subprocess.run(command(server.store, "sql", ROWS), capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stdout) == (0, expected), done.stderr
            assert f"{path.name} " in done.stderr or f"{path.name}:" in done.stderr, done.stderr
            assert "was passed over" in done.stderr
        path.write_bytes(whole)
    assert run(server.store, "sql", ROWS) == expected
    for path in objects:
        path.write_bytes(b"damaged")
    for earlier in set((server.store / "checkpoints").iterdir()) - {newest}:
        for path in earlier.iterdir():
            path.write_bytes(b"damaged")
    assert "was passed over" in fails(server.store, "checkpoint", "--check")
    run(server.store, "checkpoint")
    assert "holds" in run(server.store, "checkpoint", "--check")
