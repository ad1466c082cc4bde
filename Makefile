# make study · make test · make worlds · make check · make docs · make dist · make matrix · make bench · make bench-gpu · make install: each creates the environment that it needs.
# Needs Python 3.11 or newer, make and a C compiler. `PYTHON=python3.12 make study` uses another Python.

PYTHON ?= python3
VENV   ?= .venv
STUDY  ?= quick
BENCH  ?= --size quick
CLIPS  ?= 40
BIN    := $(VENV)/bin

.PHONY: gallery study test worlds check docs bench bench-gpu install dist matrix format golden clean
.DEFAULT_GOAL := study

# constraints.txt pins the tested versions; pyproject.toml names the requirements.
$(BIN)/avrobust: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, got " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,report]'
	touch $@

$(VENV)/.dev: $(BIN)/avrobust
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,check]'
	touch $@

install: $(BIN)/avrobust

study: install
	$(BIN)/avrobust study $(STUDY)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto -m "not slow and not gpu"

# The tests of numbers again, as other machines would run them: docs/decisions/0012-numbers-hold-on-every-cpu.md.
NUMERIC := $(BIN)/python -m pytest -n auto -m "numeric and not slow and not gpu" tests
worlds: $(VENV)/.dev
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE $(NUMERIC) --precision float32
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 OMP_WAIT_POLICY=PASSIVE $(NUMERIC) --precision bfloat16 --threads 2

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

$(VENV)/.docs: $(BIN)/avrobust
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# The site, in site/; a broken link or an unknown name is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # with --quiet, warnings would not count

# The reports of docs/gallery.md: a study, an evaluation of its model, a comparison of two of its models.
gallery: study
	$(BIN)/avrobust evaluate runs/$(STUDY)/models/AV-0/net.safetensors --data $$(ls -d data/orchestra-* | head -n 1) \
		--attacks PGD-10 --audio 0.006 --visual 2/255 --limit 60 --out runs/gallery/evaluation
	$(BIN)/avrobust compare runs/$(STUDY) --models AV MinSim --html runs/gallery/compare.html

# The libraries that we compare with, without their dependencies: the ones they use are installed already, and
# torchvision, which torchattacks requires but never imports, is not built for every torch.
PEERS := torchattacks==3.5.1 adversarial-robustness-toolbox==1.20.1 spams-bin==2.6.14 six tqdm requests

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --no-deps $(PEERS)
	touch $@

# About ten minutes on two cores; hours with BENCH="--size paper" CLIPS=200. benchmarks/README.md explains the results.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/attacks.py $(BENCH)
	$(BIN)/python benchmarks/table1.py $(BENCH) --clips $(CLIPS)
	$(BIN)/python benchmarks/roofline.py $(BENCH)
	$(BIN)/python benchmarks/sparse.py
	$(BIN)/python benchmarks/figures.py

# What needs a GPU, in eight minutes: tests, a study, attacks beside other libraries, the price of low precision.
bench-gpu: $(VENV)/.bench
	PYTHON=$(BIN)/python benchmarks/gpu.sh

# Wheel and sdist, in dist/: checked, installed in an empty environment, and the README's examples run there.
DIST := .dist
$(DIST)/.tools: pyproject.toml
	$(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python -m pip install --quiet build twine uv
	touch $@

dist: $(DIST)/.tools
	PATH="$(CURDIR)/$(DIST)/bin:$$PATH" tests/dist.sh

# The oldest and the newest releases of what pyproject.toml names, on every Python that is here: minutes and gigabytes each.
matrix: $(DIST)/.tools
	PATH="$(CURDIR)/$(DIST)/bin:$$PATH" tests/matrix.sh

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Write the golden results again: read the diff, and explain under "Results that move" in CHANGELOG.md what moved and why.
golden: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/test_golden.py

clean:
	rm -rf $(VENV) $(DIST) .matrix dist runs data site
