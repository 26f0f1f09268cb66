"""Table of all ways to run a network side by side; ``python -m benchmarks.table --out FOLDER``."""
