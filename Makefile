# Two commands: `make demo` draws the picture, `make test` checks everything. Both start from Python >= 3.10 and pip.
# `make bench` times packs against the peers, about 10 minutes: make bench BENCH="--quick" or BENCH="--only mlp128".
# `make reproduce CLAIM=landscape` trains a published claim's experiment again and compares (docs/reproductions.md);
# `make pages` renews the parts of the documentation that are made from kept results.
# `make docs` builds the documentation into build/site; open build/site/index.html.
PYTHON ?= python3
# What to give pip for torch. On Linux, PyPI's torch brings CUDA; for a CPU-only build:
#   make demo TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
# The version of LibMTL to time; a later one than PyPI's: LIBMTL=git+https://github.com/median-research-group/LibMTL
LIBMTL ?= LibMTL==1.1.5
BENCH ?=
CLAIM ?=
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test bench lint types docs pages reproduce clean

demo: .venv/installed
	$(BIN)/mtofront run configs/quickstart.yaml

test: .venv/installed-test lint types docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

bench: .venv/installed-bench
	$(BIN)/python benchmarks/throughput.py $(BENCH)

reproduce: .venv/installed
	$(BIN)/python benchmarks/reproduce.py run $(CLAIM)

pages: .venv/installed
	$(BIN)/python benchmarks/reproduce.py pages

# not --quiet: with it, --strict does not see the warnings of broken links
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-test
	$(BIN)/mypy

.venv/torch:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "mtofront needs Python 3.10 or newer; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(TORCH)
	touch $@

.venv/installed: .venv/torch setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# LibMTL's own requirements bring torchvision, for models that are not timed
.venv/installed-bench: .venv/installed
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/pip install --quiet --no-deps '$(LIBMTL)'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
