# make test     everything: Rust, the executable specification, README's commands, Python against the real server, and the lints
# make lint     format, clippy, documentation build, licences and sources of dependencies, types of the Python package
# make simulate the laws of retrieval, 100,000 random cases of them (CASES=…), and 2,000 kills of real programs (KILLS=…)
# make bench    our retrieval beside DuckDB's, on the same data in the same run
# make wheel    the Python package with the server's program in it, into target/wheels
# make demo     README's first command

# Cargo shares out its work itself: with the tokens of make, where it finds them (from 4.4 on), it would wait for what runs beside it.
CARGO  ?= env -u MAKEFLAGS -u MFLAGS cargo
PYTHON ?= python3.11
VENV   := .venv
FEAST  := .venv-feast
# Quickly built (Cargo.toml); what is measured and what users build for work is of the profile `release`.
PROFILE := quick
MAKEFLAGS += --no-print-directory
BIN    := target/$(PROFILE)/lineament
WHEEL_BIN := target/wheel/lineament
AZURITE := target/azurite
S3S    := target/s3s-fs

# nextest where it is installed, else cargo's own runner: the same tests.
RUST_TESTS := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo "nextest run --cargo-profile" || echo "test --profile") $(PROFILE)

.PHONY: demo build wheel test test-rust tools served test-readme test-python lint-meanwhile lint cargo-deny deny types simulate bench clean

demo:
	$(CARGO) run --profile $(PROFILE) -- demo

# With BUILT it is there, and is not asked of a cargo that waits for another one.
build:
	$(if $(BUILT),,$(CARGO) build --profile $(PROFILE) --workspace)

test:
	$(MAKE) --jobs 2 test-rust tools
	$(MAKE) build
	$(MAKE) --jobs 2 BUILT=yes served lint-meanwhile

# What tests and lints need beside Rust: brought here while it is built, from networks that make wait.
tools:
	nice -n 19 $(MAKE) $(VENV)/.made $(FEAST)/.made $(AZURITE)/.made $(S3S)/.made cargo-deny

# Half of the time what is served waits for a server, a clock or a signal; lints have what is left of the cores, and nothing else.
served:
	$(MAKE) test-readme
	$(MAKE) test-python

lint-meanwhile:
	nice -n 19 $(MAKE) lint

test-rust:
	$(CARGO) $(RUST_TESTS) --workspace

# Python's part: a virtual environment with pinned packages, made once. They are compiled as they are put in: where Python may not write
# bytecode (PYTHONDONTWRITEBYTECODE), each process that imports MLflow or Feast would compile for seven seconds.
$(VENV)/.made: tests/python/requirements.txt python/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -e ./python
	touch $@

# Feast, which takes in our events in a test, and whose repositories are brought here; it does not go with our packages.
$(FEAST)/.made: tests/python/requirements-feast.txt python/pyproject.toml
	$(PYTHON) -m venv $(FEAST)
	$(FEAST)/bin/pip install --quiet --disable-pip-version-check -r tests/python/requirements-feast.txt
	$(FEAST)/bin/pip install --quiet --disable-pip-version-check --no-deps -e ./python
	touch $@

# Azure's storage, as its makers' emulator has it; Node comes in a Python package.
$(AZURITE)/.made: $(VENV)/.made
	$(VENV)/bin/npm install --silent --no-audit --no-fund --prefix $(AZURITE) azurite@3.35.0
	touch $@

# A storage whose put-if-absent is none, and which must be refused. Unoptimised: it is asked for a few objects.
$(S3S)/.made:
	$(CARGO) install --quiet --debug --locked --root $(S3S) s3s-fs --version 0.14.1 --features binary
	touch $@

# Two files at a time: half of the time a test waits for a server, a clock or a signal.
test-python: build $(VENV)/.made $(FEAST)/.made $(AZURITE)/.made $(S3S)/.made
	LINEAMENT_BIN=$(BIN) $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile tests/python

# The wheel has a program of its own profile, smaller, and half an hour in the making; so the tests of every day pack the
# program that they have. The same tests are run with the one that is given away, and then its size must be what was promised.
wheel: $(VENV)/.made
	$(CARGO) build --profile wheel --bin lineament
	LINEAMENT_WHEEL_PROGRAM=$(abspath $(WHEEL_BIN)) $(VENV)/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir target/wheels ./python
	LINEAMENT_WHEEL_PROGRAM=$(abspath $(WHEEL_BIN)) $(VENV)/bin/python -m pytest -q -s tests/python/test_wheel.py

# What README shows is run as it stands there, in its order.
test-readme: build $(VENV)/.made
	LINEAMENT_BIN=$(BIN) $(VENV)/bin/python tests/readme.py

lint: deny types
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --profile $(PROFILE) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --profile $(PROFILE) --workspace --no-deps

# It works for a second, so that it is not built for speed.
cargo-deny:
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --quiet --debug --locked cargo-deny --version 0.20.2

# Licences are those of the crates of all platforms, so these are fetched. Advisories are not checked: their database is in no
# package registry.
deny: cargo-deny
	$(CARGO) fetch --quiet --locked
	$(CARGO) deny --offline check bans licenses sources

# What the Python package says of its types (`py.typed`) is true of itself; python/pyproject.toml says how strictly.
types: $(VENV)/.made
	cd python && $(abspath $(VENV))/bin/mypy

# The law of retrieval, and what else the suite draws at random; then real programs, killed at random moments.
CASES ?= 100000
KILLS ?= 2000
simulate: build $(VENV)/.made
	LINEAMENT_CASES=$(CASES) $(CARGO) $(RUST_TESTS) --workspace --test main
	LINEAMENT_BIN=$(BIN) LINEAMENT_KILLS=$(KILLS) $(VENV)/bin/python -m pytest -q -rP -n 2 --dist load \
		tests/python/test_kill.py tests/python/test_stream_ingest.py::test_the_server_killed_in_the_middle

bench: $(VENV)/.made
	$(CARGO) build --release --workspace
	LINEAMENT_BIN=target/release/lineament $(VENV)/bin/python bench/pit_flights.py

clean:
	$(CARGO) clean
	rm -rf $(VENV) $(FEAST)
