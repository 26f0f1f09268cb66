#!/usr/bin/env bash
# First checks on a machine with a GPU: correctness first, then speed. Each step has its own time
# limit and log, and a failed step does not stop the next.
#
#   tools/first_on_gpu.sh LOG_FOLDER [STEP...]      all steps without a name: 15 minutes at most
#
# Needs fastseg with its CUDA kernels, pycuda and pytest; for engines a TensorRT that knows the GPU;
# for `speed` torch with CUDA. Missing parts are skipped by name. Exits with 0 if every step did.
set -uo pipefail
logs=$(mkdir -p "$1" && cd "$1" && pwd) || exit 2
shift
cd "$(dirname "$0")/.."
python=${PYTHON:-python}

step_doctor() { nvidia-smi; "$python" -m fastseg doctor; }
step_kernels() { "$python" -m pytest -q -x tests/gpu/test_device_kernels.py; }
step_engines() { "$python" -m pytest -q tests/gpu/test_engines.py; }
step_everything() { "$python" -m pytest -q tests/gpu/test_device_everything.py; }
step_kernel_speed() { "$python" -m pytest -q -s benchmarks/gpu/test_device_kernels.py; }
step_speed() { "$python" -m pytest -q -s benchmarks/gpu/test_everything.py; }
step_memcheck() {
  # One of the two number formats is enough: under the tool kernels are many times slower.
  compute-sanitizer --tool memcheck --error-exitcode 1 "$python" -m pytest -q \
    tests/gpu/test_device_kernels.py -k "not float16 and not torch"
}

declare -A seconds=(
  [doctor]=30 [kernels]=90 [engines]=150 [everything]=60 [kernel_speed]=60 [speed]=400 [memcheck]=110
)
order=(doctor kernels engines everything kernel_speed speed memcheck)
[ $# -gt 0 ] && order=("$@")
for name in "${!seconds[@]}"; do export -f "step_${name?}"; done
export python

failed=0
for name in "${order[@]}"; do
  [ -n "${seconds[$name]:-}" ] || { echo "no step $name; there are doctor kernels engines everything kernel_speed speed memcheck" >&2; exit 2; }
  begin=$SECONDS
  timeout --signal=INT --kill-after=10 "${seconds[$name]}" bash -c "step_$name" >"$logs/$name.log" 2>&1
  code=$?
  [ $code -eq 124 ] && outcome="ran out of its ${seconds[$name]} s" || outcome="ended with $code"
  [ $code -eq 0 ] || failed=1
  echo "$name: $outcome after $((SECONDS - begin)) s; $(grep -E '(passed|failed|skipped|error)' "$logs/$name.log" | tail -n 1)"
done
exit $failed
