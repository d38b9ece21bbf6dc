#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a CUDA device, in one command and in less than ten minutes, on a bare machine:
# builds from source for the device that is there, compares every kernel with the CPU's, runs the tests
# on the device, looks for memory errors and races, and measures beside PyTorch.
#
#   bench/device.sh              numbers and logs go to $OUT, or to build/device/out
#   bench/device.sh --emulator   the same stages on the emulated device: a rehearsal, without a GPU
#
# It needs Python with NumPy, torch, pybind11, cmake, ninja and pytest, and nvcc; no network. A stage
# that fails or takes too long does not keep the others from running. Exit status: 0 when all stages
# passed, 1 when one did not, 2 when there is nothing to run on. PYTHON and BUILD may be given.
set -u
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
BUILD=${BUILD:-build/device}
OUT=${OUT:-$BUILD/out}
LIMIT=${LIMIT:-570} # seconds, of all stages together
real=1
[ "${1:-}" = --emulator ] && real=0
mkdir -p "$OUT" "$BUILD"
BUILD=$(cd "$BUILD" && pwd)
OUT=$(cd "$OUT" && pwd)
export PYTHONUNBUFFERED=1
PATH=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH # ninja's place

# ---- stages --------------------------------------------------------------------------------------

started=$SECONDS
: >"$BUILD/stages" # a line for each, some of which run side by side

left() { echo $((LIMIT - (SECONDS - started))); }

# stage NAME SECONDS COMMAND...: at most so many seconds, and no more than are left.
stage() {
  local name=$1 limit=$2 begin=$SECONDS code=0 word=failed
  shift 2
  [ "$(left)" -lt "$limit" ] && limit=$(left)
  echo "== $name (at most $limit s)"
  if [ "$limit" -lt 5 ]; then
    code=124
    echo "no time is left" >"$OUT/$name.log"
  else
    timeout -k 5 "$limit" "$@" >"$OUT/$name.log" 2>&1 || code=$?
  fi
  case $code in
    0) word=passed ;;
    77) word="left out" ;;
    124 | 137) word="took too long" ;;
  esac
  tail -n 12 "$OUT/$name.log"
  echo "== $name: $word, $((SECONDS - begin)) s"
  echo "{\"stage\": \"$name\", \"result\": \"$word\", \"code\": $code," \
    "\"seconds\": $((SECONDS - begin))}" >>"$BUILD/stages"
}

# ---- what there is ---------------------------------------------------------------------------------

nvcc=$(command -v "${CUDACXX:-nvcc}" || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null || true)
if [ $real = 1 ]; then
  if ! gpu=$(nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader -i 0 2>&1); then
    echo "there is no CUDA device here: $gpu" >&2
    exit 2
  fi
  if [ -z "$nvcc" ]; then
    echo "nvcc was found neither on the PATH nor below CUDA_HOME" >&2
    exit 2
  fi
  capability=$(echo "$gpu" | cut -d, -f2 | tr -d ' .')
  flags="-DFUSEDNN_CUDA=ON -DCMAKE_CUDA_COMPILER=$nvcc"
  # Machine code for this device alone is compiled several times faster than a wheel's.
  case $capability in
    [0-9][0-9] | [0-9][0-9][0-9]) flags="$flags -DFUSEDNN_CUDA_ARCHITECTURES=$capability-real" ;;
  esac
  echo "$gpu, $("$nvcc" --version | tail -n 1)"
else
  flags="-DFUSEDNN_CUDA_EMULATOR=ON"
fi

# ---- the stages themselves -------------------------------------------------------------------------

