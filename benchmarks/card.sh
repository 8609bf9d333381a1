#!/usr/bin/env bash
# Everything that needs a card, in one go: the gpu suite, the benchmark, the referee, the ensembles.
#
#     bash benchmarks/card.sh [FOLDER]
#
# FOLDER receives gpu.log, card.txt, and the figures; wheels that a bare machine lacks are taken from .whl/.
set -u
out=${1:-results/card}
mkdir -p "$out"
python3 -m venv --system-site-packages /tmp/quenched-card >/dev/null 2>&1 && source /tmp/quenched-card/bin/activate
[ -d .whl ] && python3 -m pip install -q --no-index --no-deps .whl/*.whl
python3 -m pip install -q --no-index --no-deps --no-build-isolation -e . || exit 1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/card.txt"
timeout 200 python3 -m pytest -m gpu -q -W default -p no:cacheprovider --durations=8 tests/sim/test_card.py tests/sim/test_speed.py \
    >"$out/gpu.log" 2>&1
tail -n 40 "$out/gpu.log"
timeout 120 python3 benchmarks/card.py 2>&1 | tee -a "$out/card.txt"
timeout 60 quenched validate --backend cupy --report "$out/validate-vectors" 2>&1 | tail -n 3
timeout 90 quenched validate --full --backend cupy --engine overlaps --report "$out/validate-chain" 2>&1 | tail -n 3
timeout 150 quenched reproduce ensembles --folder "$out" 2>&1 | tail -n 5
