#!/usr/bin/env bash
# Build the wheel and the source distribution, audit the wheel, and use it in a clean environment.
# Usage: tools/check_wheel.sh [FOLDER]    (default: build/dist)
set -euo pipefail
cd "$(dirname "$0")/.."

LARGEST_MB=60
folder="$(realpath -m "${1:-build/dist}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

rm -rf "$folder"
pip wheel --quiet --no-deps --wheel-dir "$work/wheel" .
# Which libraries of the system the modules need: a wheel that needs newer ones is named for them.
auditwheel show "$work"/wheel/*.whl
auditwheel repair --wheel-dir "$folder" "$work"/wheel/*.whl
wheel="$(echo "$folder"/*.whl)"

bytes="$(stat --format %s "$wheel")"
echo "wheel: $(basename "$wheel"), $((bytes / 1000000)) MB"
[ "$bytes" -le $((LARGEST_MB * 1000000)) ] || { echo "larger than $LARGEST_MB MB" >&2; exit 1; }

python -m build --sdist --outdir "$folder" . > "$work/sdist.log" || { cat "$work/sdist.log"; exit 1; }
# What the build needs, and nothing that only a clone has.
tar -tzf "$folder"/*.tar.gz > "$work/files"
for name in CMakeLists.txt csrc/CMakeLists.txt fastseg/__init__.py LICENSE README.md; do
  grep -q "/$name\$" "$work/files" || { echo "the source distribution lacks $name" >&2; exit 1; }
done

python -m venv "$work/environment"
"$work/environment/bin/pip" install --quiet "$wheel[cpu,cli]"
cd "$work"  # not the clone, whose folder fastseg/ would hide the installed package
"$work/environment/bin/fastseg" demo --out demo --json > demo.json
masks="$("$work/environment/bin/python" -c '
import json, pathlib
print(json.loads(pathlib.Path("demo/timings.json").read_text())["steps"][0]["masks"])')"
echo "demo of the installed wheel: $masks masks"
[ "$masks" -ge 22 ] || { echo "the photograph has 22 coins" >&2; exit 1; }
