#!/usr/bin/env bash
# Everything that needs a GPU, in eight minutes: attacks beside other libraries, tests, a study, the price of low precision.
#
#     make bench-gpu
#     PYTHON=python3 benchmarks/gpu.sh            # in an environment of your own, with the package and the peers
#
#     PARTS="options table1 pair" make bench-gpu  # the other parts: engine options, Table 1, the worst case of a large pair
#
# Each part has its time limit; a part that fails does not stop the others.  Writes runs/gpu.json: all figures, and how
# each part ended.  Exits with 1 if one of them failed.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-runs/bench}
mkdir -p "$OUT"
only=" ${PARTS:-attacks tests study precision} "
ended=()

part() { # NAME SECONDS COMMAND ...
    local name=$1 limit=$2 began=$SECONDS code=0
    shift 2
    [[ $only == *" $name "* ]] || return 0
    echo "== $name (at most $limit s)"
    timeout --signal=INT --kill-after=10 "$limit" "$@" 2>&1 | tee "$OUT/$name.log" | tail -n 25
    code=${PIPESTATUS[0]}
    echo "== $name: exit status $code after $((SECONDS - began)) s"
    ended+=("$name=$code,$((SECONDS - began))")
}

"$PYTHON" -c 'import torch; assert torch.cuda.is_available(), "expected a GPU that PyTorch can use, got none"' || exit 1
part attacks 95 "$PYTHON" benchmarks/attacks.py --size paper --batch 32 --attacks PGD-10 --repeats 3 --out "$OUT"
part options 150 "$PYTHON" benchmarks/engine_options.py --size paper --batch 32 --options frozen engine bfloat16 "CUDA graphs" --out "$OUT"
part table1 150 "$PYTHON" benchmarks/table1.py --size paper --clips 96 --methods torchattacks engine --out "$OUT"
part tests 110 "$PYTHON" -m pytest -q -n 8 -m gpu -p no:cacheprovider tests/test_gpu.py
part study 200 "$PYTHON" -m avrobust study quick --out "$OUT/gpu-quick" --cache "$OUT/data"
part precision 45 "$PYTHON" benchmarks/precision.py "$OUT/gpu-quick" --larger --tf32 --clips 200 --out "$OUT"
part pair 180 "$PYTHON" benchmarks/pair.py --size base --clips 2 --queries 20 --out "$OUT"
"$PYTHON" benchmarks/gpu.py "$OUT" "${ended[@]}"
