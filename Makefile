# Everything runs in a virtual environment that these targets make by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Of pytest's: they wait for much of the time.
PROCESSES ?= 6
PIP = $(BIN)/python -m pip --disable-pip-version-check
# A command of pip's; of what it prints, a dot for each package. Errors and warnings are shown as they come.
briefly = { $(1) || echo 'pip failed'; } | awk '/^(Collecting|Obtaining|Processing) / { printf "."; fflush() } \
	/^Installing collected/ { printf " "; printf "installing them"; fflush() } \
	/^pip failed/ { failed = 1 } END { print failed ? "" : ", done."; exit failed }'

.PHONY: serve test test-all lint types collect clients pytest test-oldest test-newest resolve audit fuzz bench instructions \
	bench-reference soak compare dashboard chaos picture clean

serve: $(VENV)/installed
	$(BIN)/runwait serve

# What takes one core is done beside the tests.
test: $(VENV)/installed-test
	$(MAKE) --jobs 2 lint types pytest

# Everything on every version of Redis, chaos at full length, and the oldest and newest versions of what
# Runwait uses. It takes long.
test-all: test
	TEST_REDIS=redis-server $(MAKE) pytest
	TEST_REDIS=redis-6.2 $(MAKE) pytest
	$(MAKE) chaos test-oldest test-newest resolve

# Of what bandit warns of: asserts tell the type checker what is known, and stand in for no check;
# what is imported is told of again where it is used.
HARMLESS = B101,B404

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --recursive app --skip $(HARMLESS)

types: $(VENV)/installed-test
	$(BIN)/python -m mypy

# Tests start hundreds of servers and import thousands of modules: each is compiled once.
collect pytest: export PYTHONDONTWRITEBYTECODE =

# Each process of pytest's would otherwise rewrite all asserts for itself.
collect: $(VENV)/installed-test
	@$(BIN)/python -m pytest --collect-only -qq >$(VENV)/collected || { cat $(VENV)/collected; exit 1; }

# Installing them takes as long as the network does, which is no test's matter.
clients: $(VENV)/installed-test
	@echo 'Installing the clients that tests ask with, where they are not there yet'
	@$(BIN)/python -m tests.e2e.programs

pytest: collect clients
	MAKEFLAGS= $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal

# What shows that Runwait works with other versions of what it uses, on one kind of Redis.
ENDS = tests/graphs tests/api tests/webhooks tests/threads tests/storage/checkpoint \
	tests/test_serialization.py tests/test_settings.py tests/test_versions.py \
	tests/e2e/test_projects.py tests/e2e/test_takeover.py tests/e2e/test_install.py \
	-k "not redis-server and not redis-6.2"

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest $(ENDS)

# Made anew each time: the newest versions are others tomorrow.
test-newest:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	@printf 'Collecting the newest versions '
	@$(call briefly,.venv-newest/bin/python -m pip install -e '.[test]')
	.venv-newest/bin/python -m pytest $(ENDS)

resolve: $(VENV)/installed
	$(BIN)/python tests/resolve.py

# Known vulnerabilities of what is deployed. It asks a service on the network, osv.dev, and fails if
# that does not answer for each package.
audit: $(VENV)/installed-test
	$(BIN)/pip-audit --strict --vulnerability-service osv --disable-pip --no-deps -r requirements.txt

# As many requests as FUZZ has for each call, made of the API's description: it takes long.
FUZZ ?= 100
fuzz: $(VENV)/installed-test
	$(BIN)/python -m tests.fuzz --max-examples $(FUZZ)

# Needs valgrind, as Debian has it.
instructions: $(VENV)/installed-test
	$(BIN)/python -m benchmarks.instructions

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks

# Runwait and LangGraph's own development server in turns, and the picture of the README with both.
bench-reference: $(VENV)/installed-test .venv-reference/installed
	$(BIN)/python -m benchmarks picture --reference .venv-reference

# Mixed load for so many minutes; fails if memory, threads, descriptors or Redis grow.
MINUTES ?= 10
soak: $(VENV)/installed-test
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

compare: $(VENV)/installed-test
	$(BIN)/python tests/compare/compare.py

# Needs prometheus and promtool, as Debian's package prometheus has them.
dashboard: $(VENV)/installed-test
	$(BIN)/python -m tests.dashboard

chaos: $(VENV)/installed-test
	$(BIN)/python -m tests.chaos

# The picture of the workbench in the README, taken anew.
picture: $(VENV)/installed-test
	$(BIN)/python -m tests.e2e.picture

clean:
	rm -rf $(VENV) .venv-* build app/*.egg-info

$(VENV)/installed: requirements.txt setup.cfg
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or newer is needed, as in: make PYTHON=python3.11")'
	@echo 'Making the virtual environment $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@printf 'Collecting packages for it '
	@$(call briefly,$(PIP) install -r requirements.txt)
	@touch $@

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt
	@printf 'Collecting packages for the tests '
	@$(call briefly,$(PIP) install -r requirements-test.txt)
	@touch $@

.venv-reference/installed:
	$(PYTHON) -m venv .venv-reference
	@printf 'Collecting the reference '
	@$(call briefly,.venv-reference/bin/python -m pip install 'langgraph-cli[inmem]')
	@touch $@

# The tools for tests are those of `make test`; pip would take them for part of the resolution.
.venv-oldest/installed: requirements-oldest.txt requirements-test.txt setup.cfg
	$(PYTHON) -m venv .venv-oldest
	@printf 'Collecting the oldest versions '
	@$(call briefly,.venv-oldest/bin/python -m pip install -r requirements-oldest.txt)
	@grep -v '^-r' requirements-test.txt | .venv-oldest/bin/python -m pip install --quiet --no-deps -r /dev/stdin
	@touch $@
