# What a person runs is what CI runs. Needs: pip install -e '.[dev]'
PYTHON ?= python
CPP := $(shell git ls-files -co --exclude-standard 'csrc/*.cpp' 'csrc/*.h' 'csrc/*.cu' 'tools/*.cpp')
CODE := fastseg tests benchmarks training export examples tools
PROSE := $(shell git ls-files -co --exclude-standard '*.md')
WORDS := $(shell git ls-files -co --exclude-standard '*.py' '*.pyi' '*.cpp' '*.h' '*.cu' '*.md' ':!:*/*check_words.py')

.PHONY: check format format-check lint types layers prose words rules test slow bench table site wheel

check: format-check lint types layers prose words rules

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
	@$(PYTHON) tools/check_prose.py $(PROSE)

# Words that tools/retired_words.txt has replaced.
words:
	@$(PYTHON) tools/check_words.py $(WORDS)

# What holds for every file: the first words of docstrings, and who includes whom.
rules:
	$(PYTHON) -m pytest -q tests/test_docstrings.py tests/test_includes.py

test:
	$(PYTHON) -m pytest -n auto

# What takes minutes: published sizes of SAM, engines of whole models, training in full.
slow:
	$(PYTHON) -m pytest -m slow

bench:
	$(PYTHON) -m pytest benchmarks -s

# Every way to run the same network, side by side; the references are cut short unless FULL=--full.
table:
	$(PYTHON) -m benchmarks.table --out build/table --plots $(FULL)

# The documentation as a site, in build/site. Needs the extra docs.
site:
	$(PYTHON) -m mkdocs build
