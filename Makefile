# Everything runs in the project's own virtualenv, .venv, which is made when it is missing or out of date.
#   PYTHON=/path/to/python3.12   make it with this interpreter
#   TESTS=tests/unit/test_x.py   what `make test` runs
#   WORKERS=4                    in how many processes: most tests wait for something, so four suit two cores
#   ARGS="..."                   more arguments for the program that the target runs

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?=
TESTS ?= tests/faults tests/integration tests/property tests/unit
WORKERS ?= 4
ARGS ?=
BIN := .venv/bin

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: venv-demo ## start a cluster of three replicas and an etcd on this machine, and show what it does
	@exec $(BIN)/leaderjob demo $(ARGS)

.PHONY: test
test: venv-dev ## run the tests: unit, integration against real etcd, faults, models
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10 -m "not slow and not long" $(TESTS) $(ARGS)

.PHONY: test-long
test-long: venv-dev ## run the tests that take a good part of a minute each: whole clusters, containers, random faults
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10 -m "long and not slow" $(TESTS) $(ARGS)

.PHONY: test-all
test-all: venv-dev ## run the unit tests on every Python >= 3.11 of this machine
	@$(BIN)/python tools/every_python.py $(ARGS)

.PHONY: etcd
etcd: venv-dev ## build the newest etcd for the tests, where Go is installed; ARGS=--all builds one of each line
	@$(BIN)/python tools/build_etcd.py $(ARGS)

.PHONY: faults
faults: venv-dev ## run faults and models in every variant, on each line of etcd: hours, where the tests take minutes
	@$(BIN)/python tools/build_etcd.py --all
	@PROPERTY_PROFILE=deep $(BIN)/python -m pytest tests/faults tests/property $(ARGS)
	@$(BIN)/python -m pytest -m slow tests/integration tests/unit $(ARGS)

.PHONY: check
check: venv-dev ## lint, formatting, types, and the layers of the architecture
	@echo "check: ruff" && $(BIN)/ruff check --quiet
	@echo "check: ruff format" && $(BIN)/ruff format --check --quiet
	@echo "check: mypy" && $(BIN)/mypy --strict --no-error-summary && MYPYPATH=benchmarks $(BIN)/mypy --strict --no-error-summary benchmarks/coordination.py benchmarks/failover.py benchmarks/recipes.py benchmarks/scale.py benchmarks/soak.py benchmarks/contest benchmarks/takeover benchmarks/tournament benchmarks/endurance benchmarks/crowd
	@echo "check: import-linter" && if ! report=$$($(BIN)/lint-imports --no-logo 2>&1); then echo "$$report"; exit 1; fi

.PHONY: format
format: venv-dev ## format the code and fix what can be fixed without asking
	@$(BIN)/ruff check --quiet --fix && $(BIN)/ruff format --quiet

.PHONY: bench bench-footprint bench-etcd bench-recipes bench-failover
bench: bench-footprint bench-etcd bench-recipes bench-failover ## measure all that can be measured here, beside peers where there are any
bench-footprint: venv-dev ## measure a replica's footprint: memory, processor time, start-up
	@$(BIN)/python benchmarks/footprint.py $(ARGS)
bench-etcd: venv-dev ## measure the etcd client beside others, and beside the bare stubs
	@$(BIN)/python benchmarks/coordination.py $(ARGS)
bench-recipes: venv-dev ## measure locks, queues, topics and registries beside those of others: ARGS="--write"
	@$(BIN)/python benchmarks/recipes.py $(ARGS)
bench-failover: venv-dev ## measure how long nobody leads when a leader goes, beside others: ARGS="--trials 200 --write"
	@$(BIN)/python benchmarks/failover.py $(ARGS)

.PHONY: bench-scale
bench-scale: venv-dev ## measure many idle jobs: is office kept, and how soon are they armed? ARGS="--jobs 1000 --runs 0"
	@$(BIN)/python benchmarks/scale.py $(ARGS)

.PHONY: soak
soak: venv-dev ## keep a healthy cluster under load for twenty minutes: nobody may lose office, no fire may be missed
	@$(BIN)/python benchmarks/soak.py $(ARGS)

.PHONY: build
build: venv-dev ## build the wheel and the source distribution into dist/
	@$(BIN)/python -m hatchling build -d dist

.PHONY: constraints
constraints: ## write constraints.txt anew, with the newest versions that fit together (needs Python 3.11)
	@$(or $(PYTHON),python3.11) -B tools/constraints.py

.PHONY: clean
clean: ## remove the virtualenvs, the builds and the caches
	@rm -rf .venv .venvs dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	@find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Any Python will do to begin with: tools/make_venv.py finds one that is new enough, or says what to install.
.PHONY: venv-demo venv-dev
venv-demo venv-dev:
	@for any in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
		if "$$any" -c "" >/dev/null 2>&1; then \
			exec "$$any" -B tools/make_venv.py --extras $(@:venv-%=%) $(if $(PYTHON),--python "$(PYTHON)"); \
		fi; \
	done; \
	echo "leaderjob: no Python was found: install Python 3.11 or newer (Debian: apt install python3 python3-venv)." >&2; \
	exit 1
