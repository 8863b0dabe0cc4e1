# Two commands are enough: `make demo` shows what it does, `make test` runs the tests. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := .venv-bench
OLDEST := .venv-oldest
PIP_OPTIONS := --disable-pip-version-check --constraint constraints.txt
DATA ?= .cache/drill
# Each test file is run by one process, in the order of tests/conftest.py; -n 0 runs everything in one process.
IN_PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
# Shows a counter and errors instead of pip's five hundred lines.
SHOW_PROGRESS := /^Collecting/ && ++n % 20 == 0 { print "        " n " packages found"; fflush() } \
	/^Installing collected/ { print "        installing " n " packages"; fflush() } \
	/^(ERROR|WARNING|error)/ { print } /^FAILED/ { failed = 1 } END { exit failed }

# Tests start hundreds of Python processes, which share the compiled bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo up test oldest pythons faults mutants lint lint-types lint-rest format docs site bench collector dashboards drill preview deploy deploy-tools image-info clean

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml src/otel_resilience/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "catalog-sync needs Python 3.11 or newer; name one with PYTHON=...")'
	@echo "Setting up $(VENV), once; this takes about a minute."
	@test -x $(BIN)/python || { echo "1 of 2: a virtual environment with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "2 of 2: the library, the application and the tools of its tests, at the versions of constraints.txt"
	@{ $(BIN)/python -m pip install $(PIP_OPTIONS) --editable src/otel_resilience --editable '.[dev]' 2>&1 || echo FAILED; } \
		| tee $(VENV)/install.log | awk '$(SHOW_PROGRESS)' || { echo "see $(VENV)/install.log"; exit 1; }
	@touch $@
	@echo "$(VENV) is ready."

install: $(STAMP) ## Set up .venv: both distributions from this tree, with all extras
	@echo "Next: make demo, or $(BIN)/catalog-sync --help"

demo: $(STAMP) ## Play a sync, faults, an outage and the recovery on this machine
	@$(BIN)/catalog-sync demo

up: $(STAMP) ## Start API, workers, scheduler, and unless configured a simulator and a Redis; Ctrl-C stops all
	@$(BIN)/python -m catalog_sync.up

test: $(STAMP) ## Run the tests
	@sh .ci/tools
	@$(BIN)/python -m pytest $(IN_PARALLEL) $(TEST_OPTIONS) || sh .ci/again $$? $(BIN)/python

oldest: ## Run the tests of the library with the oldest OpenTelemetry that it allows
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	@grep -vE '^(opentelemetry-|googleapis|importlib|packaging|protobuf|wrapt)' constraints.txt > $(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/constraints.txt \
		--editable src/otel_resilience 'opentelemetry-api==1.39.*' 'opentelemetry-sdk==1.39.*' \
		'opentelemetry-instrumentation-httpx==0.60b1' 'opentelemetry-instrumentation-requests==0.60b1' 'opentelemetry-distro==0.60b1' \
		'opentelemetry-exporter-otlp-proto-http==1.39.*' aiohttp anthropic asyncpg backoff boto3 celery circuitbreaker \
		confluent-kafka elasticsearch 'fakeredis[lua]' googleapis-common-protos grpcio 'httpx[socks]' httpx2 hypothesis kafka-python openai \
		'psycopg[binary,pool]' psycopg2-binary pybreaker pydantic pymongo PyMySQL pytest pytest-asyncio pytest-timeout pytest-xdist \
		pyyaml redis requests rich 'SQLAlchemy[asyncio]' stamina tenacity
	@$(OLDEST)/bin/python -m pytest tests/otel_resilience $(TEST_OPTIONS)

pythons: $(STAMP) ## Run the tests with each other supported Python that is installed (ten minutes each)
	@set -e; PYTHONPATH=tests $(BIN)/python -m support.pythons | while read -r version python; do \
		echo "Python $$version"; \
		test -x .venv-$$version/bin/python || $$python -m venv .venv-$$version; \
		.venv-$$version/bin/python -m pip install --quiet $(PIP_OPTIONS) --editable src/otel_resilience --editable '.[dev]'; \
		.venv-$$version/bin/python -m pytest $(IN_PARALLEL) $(TEST_OPTIONS) < /dev/null; \
	done

faults: $(STAMP) ## Run the tests that prove the table of faults and print it with their results
	@sh .ci/tools
	@$(BIN)/python -m pytest $(IN_PARALLEL) -m fault --fault-table=-

mutants: $(STAMP) ## Mutation testing of the core: print the score and the survivors (hours; see docs/mutants.md)
	@sh .ci/tools
	@nice -n 15 $(BIN)/python -m tools.mutants $(MUTANTS_OPTIONS)

lint: $(STAMP) ## Check types, style and imports between folders
	@$(MAKE) --no-print-directory --jobs 2 lint-types lint-rest

lint-types: $(STAMP)
	@$(BIN)/python -m mypy

lint-rest: $(STAMP)
	@$(BIN)/basedpyright --pythonpath $(BIN)/python --level error
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/lint-imports

format: $(STAMP) ## Format the code
	@$(BIN)/python -m ruff check --fix --quiet . || true
	@$(BIN)/python -m ruff format .

docs: $(STAMP) ## Regenerate the reference pages
	@$(BIN)/python -m tools.telemetry
	@$(BIN)/python docs/public_api.py
	@PYTHONPATH=tests $(BIN)/python -m tools.site.references
	@$(BIN)/python -m tools.settings
	@PYTHONPATH=tests $(BIN)/python -m support.fault_table

site: $(STAMP) ## Build the site of docs/ into site/; every warning is an error
	@PYTHONPATH=tests $(BIN)/python -m tools.site.diagrams
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "Built. To read it: $(BIN)/python -m http.server --directory site --bind 127.0.0.1 8000"

bench: $(STAMP) ## Run the benchmarks against other libraries and print the tables (ten minutes)
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet $(PIP_OPTIONS) --editable src/otel_resilience --editable . \
		-r benchmarks/requirements.txt
	@$(BENCH)/bin/python -m benchmarks.run $(BENCH_OPTIONS)
	@$(BIN)/python -m benchmarks.simulations $(BENCH_OPTIONS)
	@$(BIN)/python -m benchmarks.sync_speed $(BENCH_OPTIONS)
	@$(BIN)/python -m benchmarks.api_reads $(BENCH_OPTIONS)
	@$(BIN)/python -m benchmarks.scale $(BENCH_OPTIONS)
	@$(BIN)/python -m benchmarks.processes $(BENCH_OPTIONS)

collector: ## Build the Collector with Go (minutes, once) and print where it is
	@sh otel-collector/build

deploy-tools: ## Build helm with Go, for the chart's tests (minutes, once) and print where it is
	@sh deploy/tools

deploy: ## Regenerate the plain manifests of deploy/kubernetes from the chart
	@sh deploy/render

image-info: $(STAMP) ## List what the image contains: .cache/image/sbom.cdx.json (CycloneDX), licences.txt
	@$(BIN)/python deploy/image_info.py

drill: $(STAMP) ## Play eighteen incidents against the real programs and print who was notified, and when (20 minutes)
	@sh .ci/tools
	@PYTHONPATH=tests $(BIN)/python -m drill $(DRILL_OPTIONS)

dashboards: $(STAMP) ## Regenerate dashboards, alert rules and their pages
	@$(BIN)/python -m grafana.generate $(if $(RUNBOOK_BASE),--runbook-base $(RUNBOOK_BASE))

preview: $(STAMP) ## Draw the dashboards from the data that a drill kept in DATA (Node, Chromium; 450 MB of packages, once)
	@$(BIN)/python -m grafana.preview --data $(DATA) $(PREVIEW_OPTIONS)

clean: ## Remove what the other targets created
	rm -rf $(VENV) .venv-3.* $(BENCH) $(OLDEST) .pytest_cache .mypy_cache .ruff_cache .hypothesis site
