#!/usr/bin/env bash
# Everything that needs a card, in one go: the gpu suite, the benchmark, the referee, the ensembles.
#
#     bash benchmarks/card.sh FOLDER [PART...]        PART: suite, speed, referee, vectors, ensembles (default: all)
#
# FOLDER receives the logs and the figure.  Wheels that a bare machine lacks are taken from .whl/; those in
# .whl/fallback/ only if numba does not import beside the NumPy that is there.
set -u
out=${1:-results/card}
shift
parts=${*:-suite speed referee vectors ensembles}
mkdir -p "$out"
python3 -m venv --without-pip /tmp/quenched-card && source /tmp/quenched-card/bin/activate
install() { python3 -m pip install -q --disable-pip-version-check --no-index --no-deps --no-build-isolation "$@"; }
# packages of the Python that made it, which may be a venv itself
site=$(env -u VIRTUAL_ENV PATH="${PATH#*:}" python3 -c 'import numpy, pathlib; print(pathlib.Path(numpy.__file__).parents[1])')
echo "$site" >"$(python3 -c 'import site; print(site.getsitepackages()[0])')/base.pth"
ls .whl/*.whl >/dev/null 2>&1 && install .whl/*.whl
python3 -c 'import numba' 2>/dev/null || install --ignore-installed .whl/fallback/*.whl
install -e . || exit 1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/card.txt"
for part in $parts; do
    echo "== $part"
    case $part in
        suite)
            timeout 240 python3 -m pytest -m gpu -q -W default -p no:cacheprovider --durations=6 \
                tests/sim/test_{card,speed,ensembles,amp}.py >"$out/suite.log" 2>&1
            tail -n 45 "$out/suite.log" ;;
        speed) timeout 150 python3 benchmarks/card.py 2>&1 | tee -a "$out/card.txt" ;;
        referee)  # the first time compiles for host and card, the second finds that on disk
            for _ in first again; do
                time timeout 150 quenched validate --full --backend cupy --engine overlaps --processes 15 \
                    --report "$out/chain" --force 2>&1 | tail -n 5
            done ;;
        vectors) time timeout 150 quenched validate --backend cupy --report "$out/vectors" --force 2>&1 | tail -n 5 ;;
        ensembles) time timeout ${ENSEMBLES:-300} quenched reproduce ensembles --folder /tmp/ensembles --processes 15 --resume 2>&1 |
            tail -n 5
            cp /tmp/ensembles/*.* "$out" ;;
    esac
done
# at most 8 files come back from a lent machine
for folder in chain vectors; do
    [ -e "$out/$folder/report.md" ] && mv "$out/$folder/report.md" "$out/$folder.md"
    rm -rf "${out:?}/$folder"
done
