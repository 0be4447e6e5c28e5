# Each target does its own set-up. PYTHON chooses the interpreter, SERVE=0 ends `make demo` after the export.
PYTHON ?= python3
SERVE ?= 1
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint format bench lock setup clean

setup: .venv/.winnow-train

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Winnow needs Python 3.10 or newer: run make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv

# requirements.txt: what the notebooks need. The stamp makes a second run immediate.
.venv/.winnow-train: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

# requirements-dev.txt: the same, and the tests, benchmarks and a browser.
.venv/.winnow-dev: requirements-dev.txt tests/install_browser.py | .venv/bin/python
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	$(BIN)/python tests/install_browser.py
	@touch $@ .venv/.winnow-train

demo: .venv/.winnow-train
	$(BIN)/winnow demo $(if $(filter 0,$(SERVE)),--no-serve,--serve)

test: .venv/.winnow-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.winnow-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/check_notebooks.py

format: .venv/.winnow-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tests/check_notebooks.py --fix

# One table and one line of JSON each; DATA is a folder with train/, validation/ and test/ class folders.
bench: .venv/.winnow-dev
	for area in collect learn clean share page scale; do $(BIN)/python benchmarks/$$area.py $(if $(DATA),--data $(DATA)); done

# One universal resolution for Linux and macOS; no registry's host name gets into the files.
LOCK := $(BIN)/uv pip compile --universal --python-version 3.10 --no-emit-index-url --no-annotate --no-header --quiet
lock: | .venv/bin/python
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) pyproject.toml --all-extras -o requirements-dev.txt
	$(LOCK) pyproject.toml --extra train -c requirements-dev.txt -o requirements.txt
	$(LOCK) pyproject.toml --extra binder -c requirements-dev.txt -o binder/requirements.txt

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
