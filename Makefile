# make demo    build what is needed, then run the main job from end to end
# make test    build what is needed, then run all tests      (make test ARGS='-k ring -x')
# make build   system packages of apt.txt if we may, .venv, the compiled core
# make test-failed   what failed in the last run, once more, one after the other
# make lint    ruff, mypy --strict, import-linter, generated files up to date
# make format  let ruff rewrite what `make lint` complains about
# make docs    the site, from docs/ and the docstrings, into build/docs
# make bench   all benchmarks                                (make bench ARGS='--json FILE')
# make peers    what `xenlike bench` compares with, where it can be installed: apt-peers.txt and the extra `peers`
# make wheel-test   build the wheel, install it into an empty environment, use it there
# make clean   remove everything that was built
#
# PYTHON picks the interpreter (3.11 or newer). Packages come from wherever pip is set up to look.

PYTHON ?= $(shell scripts/find-python)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq
ARGS   ?=

# What the compiled core is made from.
CORE := setup.py $(wildcard xenlike/_core/*.c xenlike/_core/*.h xenlike/_core/*.cdef xenlike/_core/*build*.py)

.DEFAULT_GOAL := build
.PHONY: build demo test test-failed lint format docs bench peers wheel wheel-test clean

build: $(VENV)/.core

$(VENV)/.system: apt.txt scripts/system-packages
	@scripts/system-packages apt.txt
	@mkdir -p $(VENV)
	@touch $@

$(VENV)/bin/python: | $(VENV)/.system
	@test -n "$(PYTHON)" || { echo "xenlike needs Python 3.11 or newer, and none was found. Say which: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "== $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV) || { echo "python could not make $(VENV); on Debian the package python3-venv is missing" >&2; exit 1; }

# The compiled core is an extension module of the editable install, so both come in one step; a change of
# C sources alone rebuilds only the core.
$(VENV)/.deps: pyproject.toml $(VENV)/bin/python
	@echo "== Python packages"
	@$(PIP) install "setuptools>=77" "cffi>=2.1.1"
	@$(PIP) install --no-build-isolation --editable '.[dev]'
	@touch $@

$(VENV)/.core: $(VENV)/.system $(VENV)/.deps $(CORE)
	@echo "== compiled core"
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

demo: build
	$(BIN)/xenlike demo $(ARGS)

test: build
	$(BIN)/python -m pytest -n auto $(ARGS)

# What failed in the last run, one after the other.
test-failed: build
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS)

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/python -m xenlike.abi --check

format: build
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: build
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

bench: build
	@for subject in domains block ring idle xenstore; do $(BIN)/xenlike bench $$subject $(ARGS) || exit; done

peers: build
	@scripts/system-packages apt-peers.txt
	@$(PIP) install --no-build-isolation --editable '.[peers,plot]'

wheel: build
	@rm -rf build/wheel build/lib* build/bdist*   # setuptools would pack files that are long deleted
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .

wheel-test: wheel
	@scripts/wheel-test build/wheel/xenlike-*.whl

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find xenlike/_core -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
