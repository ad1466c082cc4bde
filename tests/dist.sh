#!/usr/bin/env bash
# Wheel and sdist in dist/, checked as a stranger meets them: `make dist`.  Needs build, twine and a network.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT

rm -rf dist
python -m build --outdir dist .  # the wheel is built from the sdist
twine check --strict dist/*
python -m build --wheel --outdir "$room" . > "$room/log"  # and from the checkout: the same bytes
cmp dist/*.whl "$room"/*.whl
python tests/dist_contents.py dist

python -m venv "$room/env"
PIP_CONSTRAINT=$here/constraints.txt "$room/env/bin/python" -m pip install --quiet dist/*.whl
"$room/env/bin/python" -m pip check
cp tests/installed.py tests/nets.py tests/outsider/their_model.py "$room"
cd "$room"  # away from the checkout
env/bin/python installed.py
env/bin/avrobust --version
env/bin/avrobust evaluate --help > help
echo "installed without torch: $(du -ms env/lib/python*/site-packages/* | awk '$2 !~ /\/(torch|torchgen|functorch|nvidia|triton|pip|cuda|torch-|nvidia_|triton-)/ { all += $1 } END { print all }') MB"
cd "$here"
ls -l dist
