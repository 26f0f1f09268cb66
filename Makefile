# What a person runs is what CI runs. Needs: pip install -e '.[dev]'
PYTHON ?= python
CPP := $(shell git ls-files -co --exclude-standard 'csrc/*.cpp' 'csrc/*.h' 'csrc/*.cu' 'tools/*.cpp')
CODE := fastseg tests benchmarks training export examples tools
PROSE := $(shell git ls-files -co --exclude-standard '*.md')

.PHONY: check format format-check lint types layers prose test bench table

check: format-check lint types layers prose

format:
	$(PYTHON) -m ruff format $(CODE)
	$(PYTHON) -m ruff check --fix $(CODE)
	clang-format -i $(CPP)

format-check:
	$(PYTHON) -m ruff format --check $(CODE)
	clang-format --dry-run --Werror $(CPP)

lint:
	$(PYTHON) -m ruff check $(CODE)

types:
	$(PYTHON) -m mypy

layers:
	lint-imports

prose:
	$(PYTHON) tools/check_prose.py $(PROSE)

test:
	$(PYTHON) -m pytest

.PHONY: slow
slow:
	$(PYTHON) -m pytest -m slow

bench:
	$(PYTHON) -m pytest benchmarks -s

# Every way to run the same network, side by side; the references are cut short unless FULL=--full.
table:
	$(PYTHON) -m benchmarks.table --out build/table --plots $(FULL)
