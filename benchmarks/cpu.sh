#!/usr/bin/env bash
# What a CPU with a matrix unit for bfloat16 does, in two minutes on two of its cores; a GPU beside it is left alone.
#
#     PYTHON=python3 OUT=runs/bench-cpu benchmarks/cpu.sh
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-runs/bench-cpu}
mkdir -p "$OUT"
export CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=2
two() { timeout --signal=INT --kill-after=5 "$1" taskset -c 0,1 "$PYTHON" "${@:2}" 2>&1 | tee -a "$OUT/cpu.log"; }

two 30 benchmarks/chunks.py --size paper --batch 16 --chunks 4 8 16 --repeats 1 --out "$OUT"
two 80 benchmarks/attacks.py --size paper --batch 8 --attacks PGD-10 --repeats 1 --out "$OUT" \
    --methods torchattacks "engine, bfloat16" engine
