# Everything happens in .venv, which the first target that needs it makes; a second run finds it there.

PYTHON ?= python3
BOARD ?= icebreaker
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
TESTING := $(VENV)/.testing

.PHONY: help demo test test-all icarus lint bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo              set up, then the whole line for BOARD=$(BOARD): accuracy, RTL against golden, bitstream"
	@echo "make test              set up, then lint, types and the quick tests"
	@echo "make test-all          the slow tests as well"
	@echo "make lint              ruff and mypy"
	@echo "make clean             remove .venv and what was built"

demo: $(RUNTIME)
	$(BIN)/fewbit demo --board $(BOARD) --out build/demo

test: $(TESTING) icarus
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2

test-all: $(TESTING) icarus
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2 -m 'slow or not slow'

# pip has no Icarus Verilog.
icarus:
	@command -v iverilog > /dev/null || echo "tests under Icarus Verilog are skipped, it is not installed: sudo apt-get install iverilog"

lint: $(TESTING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "fewbit needs Python 3.11 to 3.13, this is %d.%d: run make with PYTHON=python3.12" % v)'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: sudo apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# A C++ compiler runs the RTL at speed; where the machine has none, pip brings one.
EXTRA := $(if $(shell command -v c++ g++ clang++ 2>/dev/null),,zig)

$(RUNTIME): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.$(if $(EXTRA),[$(EXTRA)])'
	@touch $@

# A tool compiles itself when it runs first: once here, not once for each of two workers.
$(TESTING): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test$(if $(EXTRA),$(comma)$(EXTRA))]'
	@for tool in yosys nextpnr-ice40 nextpnr-ecp5; do $(BIN)/yowasp-$$tool --version > /dev/null 2>&1; done
	@touch $@ $(RUNTIME)

comma := ,