build() {
  # The processor's kernels are wanted once, and its tests not at all.
  "$PYTHON" -m cmake --version >/dev/null 2>&1 && cmake="$PYTHON -m cmake" || cmake=cmake
  # shellcheck disable=SC2086
  $cmake -S . -B "$BUILD/tree" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFUSEDNN_CPP_TESTS=ON \
    -DFUSEDNN_ONE_ISA=ON -DPython_EXECUTABLE="$(command -v "$PYTHON")" \
    -Dpybind11_DIR="$("$PYTHON" -m pybind11 --cmakedir)" $flags &&
    $cmake --build "$BUILD/tree" --target _core _cuda test_kernels || return 1
  rm -rf "$BUILD/package" && mkdir -p "$BUILD/package/fusednn"
  ln -s "$PWD"/python/fusednn/* "$BUILD"/tree/csrc/bindings/_core.*so \
    "$BUILD"/tree/csrc/cuda/_cuda.*so "$BUILD/package/fusednn/"
  PYTHONPATH="$BUILD/package" "$PYTHON" -m fusednn doctor
}

kernels() { "$BUILD/tree/csrc/cuda/test_kernels" "$@"; }

tests() {
  local several=""
  "$PYTHON" -c "import xdist" 2>/dev/null && several="-n ${JOBS:-8}"
  # Warnings of versions that nobody has seen here are not errors of ours.
  # shellcheck disable=SC2086
  PYTHONPATH="$BUILD/package" "$PYTHON" -m pytest -q -p no:cacheprovider -W default $several \
    --device cuda "$@"
}

everything="tests/rules tests/optim/test_optim.py
  tests/bindings/test_cuda.py tests/bindings/test_cuda_steps.py tests/bindings/test_resident.py
  tests/bindings/test_fusion.py tests/bindings/test_device_arrays.py
  tests/bindings/test_network.py tests/bindings/test_ops.py
  tests/python/test_layers.py tests/python/test_losses.py tests/python/test_optimizers.py
  tests/python/test_models.py tests/python/test_saving.py tests/fused_torch/test_on_device.py"

# Four tools at once over all kernels; each says how many errors it saw.
sanitizers() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is absent" && return 77; }
  local tool code=0
  for tool in memcheck racecheck initcheck synccheck; do
    compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 20 \
      "$BUILD/tree/csrc/cuda/test_kernels" >"$BUILD/$tool.log" 2>&1 &
    eval "$tool=$!"
  done
  for tool in memcheck racecheck initcheck synccheck; do
    wait "${!tool}" || { code=1 && echo "$tool: NOT CLEAN"; }
    echo "$tool: $(grep -E 'SUMMARY' "$BUILD/$tool.log" | tail -n 1)"
    grep -v SUMMARY "$BUILD/$tool.log" | head -n 40
  done
  return $code
}

measure() { PYTHONPATH="$BUILD/package" "$PYTHON" bench/device.py --json "$OUT/$1.json" "${@:2}"; }

export BUILD OUT PYTHON PYTHONPATH=
export -f build kernels tests sanitizers measure
export flags everything

stage build 200 bash -c build
if [ $real = 1 ]; then
  stage kernels 40 bash -c kernels
  # These wait for the processor more than for the device: side by side.
  stage sanitizers 170 bash -c sanitizers &
  stage tests 170 bash -c 'tests $everything'
  wait
  # Which way of a product is the fastest for which shapes: what csrc/cuda/product_choice.h is to say.
  stage products 60 bash -c "measure products --products --seconds 45"
  stage bench "$(left)" bash -c "measure bench --seconds $(($(left) - 45))"
else
  stage kernels 300 bash -c "kernels rows"
  stage sanitizers 60 bash -c sanitizers
  stage tests 300 bash -c 'tests tests/bindings/test_cuda.py -k "bits or replay"'
  stage products 60 bash -c "measure products --products --seconds 45"
  stage bench 200 bash -c "measure bench --seconds 60"
fi

printf '{"device": "%s", "seconds": %d, "stages": [%s]}\n' "${gpu:-emulator}" \
  $((SECONDS - started)) "$(paste -sd, "$BUILD/stages")" >"$OUT/stages.json"
echo "== $OUT: $(ls "$OUT" | tr '\n' ' ')"
! grep -qE "failed|too long" "$BUILD/stages"
