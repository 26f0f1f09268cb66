#!/usr/bin/env bash
# Check that the native kernels give the same bits on aarch64: build them for x86-64 and, with
# Debian's cross compiler, for aarch64; run both, the second under qemu-user; compare the digests.
# With nvcc, also compile the CUDA kernels for Jetson's GPUs. Takes some minutes.
#
#   apt-get install g++-aarch64-linux-gnu qemu-user cmake ninja-build
#   tools/check_aarch64.sh [BUILD_FOLDER]
#
# Exits with 0 if all digests are equal; a * marks kernels that call functions of the C library.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
limit=${TIME_LIMIT_SECONDS:-900}

for tool in aarch64-linux-gnu-g++ qemu-aarch64 cmake ninja; do
  command -v "$tool" >/dev/null || { echo "needs $tool, which is not installed" >&2; exit 2; }
done

digests() { # folder, CMake arguments
  local folder=$build/$1
  shift
  cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFASTSEG_PYTHON=OFF "$@" >"$folder.log" 2>&1 ||
    { tail -20 "$folder.log" >&2; exit 1; }
  timeout "$limit" cmake --build "$folder" --target kernel_digests >>"$folder.log" 2>&1 ||
    { tail -20 "$folder.log" >&2; exit 1; }
}

mkdir -p "$build"
digests x86_64 -DFASTSEG_CUDA=OFF
digests aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DFASTSEG_CUDA=OFF

echo "$(aarch64-linux-gnu-g++ --version | head -1); $(qemu-aarch64 --version | head -1)"
file "$build/aarch64/kernel_digests" 2>/dev/null | cut -d, -f1-2 || true
"$build/x86_64/kernel_digests" >"$build/x86_64.txt"
timeout "$limit" qemu-aarch64 -L /usr/aarch64-linux-gnu "$build/aarch64/kernel_digests" >"$build/aarch64.txt"
cat "$build/aarch64.txt"

if command -v nvcc >/dev/null; then
  # Compiled without CMake, which wants to link: a toolkit for x86-64 has Jetson's headers, but not
  # its libraries.
  headers=/usr/local/cuda/include
  for source in csrc/cuda/*.cu; do
    timeout "$limit" nvcc -std=c++20 -O3 --fmad=false -Icsrc "-I$headers" -ccbin aarch64-linux-gnu-g++ \
      -DFASTSEG_CUDA_ARCHITECTURES='"87-real,110-real"' -Xcompiler=-fPIC \
      -gencode arch=compute_87,code=sm_87 -gencode arch=compute_110,code=sm_110 \
      -c "$source" -o "$build/$(basename "$source").o"
  done
  echo "CUDA kernels: compiled for aarch64, sm_87 and sm_110 (nvcc $(nvcc --version | grep -o 'release [0-9.]*')), not linked"
fi

if diff "$build/x86_64.txt" "$build/aarch64.txt" >"$build/differences.txt"; then
  echo "all $(wc -l <"$build/aarch64.txt") digests are those of x86-64"
elif grep '^[<>]' "$build/differences.txt" | grep -qv '\*'; then
  echo "kernels differ from x86-64:" >&2
  cat "$build/differences.txt" >&2
  exit 1
else
  echo "digests are those of x86-64, but for some of those marked *:"
  cat "$build/differences.txt"
fi
