# Every target works in .venv, which is made from requirements.lock by itself.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

RECIPE ?= recipes/quickstart.yaml
# An accelerate config to launch with, such as accelerate_config.yaml; empty: this machine's GPUs, else its CPU.
CONFIG ?=
# More flags for run_train.py, such as ARGS="--depth=4 --max_steps=100".
ARGS ?=
# Processes that the tests run in, each with one thread: more threads than free cores slow torch down many times.
WORKERS ?= 2

.PHONY: help train test test-slow lint format bench docs kill-test skill clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.venv: $(STAMP)

# The stamp comes last, so an interrupted install is done again.
$(STAMP): requirements.lock pyproject.toml
	@rm -f $@
	@for python in python3.11 python3; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "mixgen needs Python 3.11 or later: found neither python3.11 nor such a python3" >&2; exit 1; \
	fi; \
	echo "installing requirements.lock into $(VENV) with $$($$python --version) (about 2 minutes)"; \
	$$python -m venv $(VENV)
	@$(BIN)/python -m pip install -qq -r requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

# Ctrl-C is for run_train.py, which saves and says so: the launcher ignores it, and would only print a traceback.
# What `accelerate launch` is not told it picks, and lists in a warning: no process count on a CPU, one thread a process.
# So it is told everything: one process for each GPU, or one on the CPU, and torch's own count of threads divided among
# them. A recipe's own `bf16: true` wins over --mixed_precision=no.
define LAUNCH_FLAGS
import torch
gpus = torch.cuda.device_count()
processes = max(gpus, 1)
threads = max(torch.get_num_threads() // processes, 1)
print("--multi_gpu" if gpus > 1 else "", f"--num_processes={processes} --num_machines=1",
      f"--mixed_precision=no --dynamo_backend=no --num_cpu_threads_per_process={threads}")
endef
export LAUNCH_FLAGS

train: $(STAMP) ## train RECIPE (recipes/quickstart.yaml) on all GPUs, else on the CPU; CONFIG=file, ARGS="--depth=4"
	@trap '' INT; $(BIN)/accelerate launch --quiet \
		$(if $(CONFIG),--config_file $(CONFIG),$$($(BIN)/python -c "$$LAUNCH_FLAGS")) \
		run_train.py $(RECIPE) $(ARGS)

test: $(STAMP) ## run the tests and the docstrings' examples, without the slow tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not slow" $(ARGS)

test-slow: $(STAMP) ## run the slow tests: training runs, several processes
	@$(BIN)/python -m pytest -m slow --durations=0 $(ARGS) tests

lint: $(STAMP) ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## format the code, and fix what can be fixed by itself
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

docs: $(STAMP) ## build the site of docs/ into outputs/site, strictly
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP) ## run the benchmarks
	@for file in $(filter-out benchmarks/generators.py benchmarks/kill_test.py benchmarks/skill.py,$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python "$$file" $(ARGS) || exit; done

kill-test: $(STAMP) ## kill a run 20 times and compare it with one left alone; ARGS="--kills=50"
	@$(BIN)/python benchmarks/kill_test.py $(ARGS)

skill: $(STAMP) ## train quickstarts with one lever turned each, and compare them (hours); ARGS="--settings final"
	@$(BIN)/python benchmarks/skill.py $(ARGS)

clean: ## remove .venv, caches and build files; outputs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
