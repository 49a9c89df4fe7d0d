# make demo    from nothing to a data set of paired faces, and where it is
# make test    from nothing to passing tests (test-fast: those without Ray, vLLM and training)
# make soak    long tests that kill, starve or restart something
# make lint    ruff and mypy
# All of them install first; what is done already is not done again. On a machine with an NVIDIA GPU: make install BUILD=cuda
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
OUT ?= out/demo
# Without a word, the build that is installed already, else the one for CPUs.
BUILD ?= $(if $(wildcard $(VENV)/.installed-cuda),cuda,cpu)
STAMP := $(VENV)/.installed-$(BUILD)

export RAY_AUTH_MODE ?= disabled
export HF_HUB_OFFLINE ?= 1
# Each of many processes would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast soak lint install doctor clean
.DELETE_ON_ERROR:

demo: install
	$(VENV)/bin/thermapair generate --bundle student --profile laptop --job demo --out $(OUT)

# Each file whole in one of two processes; folders with long files first, so that both end at about the same time.
LONG := $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: test-fast
	$(LONG) -m slow tests/pipelines tests/serve tests/cluster tests/models

soak: install
	$(LONG) -m soak tests/cluster tests/pipelines tests/serve

test-fast: install
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m "not slow and not soak" -n 2 --dist worksteal

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

doctor: install
	$(VENV)/bin/thermapair doctor

install: $(STAMP)

# The stamp holds as long as the lock, the installer, the project's own metadata and its list of rooms do.
$(STAMP): requirements/$(BUILD).txt requirements/cpu.txt requirements/install.sh pyproject.toml $(wildcard */__init__.py)
	$(PYTHON) -c "import sys; sys.exit(sys.version_info[:2] != (3, 11) and 'Python 3.11 is needed: make PYTHON=/path/to/python3.11')"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	requirements/install.sh $(VENV) $(BUILD)
	rm -f $(VENV)/.installed-*
	touch $(STAMP)

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis
