# Two commands for a fresh machine: `make demo` and `make test`. While working: `make check`.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

# Whole files, the longest first (tests/pace.py); one thread, as toy models gain nothing from more.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo lint check test coverage pace docs install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,pictures,test]"
	touch $@

demo: install
	$(BIN)/hpo run quickstart

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(PYTEST) -m "not slow"

test: lint
	$(PYTEST)

coverage: install
	$(PYTEST) --cov --cov-report=term:skip-covered

pace: install
	$(PYTEST) --pace

docs: install
	$(BIN)/python -m tests.docs

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .coverage*
