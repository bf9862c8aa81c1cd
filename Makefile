# Two commands for a newcomer: `make demo` and `make test`. Each needs only Python 3.11 or newer, and make (3.81 will do).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The build backend is installed into .venv and used from there, because pip's own build environment would ignore the pin.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet --no-compile -c constraints.txt

# Compiling every package costs a cold run a third of its time; only what is imported is compiled, and kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint types unit sim answers exhaust stepper mutants kill chaos drain determinism lowest syscalls powercut bench clean

help: ## this list
	@echo 'usage: make TARGET [PYTHON=python3.12]'
	@sed -n 's/^\([a-z][a-z]*\):.*## \(.*\)/  \1	\2/p' Makefile

demo: $(VENV)/demo.stamp ## charge some hundred intents through faults and a killed process, and compare the ledgers
	@$(BIN)/paycli demo

test: lint types unit ## everything: ruff, mypy --strict, pytest

lint: $(VENV)/dev.stamp ## ruff only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp ## mypy --strict only
	$(BIN)/mypy --strict

unit: $(VENV)/dev.stamp ## pytest only
	$(BIN)/python -m pytest -n auto --dist worksteal

# The proofs. Each prints its figures.
N ?= 100000
SEED ?= 0

sim: $(VENV)/dev.stamp ## N seeded schedules of trouble (100000), from SEED on (0); N=1 tells the story of one
	@$(BIN)/python -m tests.sim $(N) --seed $(SEED)

answers: N = 1000000
answers: $(VENV)/dev.stamp ## N answers (1000000) of a provider and of whatever stands before it; N=1 tells the story of one case
	@$(BIN)/python -m tests.answers $(N) --seed $(SEED)

exhaust: $(VENV)/dev.stamp ## every interleaving of two workers and the nightly run on one intent, with up to two faults
	@$(BIN)/python -m tests.exhaust

stepper: N = 0
stepper: $(VENV)/dev.stamp ## store functions by twos and threes on real sessions of PostgreSQL, statement by statement in every order; N cases by chance
	@$(BIN)/python -m tests.stepper $(N) --seed $(SEED)

mutants: $(VENV)/dev.stamp ## the protocol's mistakes, one line each: all must be seen by the simulator, or by the test named for it
	@$(BIN)/python -m tests.mutants

kill: N = 2000
kill: $(VENV)/dev.stamp ## N real processes (2000) ended by SIGKILL, at named points and at random
	@$(BIN)/python -m tests.kills $(N) --seed $(SEED)

MINUTES ?= 10
chaos: SEED =
chaos: $(VENV)/dev.stamp ## workers, callers and PostgreSQL killed for MINUTES (10), beside a provider that fails
	@$(BIN)/python -m tests.chaos $(MINUTES) $(if $(SEED),--seed $(SEED))

drain: $(VENV)/dev.stamp ## ten thousand pending charges and three workers, with an outage of two hours and without, on both databases
	@$(BIN)/python -m tests.drain

determinism: $(VENV)/dev.stamp ## the same schedules on every Python 3.11 to 3.13 that is present, with several hash seeds
	@$(BIN)/python -m tests.sim.determinism

lowest: $(VENV)/dev.stamp ## the lowest versions that pyproject.toml allows, in a venv of their own: paycli, PostgreSQL's driver, the demo
	@$(PYTHON) -m venv --clear $(VENV)/lowest
	@$(BIN)/python -m tests.lowest > $(VENV)/lowest/constraints.txt
	@cat $(VENV)/lowest/constraints.txt
	@$(VENV)/lowest/bin/python -m pip --disable-pip-version-check --no-input install --quiet -c $(VENV)/lowest/constraints.txt '.[postgres]'
	@cd $(VENV)/lowest && bin/python -c 'import psycopg' && bin/paycli --help > /dev/null && bin/paycli demo

syscalls: $(VENV)/dev.stamp ## (needs strace) kill, EIO, ENOSPC and EINTR at each system call of a charge and a run
	@$(BIN)/python -m tests.syscalls

powercut: $(VENV)/dev.stamp ## (needs a C compiler) unsynced writes are lost at every moment of a charge and a run
	@$(BIN)/python -m tests.powercut

bench: $(VENV)/bench.stamp ## (needs a C compiler) charges, nights and workers beside their peers; QUICK=1, FULL=1, PUBLISH=1, SECTIONS='charge night'
	@$(BIN)/python -m benchmarks $(SECTIONS) $(if $(QUICK),--quick) $(if $(FULL),--full) $(if $(PUBLISH),--publish) $(if $(ROUNDS),--rounds $(ROUNDS))

clean: ## remove .venv and everything that was generated
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# A stamp is newer than what it was made from; everything in .venv goes with it when the environment is made again.
$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "charge-once needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.12" >&2; exit 1; }
	@echo 'making $(VENV) …'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/backend.stamp: constraints.txt $(VENV)/made.stamp
	@$(INSTALL) setuptools
	@touch $@

$(VENV)/demo.stamp: pyproject.toml $(VENV)/backend.stamp
	@echo 'installing charge-once …'
	@$(INSTALL) --no-build-isolation -e .
	@touch $@

# The tools of a test run include all that the demo needs: one install serves both.
$(VENV)/dev.stamp: pyproject.toml $(VENV)/backend.stamp
	@echo 'installing charge-once and its test tools …'
	@$(INSTALL) --no-build-isolation -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@echo 'installing the peers of the benchmark …'
	@$(INSTALL) --no-build-isolation -e '.[bench]'
	@touch $@
