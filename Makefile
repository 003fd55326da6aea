# Everything runs in a virtual environment of its own, made from the locked versions.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup test faults demo lint types lock clean

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "sempart_jax needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Trainings killed 30 times, and on broken disks; `make test` has a short form of it.
faults: $(INSTALLED)
	SEMPART_KILLS=$${SEMPART_KILLS:-30} $(BIN)/python -m pytest -s tests/faults

demo: $(INSTALLED)
	$(BIN)/python scripts/demo.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

# The lock holds for every platform and for Python 3.11 and newer; needs `pip install uv`.
lock:
	uv pip compile --universal --python-version 3.11 --extra test --extra dev \
		--no-emit-index-url --no-header --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV)
