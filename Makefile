# Two commands do everything on a fresh machine with Python 3.11, git and make:
#   make demo   install, make synthetic CT scans, fine-tune with cross-validation, show where everything is
#   make test   install, then every check that a change must pass

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo

.PHONY: demo test test-all test-gpu lint bench reliability clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(INSTALLED)
	rm -rf $(DEMO)
	$(BIN)/medres phantoms $(DEMO)/scans --modality CT --scans 60 --size 48
	$(BIN)/medres finetune --config configs/ct-3d.yaml --data $(DEMO)/scans --arch resnet10 --weights none --output $(DEMO)/runs --name first
	@echo "MLflow    $(BIN)/mlflow server --backend-store-uri sqlite:///$(CURDIR)/$(DEMO)/runs/mlflow.db"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache
	$(BIN)/codespell medres tests docs pipelines configs README.md

# one worker a core, each with one thread: two workers that both use two cores are up to ten times slower (OpenMP spins)
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4

# how many tests were left out (slow, gpu) stands in one of pytest's last lines; `make test-all` runs them
test: lint
	$(PARALLEL) -m "not slow and not gpu"

test-all: lint
	$(PARALLEL) -m "not gpu"

test-gpu: $(INSTALLED)
	$(BIN)/pytest -m gpu

bench: $(INSTALLED)
	$(BIN)/pytest tests/benchmarks -m slow -s -q

# the 20 tests of what happens when things go wrong; writes docs/reference/reliability.md
reliability: $(INSTALLED)
	$(BIN)/python -m tests.reliability.page

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
