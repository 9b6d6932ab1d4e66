# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11+.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: install demo test test-slow test-gpu fuzz lint format bench bench-gpu

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# The assay on a model that forgot twenty concepts by ESD. FAIL (exit 10) is the right answer here.
demo: install
	@$(BIN)/resurgence-gate check pocket:esd --policy pocket --out demo-report; \
	code=$$?; \
	if [ $$code -eq 10 ]; then \
	  echo "The gate stopped this model (exit code 10), as it should. Look at demo-report/report.html."; \
	else \
	  echo "expected FAIL (exit code 10), got exit code $$code" >&2; exit 1; \
	fi

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope

test-slow: install
	$(BIN)/python -m pytest -m slow

test-gpu: install
	$(BIN)/python -m pytest -m gpu

# `make fuzz SECONDS=60` for a minute; `ONLY=policy,header` for some of the targets.
fuzz: SECONDS = 600
fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) $(if $(ONLY),--only "$(ONLY)")

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck action/steps.sh
	$(BIN)/zizmor --offline --quiet --persona=pedantic action.yml

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/check_against_script.py --size pocket --device cpu --out benchmarks/results/check_cpu.md
	$(BIN)/python benchmarks/inspect_time.py --out benchmarks/results/inspect.md

bench-gpu: install
	$(BIN)/python benchmarks/check_against_script.py --size sd14 --device cuda --out benchmarks/results/check_gpu.md
	for size in sd14 sd21; do \
	  $(BIN)/python benchmarks/check_against_script.py --size $$size --device cuda --gate-only \
	    --out benchmarks/results/check_$${size}_cuda.md && \
	  $(BIN)/python benchmarks/probe_memory.py --size $$size --device cuda \
	    --out benchmarks/results/probe_memory_$${size}_cuda.md && \
	  $(BIN)/python benchmarks/unlearn_steps.py --size $$size --device cuda \
	    --out benchmarks/results/unlearn_steps_$${size}_cuda.md || exit 1; \
	done
