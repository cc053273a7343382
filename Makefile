# make: set up, run the pipeline, show the scores · make test · make proof · make bench · make requirements
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.SILENT:
.PHONY: all test proof bench requirements clean

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# DVC's state by default lies in a folder that every user of the machine may write to; docs/reproducibility.md says more.
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site
unexport PYTHONPATH
unexport PYTHONHOME

all: .venv/installed
	dvc repro
	mammo scores
	echo
	echo "Open report/report.html in a browser: this run on one page. \`dvc plots show\` draws its curves."
	echo "First, in every new terminal: source .venv/bin/activate"
	echo "DVC's advice to push concerns a remote storage, which you need not have: docs/sharing.md"

test: .venv/tests
	ruff check .
	ruff format --check .
	mypy
	# A file keeps to one of two processes, so that its fixtures are made once; in the order of tests/conftest.py.
	pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not proof"

proof: .venv/tests
	pytest -m proof -s

bench: .venv/installed .venv-bench/installed
	python bench/run.py
	python bench/dicom.py

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || { echo "Python 3.11, 3.12 or 3.13 is needed; found: $$($(or $(PYTHON),python3) --version 2>/dev/null || echo none). Install one, or name it: make PYTHON=python3.12" >&2; exit 1; }
	[ -x .venv/bin/python ] || $(PYTHON) -m venv .venv
	echo "Installing the pinned packages into .venv (once; TensorFlow alone has 600 MB)"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv/tests: .venv/installed tests/requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	touch $@

.venv-bench/installed: bench/requirements.txt
	[ -x .venv-bench/bin/python ] || $(PYTHON) -m venv .venv-bench
	echo "Installing the peers of the benchmark into .venv-bench (once)"
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	touch $@

# Pins what pyproject.toml requires, to run and to build this package, with one file for every Python and the hash of every
# file that pip may take. Versions already pinned stay: delete a line to move a package.
requirements:
	$(PYTHON) -m venv .venv-uv && .venv-uv/bin/pip install --quiet uv==0.13.9
	pin() { .venv-uv/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-header --no-annotate "$$@"; }
	build=$$(.venv-uv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
	pin pyproject.toml - -o requirements.txt <<< "$$build"
	cat requirements.txt tests/requirements.txt > .venv-uv/all.txt
	pin pyproject.toml --extra test -c requirements.txt -o .venv-uv/all.txt
	# An entry is a line and the indented lines of its hashes; the tests' file has those that the other lacks.
	.venv-uv/bin/python -c 'import re, sys; ours, both = (re.split(r"\n(?=\S)", open(name).read().rstrip()) for name in sys.argv[1:]); print(*(entry for entry in both if entry not in ours), sep="\n")' requirements.txt .venv-uv/all.txt > .venv-uv/tests.txt
	mv .venv-uv/tests.txt tests/requirements.txt
