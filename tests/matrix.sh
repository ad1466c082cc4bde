#!/usr/bin/env bash
# The supported versions, tried: a part of the tests that uses every library, with the oldest and the newest releases
# that pyproject.toml allows, on each Python that is on this machine.  Needs uv, which fetches no Python.
#
#   make matrix
#   tests/matrix.sh oldest                    # or newest
#   PYTHONS="3.12" TORCH="torch==2.13.0" tests/matrix.sh oldest   # that torch, everything else at its lower bound
#
# Shapes are not checked: that needs no more than the newest jaxtyping.  The environments lie in .matrix/; a torch with CUDA takes five gigabytes, so each is removed after its tests (KEEP=1 keeps it).
set -euo pipefail
cd "$(dirname "$0")/.."
read -r -a which <<< "${*:-oldest newest}"
read -r -a pythons <<< "${PYTHONS:-3.11 3.12 3.13 3.14}"
read -r -a torch <<< "${TORCH:-}"
extras=(--extra train --extra report)
tests=(
  tests/test_extras.py tests/test_files.py tests/test_config.py tests/test_threat.py tests/test_attacks.py tests/test_schema.py
  tests/test_decode.py tests/test_store.py tests/test_efficientnet.py tests/test_hf.py tests/test_saving.py
  tests/test_training.py tests/test_report.py tests/test_report_tables.py tests/test_report_claims.py
  tests/test_hub.py
)
failed=0
for python in "${pythons[@]}"; do
  for ages in "${which[@]}"; do
    env=.matrix/$python-$ages log=.matrix/$python-$ages.log
    mkdir -p .matrix
    if ! uv venv --quiet --clear --no-python-downloads --python "$python" "$env" 2> "$log"; then
      echo "$python $ages: not tried, this machine has no Python $python"
      continue
    fi
    [ "$ages" = oldest ] && resolution=lowest-direct || resolution=highest
    install=(uv pip install --quiet --no-build --python "$env/bin/python")
    if "${install[@]}" --resolution "$resolution" -r pyproject.toml "${extras[@]}" "${torch[@]}" >> "$log" 2>&1 &&
      uv pip install --quiet --python "$env/bin/python" --no-deps --editable . >> "$log" 2>&1 &&
      "${install[@]}" 'pytest>=8' 'pytest-timeout>=2.3' 'beartype>=0.19' >> "$log" 2>&1; then
      uv pip freeze --quiet --python "$env/bin/python" > ".matrix/$python-$ages.txt"
      "$env/bin/python" -m pytest -q -o addopts= -m "not slow and not gpu" "${tests[@]}" >> "$log" 2>&1 && ok=passed || ok=failed
      echo "$python $ages: $ok, $(grep -E '^[0-9]+ (passed|failed)' "$log" | tail -1) ($(grep '^torch==' ".matrix/$python-$ages.txt")): $log"
    else
      ok=failed
      echo "$python $ages: could not be installed: $log"
    fi
    [ "$ok" = passed ] || failed=1
    [ -n "${KEEP:-}" ] || rm -rf "$env"
  done
done
exit "$failed"
