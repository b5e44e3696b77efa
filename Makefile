# Two commands are all that is needed: make figures, make test. The environment makes itself.
PYTHON ?= python3
PIP_FLAGS ?=
# mini; smol, on a pretrained language model (93 MB come); paper, on the published checkpoints
PROFILE ?= mini
WORKERS ?= 2
BIN := .venv/bin
STRIP := --keep-output --keep-count --keep-id --extra-keys "metadata.widgets metadata.papermill cell.metadata.papermill"

.PHONY: figures test smol-trial check-figures notebooks benchmarks lint unit nbval browser site clean

figures: .venv/.stamp
	$(if $(filter smol,$(PROFILE)),$(BIN)/irlib fetch smol-llava)
	$(BIN)/irlib reproduce --profile $(PROFILE)

test: lint unit nbval browser

# two figures of the pretrained language model on a few rows, as trials
smol-trial: .venv/.stamp
	$(BIN)/irlib fetch smol-llava
	$(BIN)/irlib reproduce fig2 --profile smol --set n=2
	$(BIN)/irlib reproduce fig5 --profile smol --set n=6 --set captions=3

check-figures: .venv/.stamp
	$(BIN)/irlib check --profile $(PROFILE)

notebooks: .venv/.stamp
	$(BIN)/irlib notebooks

# speed and memory beside named alternatives, about 20 minutes on one idle core; then the README's table
benchmarks: .venv/.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.readme

lint: .venv/.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/nbstripout --verify $(STRIP) notebooks/*.ipynb

# tests write to a folder of their own, so that figures stay as they are; the notebooks' tables, each
# known by all that made it, are kept where `make figures` finds them: what both need is made once
unit nbval browser: export OMP_NUM_THREADS = 1
unit nbval browser: export TQDM_DISABLE = 1
unit: .venv/.stamp
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	IRLIB_FIGURES=$$dir/figures IRLIB_RESULTS=$$dir/results $(BIN)/python -m pytest -q -n $(WORKERS) --ignore=tests/browser

nbval: .venv/.stamp
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	IRLIB_FIGURES=$$dir/figures $(BIN)/python -m pytest -q \
	-n $(WORKERS) --dist loadfile --nbval-lax --nbval-current-env notebooks

# the explorer in a real browser, skipped where there is none; screenshots in data/results/browser
browser: .venv/.stamp
	IRLIB_SHOTS=data/results/browser $(BIN)/python -m pytest -q tests/browser

# README, docs, notebooks as they are committed, claims, saved views and the reference, as pages in site/
site: .venv/.stamp
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[site]' $(PIP_FLAGS)
	$(BIN)/irlib fetch smol-llava
	OMP_NUM_THREADS=1 TQDM_DISABLE=1 $(BIN)/python docs/views.py smol-llava mini-llava mini-internvl
	rm -rf site
	$(BIN)/python -m sphinx -q -W --keep-going -E -c docs -d data/results/doctrees . site
	rm -rf jupyter_execute # myst-nb's own copies of the notebooks

clean:
	rm -rf data/results figures/*/notebooks .pytest_cache .ruff_cache

.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "irlib needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo not there);" \
	"name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "irlib makes its own environment; $(PYTHON) has no venv with pip (ensurepip);" \
	"install it (Debian, Ubuntu: apt install python3-venv) or name another: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,peft]' $(PIP_FLAGS)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[quantised]' $(PIP_FLAGS) \
	|| echo "bitsandbytes does not install here: the tests of packed weights are skipped"
	@touch $@
