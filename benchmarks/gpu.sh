#!/usr/bin/env bash
# Measures everything on the GPU of a bare machine without network; README.md beside this tells how.
#
#   benchmarks/gpu.sh --take-in             keep what lies in .gpu/ here, and measure nothing yet
#   benchmarks/gpu.sh [options of gpu.py]   the same, then join, install, measure
#
# What is too large for one journey comes in several: wheels, parts of the model. All is kept in
# $SELFIMPROVE_GPU_FILES [/tmp/selfimprove-gpu]; $PYTHON [python3] computes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
files=${SELFIMPROVE_GPU_FILES:-/tmp/selfimprove-gpu}
mkdir -p "$files"
shopt -s nullglob

carried=(.gpu/wheels/*.whl .gpu/*.gguf* .gpu/*.jsonl)
[ ${#carried[@]} = 0 ] || cp -f "${carried[@]}" "$files"
if [ "${1:-}" = --take-in ]; then
  ls -l "$files"
  exit
fi

# NAME.gguf.part-1-of-2, …: joined once all of them are here.
for first in "$files"/*.part-1-of-*; do
  whole=${first%.part-*} parts=("${first%.part-*}".part-*-of-*)
  if [ ${#parts[@]} = "${first##*-of-}" ]; then
    cat "${parts[@]}" >"$whole.new"
    mv "$whole.new" "$whole"
    rm "${parts[@]}"
  else
    echo "$whole: only ${#parts[@]} of ${first##*-of-} parts are here" >&2
  fi
done

wheels=("$files"/*.whl)
if [ ${#wheels[@]} != 0 ] && [ ! -e "$files/installed" ]; then
  install=("$python" -m pip install --quiet --no-index --no-compile)
  # Where something else that is here does not fit them, they are taken all the same.
  "${install[@]}" --find-links "$files" "${wheels[@]}" || "${install[@]}" --no-deps "${wheels[@]}"
  touch "$files/installed"
fi

export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
export SELFIMPROVE_CACHE=${SELFIMPROVE_CACHE:-$files/cache}
exec "$python" benchmarks/gpu.py --files "$files" "$@"
