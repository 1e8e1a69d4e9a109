# `make run` and `make test` set up all they need: a virtual environment in .venv, its packages, a build.
# They want Rust, a C compiler, and Python 3.9 or later with venv, pip and a shared libpython.

PYTHON ?= python3
APP ?= examples.flask_app:app
WORKERS ?= 4
BIND ?= 127.0.0.1:8000

VENV := $(CURDIR)/.venv
# The build links the libpython of the environment that it will serve with.
export PYO3_PYTHON := $(VENV)/bin/python

.PHONY: help run build test check bench-check unit loom integration fuzz bench bench-engine bench-memory bench-scrape bench-quick lifecycle soak pythons wheels clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## serve an example: make run [APP=examples.django_app:app] [WORKERS=4] [BIND=127.0.0.1:8000]
	VIRTUAL_ENV=$(VENV) target/release/minicorn $(APP) --workers $(WORKERS) --bind $(BIND)

build: .venv/ready ## build target/release/minicorn
	cargo build --release --locked

test: check bench-check unit loom integration ## every check: format, lints, unit, property, model and integration tests

check: .venv/ready
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --lib --features extension-module -- -D warnings

bench-check: .venv/ready
	$(VENV)/bin/python -m unittest discover --start-directory bench

unit: .venv/ready
	cargo test --locked --lib --bins

# A package of its own, which needs neither Python nor the server.
loom: ## check the hand-off between threads in all its orders, under a minute
	cd tests/loom && cargo fmt --check && cargo clippy --locked --release --all-targets -- -D warnings
	cd tests/loom && cargo test --locked --release

integration: .venv/ready
	tests/needs.sh
	VIRTUAL_ENV=$(VENV) cargo test --locked --test integration

# A stamp instead of the folder, whose time changes with every package.
.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys, sysconfig; \
	    sys.version_info >= (3, 9) or sys.exit("minicorn needs Python 3.9 or later, $(PYTHON) is " + sys.version.split()[0]); \
	    sysconfig.get_config_var("Py_ENABLE_SHARED") or sys.exit("minicorn needs a Python with a shared libpython; $(PYTHON) has none (on Debian: apt-get install libpython3-dev)")'
	@# Made anew when there is none, or when it belongs to another Python.
	$(PYTHON) -m venv $(VENV) || $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

fuzz: .venv/ready ## fuzz the request parser for 10 minutes: make fuzz [SECONDS=600]
	mkdir -p tests/fuzz/corpus/request
	cd tests/fuzz && LD_LIBRARY_PATH="$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')" \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . request corpus/request seeds -- -max_total_time=$(or $(SECONDS),600) -max_len=2048

bench: build ## measure minicorn beside its peers, about 25 minutes
	$(PYTHON) bench/bench.py $(BENCH)

bench-engine: build ## measure what the worker engine promises, about 15 minutes
	$(PYTHON) bench/engine.py $(BENCH)

bench-memory: build ## weigh four Flask workers with and without --preload, about 2 minutes
	$(PYTHON) bench/memory.py $(BENCH)

bench-scrape: build ## measure what it costs to be watched (--admin-bind), about 2 minutes
	$(PYTHON) bench/scrape.py $(BENCH)

soak: build ## mixed load and killed workers for half an hour: make soak [BENCH="--minutes 5"]
	$(PYTHON) bench/soak.py $(BENCH)

lifecycle: .venv/ready ## reloads, kills and recycling under load, also behind nginx and HAProxy, about 7 minutes
	tests/needs.sh
	$(PYTHON) bench/lifecycle.py $(BENCH)

bench-quick: build ## the same in 3 minutes
	$(PYTHON) bench/bench.py --quick $(BENCH)

pythons: ## build with each CPython of PYTHONS="python3.10 python3.11 …", and serve Flask with it
	tests/pythons.sh $(PYTHONS)

wheels: .venv/ready ## build the package for each CPython of PYTHONS="python3.10 python3.11 …", install it, and test it there
	tests/wheels.sh $(PYTHONS)

clean: ## remove what was built and installed here
	rm -rf target .venv bench/.venv bench/results tests/loom/target
