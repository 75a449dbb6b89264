# SketchFusion-Lite. `make help` lists what there is. Needs Python 3.11 or 3.12 and a package registry.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV     ?= .venv
EXTRAS   ?= workbook,train,sweep,peers,fid,book,web,test
NOTEBOOK ?= notebooks/00_tour.ipynb
RECIPE   ?= codec
TARGET   ?= parse
ARGS     ?=
JOBS     ?= 2

PLAY  := playground
BIN   := $(VENV)/bin
PY    := $(BIN)/python
comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

# Nothing here talks to a model hub; without a network its client would retry for half a minute.
export HF_HUB_OFFLINE ?= 1
# Data sets may lie beside the project; what is not there is downloaded, checked by sha256 either way.
export SKETCHFUSION_MIRROR ?= $(wildcard ../shared/data)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install fetch workbook book web lab explore test lint format bench fuzz audit train clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: EXTRAS=$(EXTRAS) NOTEBOOK=$(NOTEBOOK) RECIPE=$(RECIPE) ARGS='options of the command'"

install: $(STAMP)  ## virtual environment in .venv with the package and all it needs (6.7 GB)

# Some launchers exist without their Python, and some Pythons lack venv: only running one tells.
$(STAMP): pyproject.toml
	@if ! $(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
	  python=; \
	  for each in $(PYTHON) python3.11 python3.12 python3 python; do \
	    if "$$each" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	      >/dev/null 2>&1; then python="$$each"; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "error: no Python 3.11 or 3.12 with the venv module found. Install one, or name it: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "Creating $(VENV) with $$("$$python" -c 'import sys; print(sys.executable, "%d.%d.%d" % sys.version_info[:3])')"; \
	  "$$python" -m venv --clear $(VENV); \
	fi
	@echo "Installing .[$(EXTRAS)]: a few minutes the first time; log in $(VENV)/install.log"
	@$(PY) -m pip install --progress-bar off -e '.[$(EXTRAS)]' >$(VENV)/install.log 2>&1 || { \
	  tail -n 15 $(VENV)/install.log >&2; \
	  echo "error: the installation failed, see $(VENV)/install.log; run make again once the cause is gone" >&2; \
	  exit 1; }
	@$(PY) -c 'import compressai, lpips, torchvision' 2>>$(VENV)/install.log || { \
	  tail -n 3 $(VENV)/install.log >&2; \
	  echo "error: torch and torchvision do not fit each other; try: make distclean install" >&2; \
	  exit 1; }
	@touch $@

fetch: $(STAMP)  ## LPIPS trunks (64 MB) into the cache folder, checked by sha256
	@$(BIN)/sketchfusion fetch lpips >/dev/null

workbook: export OMP_NUM_THREADS ?= 2
workbook: install fetch  ## execute the tour notebook; says where it and its HTML page lie
	@$(PY) tools/run_workbook.py $(NOTEBOOK) $(ARGS)

book: $(STAMP)  ## build the book, pages that open from disk, out of the committed notebooks
	@$(PY) tools/make_book.py $(ARGS)

web: $(STAMP)  ## build the page that decodes .skf in any browser; needs npm; ARGS='--serve' to look at it
	@$(PY) tools/make_web.py $(ARGS)

# Open a copy: JupyterLab saves what is run, and a checkout shall stay as it was. Its folder lies where the notebooks'
# does, so that their relative paths lead to the same files. Another notebook than ours is opened where it is.
COPY = $(if $(filter notebooks/%,$(NOTEBOOK)),$(PLAY)/$(notdir $(NOTEBOOK)),$(NOTEBOOK))

# An upload above the explorer's limit shall get its answer; by default the connection would be cut at 10 MB.
lab: install fetch  ## open JupyterLab at a copy of the tour notebook (this machine only, with a token)
	@mkdir -p $(PLAY)
	@for each in notebooks/*.ipynb; do \
	  copy="$(PLAY)/$${each##*/}"; \
	  if [ ! -e "$$copy" ]; then cp "$$each" "$$copy.part" && mv "$$copy.part" "$$copy"; \
	  elif [ "$$each" -nt "$$copy" ]; then echo "$$copy: kept, and older than $$each"; fi; \
	done
	@echo "Your copies of the notebooks lie in $(PLAY)/; git ignores them. For a fresh one, remove yours and run make lab again."
	$(BIN)/jupyter lab --ServerApp.tornado_settings="{'websocket_max_message_size': 67108864}" $(ARGS) $(COPY)

explore: install fetch  ## open the explorer as a page of its own
	$(BIN)/sketchfusion explore $(ARGS)

test: export OMP_NUM_THREADS ?= 1
test: install fetch lint  ## lint, all tests, and all notebooks executed
	$(PY) -m pytest -n $(JOBS) --dist loadfile $(ARGS)
	@ls notebooks/*.ipynb | xargs -P $(JOBS) -n 1 \
	  $(PY) -m pytest -q -p no:cacheprovider --nbval-lax --nbval-current-env

lint: $(STAMP)  ## errors, types, import order, format (of notebooks too); imports run one way
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-cache >$(VENV)/imports.log || { cat $(VENV)/imports.log >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary --cache-dir $(VENV)/mypy
	@$(BIN)/ruff format --quiet --check . || { echo "error: not formatted; run: make format" >&2; exit 1; }

format: $(STAMP)  ## put everything into the format that lint wants
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

bench: export OMP_NUM_THREADS ?= 2
bench: install fetch  ## measure time, memory and quality; updates data/results; ARGS='speed compute' for some
	$(PY) -m benchmarks $(ARGS)

fuzz: export OMP_NUM_THREADS ?= 1
fuzz: $(STAMP)  ## hostile input for TARGET (parse, decode, images), a minute; ARGS='--seconds 600 --seed 2'
	$(PY) -m fuzz $(TARGET) $(ARGS)

audit: $(STAMP)  ## known holes in what is installed; needs the network and the package index's own database
	$(PY) -m pip install -q -e '.[audit]'
	$(BIN)/pip-audit --skip-editable $(ARGS)

train: install fetch  ## train RECIPE (cues, codec); resumes where it stopped
	$(BIN)/sketchfusion train $(RECIPE) $(ARGS)

clean:  ## remove what make built, except the virtual environment
	rm -rf build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## remove the virtual environment too
	rm -rf $(VENV)
