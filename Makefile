# make search   environment, install, a search on scikit-learn's digits     make test    the tests
# make check    what CI runs: lint, types, compile, tests                    make format  put the sources in shape

PYTHON ?= python3
VENV   ?= .venv
# A V100 needs TORCH=torch==2.10.0, the last release for sm_70.
TORCH  ?= torch==2.14.1 torchvision==0.29.1
OUT    ?= runs/digits
NB201  ?=
SEARCH_FLAGS ?= --data digits --cells 2
# Workers of the tests.
JOBS   ?= 2

# Threads that wait sleep: spinning ones starve each other on a small, busy machine.
export OMP_WAIT_POLICY ?= PASSIVE

BIN      := $(VENV)/bin
PIP      := tools/retry $(BIN)/python -m pip install -q
CXX_CODE := $(shell find csrc tests -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
# What an installation is made of; Python sources are used where they lie.
BUILD    := pyproject.toml setup.py CMakeLists.txt $(wildcard tools/*.py) $(shell find csrc -type f)

.PHONY: search test check lint types compile cuda-arch-check kernel-report gpu-counts cuda-sanitize \
  format clean

search: $(VENV)/installed
	$(BIN)/bdp search --out $(OUT) $(SEARCH_FLAGS) $(if $(wildcard $(OUT)/config.json),--resume)
	$(if $(NB201),$(BIN)/bdp query --run $(OUT) --nb201 $(NB201))

# A file's tests share what they make, so they stay together. One thread a worker: two would wait for
# each other.
test: compile
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
	  $(PYTEST_FLAGS)

check: lint types compile test

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_CODE)

types: $(VENV)/dev
	$(BIN)/mypy --strict bdp_ext

# A C++ library that fails to compile is an error here; `pip install` would go on without it.
compile: $(VENV)/dev
	BDP_EXT_CPU=1 $(BIN)/python setup.py -q build_ext --inplace
	$(BIN)/bdp info

# Every CUDA kernel for every architecture, sm_70 included: no spills. No GPU is needed.
cuda-arch-check: $(VENV)/dev
	$(BIN)/python tools/kernel_report.py --check

kernel-report: $(VENV)/dev
	$(BIN)/python tools/kernel_report.py

# What a step launches, reads and writes, and waits for on a GPU; none is needed. PEERS=DIR adds public
# code (bench/peers.py).
gpu-counts: compile
	OMP_NUM_THREADS=1 $(BIN)/python tools/gpu_counts.py

# Needs a GPU and the CUDA toolkit.
cuda-sanitize: compile
	for tool in memcheck racecheck initcheck synccheck; do \
	  compute-sanitizer --tool $$tool $(BIN)/python -m pytest tests/ops/test_cuda.py \
	    -k "not hundred and not graph and not stream and not waits and not sorting" || exit 1; \
	done

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_CODE)

clean:
	rm -rf build dist $(VENV) bdp_ext/_build.json bdp_ext/_C*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	tools/system_packages $(PYTHON)
	$(PYTHON) -m venv $(VENV)

$(VENV)/torch: $(BIN)/python
	$(PIP) $(TORCH)
	touch $@

$(VENV)/installed: $(VENV)/torch $(BUILD)
	$(PIP) -e .
	touch $@

$(VENV)/dev: $(VENV)/torch pyproject.toml
	$(PIP) -e '.[dev]'
	touch $@
