#!/bin/sh
# Everything that needs a GPU, in under 8 minutes, into gpu.json in $OUT, or in this folder. Needs torch, Triton and NumPy;
# with the wheels of `make gpu-wheels` in wheels/ it compares with diffusers as well. `--device cpu` shows that it runs.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
output=${OUT:-benchmarks}/gpu.json
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
export PYTHONPATH="$PWD/src" HF_HUB_OFFLINE=1

# Beside what is installed, not into it.
if ! ls benchmarks/wheels/*.whl >/dev/null 2>&1; then
    echo "benchmarks/wheels is empty: unless diffusers is installed, the comparison with it is left out"
elif "$python" -m pip install --quiet --no-index --no-deps --find-links benchmarks/wheels --target "$packages" \
    benchmarks/wheels/*.whl; then
    PYTHONPATH="$PYTHONPATH:$packages"
else
    echo "benchmarks/wheels does not fit this Python: unless diffusers is installed, the comparison with it is left out"
fi

rm -f "$output"
failed=0
for part in synchronisations loops pair correctness bandwidth; do
    timeout 90 "$python" -m benchmarks.gpu "$part" --output "$output" "$@" || { echo "$part: failed"; failed=1; }
done
exit $failed
