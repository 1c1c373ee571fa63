# Everything runs in a virtual environment that these targets make by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: serve test lint types pytest bench compare clean

serve: $(VENV)/installed
	$(BIN)/gunicorn -c config/gunicorn.py wsgi:app

test: lint types pytest

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-test
	$(BIN)/mypy

pytest: $(VENV)/installed-test
	$(BIN)/python -m pytest

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks

compare: $(VENV)/installed-test
	$(BIN)/python tests/compare/compare.py

clean:
	rm -rf $(VENV) .venv-reference build *.egg-info

$(VENV)/installed: setup.cfg requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[test]'
	touch $@
