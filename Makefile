# Everything runs in .venv, made and filled by the first command that needs it.
PYTHON ?= python3
BIN := .venv/bin
# Compiled modules are kept, wherever this is set: tests start hundreds of processes, and each would compile all of them anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo demo-anticipation demo-detection shapes-oracle shapes-student benchmark test test-slow test-pages mutants docs lint types check clean-venv

demo: .venv/demo
	$(BIN)/vidkd make_data --out runs/data/motion_shapes
	$(BIN)/vidkd study --config configs/studies/demo.yaml --out runs/demo --data.root runs/data/motion_shapes

demo-anticipation: .venv/demo
	$(BIN)/vidkd make_data --variant cued --out runs/data/cued_shapes
	$(BIN)/vidkd study --config configs/studies/demo_anticipation.yaml --workers 2 --out runs/demo-anticipation --data.root runs/data/cued_shapes

STREAMS := runs/data/street_shapes/streams

demo-detection: .venv/demo
	$(BIN)/vidkd make_data --variant street --out runs/data/street_shapes
	$(MAKE) -j 2 shapes-oracle shapes-student
	$(BIN)/vidkd train_selector $(STREAMS)/train_*.mp4 --validate '$(STREAMS)/val_*.mp4' --config tkd/shapes --threads 1 --out runs/selectors/shapes.pt --overwrite
	$(BIN)/vidkd study --config configs/studies/streams/demo_detection.yaml --data.root runs/data/street_shapes --out runs/demo-detection --workers 2
	$(BIN)/vidkd tkd $(STREAMS)/test_01.mp4 --config tkd/shapes --policy runs/selectors/shapes.pt --out runs/demo-detection/stream
	cp runs/demo-detection/stream/test_01/annotated.mp4 runs/demo-detection/

shapes-oracle shapes-student: .venv/demo
	$(BIN)/vidkd train --config configs/detection/$(subst -,_,$@).yaml --data.root runs/data/street_shapes --train.threads 1

benchmark: .venv/ready
	$(BIN)/vidkd make_data --out runs/data/motion_shapes
	$(BIN)/vidkd train --config configs/attention/motion_shapes.yaml --data.root runs/data/motion_shapes
	$(BIN)/vidkd compress --config configs/compress/demo.yaml --data.root runs/data/motion_shapes
	$(BIN)/vidkd benchmark --config configs/benchmark/demo.yaml --data.root runs/data/motion_shapes --overwrite

test: .venv/ready
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

test-pages: .venv/ready
	$(BIN)/python -m pytest -m browser

docs: .venv/ready
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

mutants: .venv/ready
	$(BIN)/python tests/mutants/mutants.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/ready
	$(BIN)/mypy

check: lint types test

# The demos need less than the tests. Both are editable installs, so that an edit of the checkout is what runs.
.venv/demo: pyproject.toml
	$(call install,report,1.3 GB with torch for processors and more for GPUs)

.venv/ready: pyproject.toml
	$(call install,test,2.2 GB with torch for processors and more for GPUs)
	touch .venv/demo

define install
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing '.[$(1)]' into .venv: about $(2); once, some minutes"
	$(BIN)/python -m pip install --editable '.[$(1)]'
	touch $@
endef

clean-venv:
	rm -rf .venv
