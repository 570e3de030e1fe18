# make demo: install into .venv and run the main job; make test: install and pass the tests of every day;
# make thorough: the others, which take minutes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
SITE := $(VENV)/.installed-docs
BROWSER := $(VENV)/.installed-browser
# processes that tests start find bytecode, as those of an installed wheel do
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.PHONY: fuzz mutate demo test thorough browser programs strace lint types docs site serve check benchmark clean

demo: $(STAMP)
	$(BIN)/llmcalc peft --method lora --rank 8
	$(BIN)/llmcalc memory --model llama-3-8b --gpu h100-sxm
	$(BIN)/llmcalc kvcache --model llama-3-8b --seq-len 8k
	$(BIN)/llmcalc zero --params 7.5e9 --gpus 64 --stage all

# every test, with one of its cases where it has many, and without the long ones
test: $(DEV)
	$(PYTEST) -m 'not browser and not programs and not strace and not thorough'

# all that `make test` leaves out
thorough: $(DEV)
	$(PYTEST) -m 'not browser and not programs and not strace and thorough'

# needs Chromium (Debian: apt-get install chromium)
browser: $(BROWSER) site
	$(PYTEST) tests/browser -m browser -n 0

# with LaTeX, KaTeX, shells and pandas, which are installed where they are missing (Debian, as root)
programs: $(DEV)
	.ci/programs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[pandas]'
	$(PYTEST) -m programs

# what the documented commands ask of the kernel
strace: $(DEV)
	$(PYTEST) tests/programs -m strace

lint: $(DEV)
	$(BIN)/ruff check .

types: $(DEV)
	$(BIN)/mypy

# the documentation site, into site/; KaTeX and Pyodide come from the npm registry, once
site: $(SITE)
	$(BIN)/mkdocs build --strict --quiet

serve: $(SITE)
	$(BIN)/mkdocs serve

docs: $(DEV)
	$(BIN)/python docs/build.py

check: lint types test thorough

fuzz: $(DEV)
	$(BIN)/python -m tests.fuzz --jobs $${JOBS:-$$(nproc)} --inputs $${INPUTS:-1000000} --seed $${SEED:-1}
	$(BIN)/python -m tests.properties --jobs $${JOBS:-$$(nproc)} --evaluations $${EVALUATIONS:-1000000} --seed $${SEED:-1}

mutate: $(DEV)
	$(BIN)/python -m tests.mutation

# ratios to a hello-world of the same run; the margin is the noise of a shared machine
benchmark: $(DEV)
	$(BIN)/python benchmarks/startup.py --runs 5 --check --margin 1.3
	$(BIN)/python benchmarks/api.py --check --margin 2
	$(BIN)/python benchmarks/sweep.py --check --margin 4
	$(BIN)/python benchmarks/plan.py --check

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "llmcalc needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(DEV): $(STAMP) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(SITE): $(STAMP) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

$(BROWSER): $(DEV) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	@touch $@

clean:
	rm -rf $(VENV) build dist site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
