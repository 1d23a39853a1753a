# make demo | test | check | test-all | bench | fuzz | release | lock: each sets up .venv by itself on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV_PIN := uv==0.13.9
JOBS   ?= 2
export OPENBLAS_NUM_THREADS ?= 1
# Tests start many processes; each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check test-all bench fuzz release lock clean

demo: $(VENV)/ready
	$(BIN)/tellegen demo

# Workers begin with halves of the suite, in order, and take from each other: a module's fixtures are mostly made once.
test: $(VENV)/ready
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: $(VENV)/ready
	$(BIN)/ruff format --check src tests supply
	$(BIN)/ruff check src tests supply
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py
	$(BIN)/python -m supply.licences

# One process: benchmarks among the slow tests measure.
test-all: $(VENV)/ready
	$(BIN)/python -m pytest -m ''

bench: $(VENV)/ready
	$(BIN)/tellegen bench clearing

# A search for messages that break a reader of strangers' messages, led by what they reach (Linux).
fuzz: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris==3.0.0'
	PYTHONPATH=tests $(BIN)/python -m fuzz.search $(TARGET) $(or $(MINUTES),10)

# Wheel, source archive, bill of materials and sums in dist/; KEY=FILE signs them (SECURITY.md).
release: $(VENV)/ready
	$(BIN)/python -m supply.release $(if $(KEY),--key $(KEY))

# A locked install with hashes: uv where it can be had, else pip; the lock holds no addresses.
$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tellegen needs Python 3.11 or newer: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check '$(UV_PIN)' 2>/dev/null; then \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . ; \
	else \
	  echo "uv could not be installed; using pip (slower)" ; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . ; \
	fi
	@touch $@

lock: $(VENV)/ready
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --all-extras --group dev --group build pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) tellegen-demo dist fuzz-work
