#!/usr/bin/env bash
# Measures everything on the GPU of a bare machine without network; README.md beside this tells how.
#
#   benchmarks/gpu.sh --take-in             keep what lies in .gpu/ here, and measure nothing yet
#   benchmarks/gpu.sh [options of gpu.py]   the same, then join, install what is new, measure
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
for wheel in .gpu/wheels/*.whl; do # its other versions would make pip refuse them all
  name=${wheel##*/}
  rm -f "$files/${name%%-*}"-*.whl
done
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

# Into a folder of their own, which is looked into first: what is here in another version stays as it is.
wheels=("$files"/*.whl)
if [ ${#wheels[@]} != 0 ]; then
  these=$(cksum "${wheels[@]}")
  if [ "$these" != "$(cat "$files/installed" 2>/dev/null)" ]; then
    rm -rf "$files/site" "$files/installed"
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$files/site" "${wheels[@]}"
    echo "$these" >"$files/installed"
  fi
fi

export PYTHONPATH="$PWD/src:$files/site${PYTHONPATH:+:$PYTHONPATH}"
export SELFIMPROVE_CACHE=${SELFIMPROVE_CACHE:-$files/cache}
exec "$python" benchmarks/gpu.py --files "$files" "$@"
