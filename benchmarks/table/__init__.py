"""Every way to run the same network side by side; ``python -m benchmarks.table --out FOLDER``."""
