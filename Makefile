# Everything runs in a virtual environment that these targets make by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
# Of what pip prints, a dot for each package; errors and warnings are shown as they come. The exit
# code says whether pip came to its end.
BRIEFLY = awk '/^(Collecting|Obtaining|Processing) / { printf "."; fflush() } \
	/^Installing collected/ { printf " "; printf "installing them"; fflush() } \
	/^Successfully installed/ { whole = 1; print ", done." } END { exit !whole }'

.PHONY: serve test lint types pytest bench compare chaos clean

serve: $(VENV)/installed
	$(BIN)/runwait serve

test: lint types pytest

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-test
	$(BIN)/python -m mypy

pytest: $(VENV)/installed-test
	$(BIN)/python -m pytest

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks

compare: $(VENV)/installed-test
	$(BIN)/python tests/compare/compare.py

chaos: $(VENV)/installed-test
	$(BIN)/python -m tests.chaos

clean:
	rm -rf $(VENV) .venv-reference build *.egg-info

$(VENV)/installed: requirements.txt setup.cfg
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or newer is needed, as in: make PYTHON=python3.11")'
	@echo 'Making the virtual environment $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@printf 'Collecting packages for it '
	@$(PIP) install -r requirements.txt | $(BRIEFLY)
	@touch $@

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt
	@printf 'Collecting packages for the tests '
	@$(PIP) install -r requirements-test.txt | $(BRIEFLY)
	@touch $@
