# Everything runs in .venv, made and filled by the first command that needs it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo demo-anticipation benchmark test test-slow lint types check clean-venv

demo: .venv/ready
	$(BIN)/vidkd make_motion_shapes --out runs/data/motion_shapes
	$(BIN)/vidkd compare configs/studies/demo.yaml --out runs/demo --data.root runs/data/motion_shapes

demo-anticipation: .venv/ready
	$(BIN)/vidkd make_motion_shapes --variant cued --out runs/data/cued_shapes
	$(BIN)/vidkd compare configs/studies/demo_anticipation.yaml --out runs/demo-anticipation --data.root runs/data/cued_shapes

BENCHMARKED := original pruned lowrank int8 all

benchmark: .venv/ready
	$(BIN)/vidkd make_motion_shapes --out runs/data/motion_shapes
	$(BIN)/vidkd train --config configs/attention/motion_shapes.yaml --data.root runs/data/motion_shapes
	set -e; for name in $(BENCHMARKED); do \
		$(BIN)/vidkd compress --config configs/compress/demo_$$name.yaml --data.root runs/data/motion_shapes; \
	done
	$(BIN)/vidkd benchmark configs/benchmark/demo.yaml --data.root runs/data/motion_shapes

test: .venv/ready
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/ready
	$(BIN)/mypy

check: lint types test

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch .venv/ready

clean-venv:
	rm -rf .venv
