# make study · make test · make worlds · make check · make bench · make install: each makes the environment that it needs.
# Needs Python 3.11 or newer, make, and a C compiler. PYTHON=python3.12 make … chooses another one.

PYTHON ?= python3
VENV   ?= .venv
STUDY  ?= quick
BENCH  ?= --size quick
CLIPS  ?= 40
BIN    := $(VENV)/bin

.PHONY: study test worlds check bench install format golden clean
.DEFAULT_GOAL := study

# The pins of constraints.txt are what is tested; pyproject.toml says what is needed.
$(BIN)/avrobust: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(BIN)/avrobust
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,check]'
	touch $@

install: $(BIN)/avrobust

study: install
	$(BIN)/avrobust study $(STUDY)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto -m "not slow and not gpu"

# Tests of numbers once more, as other machines would run them: docs/decisions/0012-numbers-hold-on-every-cpu.md.
NUMERIC := $(BIN)/python -m pytest -n auto -m "numeric and not slow and not gpu" tests
worlds: $(VENV)/.dev
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE $(NUMERIC) --precision float32
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 OMP_WAIT_POLICY=PASSIVE $(NUMERIC) --precision bfloat16 --threads 2

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

# What is compared with. Without their own needs: those that are used are here, and torchvision, which torchattacks
# asks for and never imports, has no build for every torch.
PEERS := torchattacks==3.5.1 adversarial-robustness-toolbox==1.20.1 spams-bin==2.6.14 six tqdm requests

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --no-deps $(PEERS)
	touch $@

# About ten minutes on two cores; hours with BENCH="--size paper" CLIPS=200. What is kept of it, and where: benchmarks/README.md.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/attacks.py $(BENCH)
	$(BIN)/python benchmarks/table1.py $(BENCH) --clips $(CLIPS)
	$(BIN)/python benchmarks/roofline.py $(BENCH)
	$(BIN)/python benchmarks/sparse.py
	$(BIN)/python benchmarks/figures.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What the golden tests hold results to, anew: look at the diff, and say under "Results that move" what moved and why.
golden: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/test_golden.py

clean:
	rm -rf $(VENV) runs data
