# `make train` and `make test` set up .venv by themselves. PYTHON: 3.11 to 3.13.
PYTHON ?= python3
# More options for `make train`: make train ARGS="--epochs 5 --output runs/first"
ARGS ?=
BIN := .venv/bin

.PHONY: train weights test test-all test-slow soak audit test-grid test-torch benchmark benchmark-check lint clean

train: .venv/installed
	$(BIN)/python train.py --model bu_net --probes encoder,bottleneck $(ARGS)

# 10 to 20 minutes on two cores, by the machine
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow"

# and the rest: whole processes, kills, other backends, installations, the grid of trainings
test-all: test test-slow test-grid

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# an hour; prints the figures of docs/reliability.md
soak: .venv/installed-dev
	$(BIN)/python tests/soak.py

# looks the pinned versions up among known vulnerabilities; needs the network
audit: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'pip-audit>=2.9,<3'
	$(BIN)/python tests/audit.py constraints.txt

test-grid: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 tests/test_identity_grid.py --grid

test-torch: .venv/installed-dev
	$(BIN)/python -m pip install --quiet 'torch>=2.8,<2.14'
	$(BIN)/python -m pytest tests/test_backends.py -k torch

# the weights that ship, from the drawn scenes; an hour
weights: .venv/installed-dev
	$(BIN)/python train.py --model nano_u --output runs/weights/nano_u
	$(BIN)/python train.py --model bu_net --output runs/weights/bu_net
	$(BIN)/python train.py --config tests/series/wide.yaml --output runs/weights/wide
	$(BIN)/python train.py --narrow runs/weights/wide --macs 2.4M --epochs 30 --output runs/weights/narrow
	$(BIN)/python tests/pack_weights.py runs/weights/nano_u=scenes runs/weights/bu_net=scenes \
		runs/weights/narrow=scenes-narrow

# an hour on two cores, which must be idle otherwise
benchmark benchmarks.json: .venv/installed-dev
	$(BIN)/python -m pytest tests/test_benchmarks.py --benchmark-only -q \
		--benchmark-json=benchmarks.json --benchmark-columns=median
	$(BIN)/python tests/benchmark_report.py benchmarks.json benchmarks.png

benchmark-check: benchmarks.json
	$(BIN)/python tests/benchmark_report.py benchmarks.json --check

clean:
	rm -rf .venv

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Expected Python 3.11 to 3.13: make PYTHON=python3.12. Received: $$($(PYTHON) --version)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[app]'
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[app,dev]'
	@touch $@
