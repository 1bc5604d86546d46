# The same commands for everyone: `make train`, `make test`. Options of the flow: make train ARGS="--epochs 3"
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
VENV := .venv/installed

.PHONY: train test test-browser test-cluster test-faults check audit format api ui server serve bench bench-sweep constraints clean

train: $(VENV)
	$(BIN)/python flows/train_flow.py $(ARGS)

test: $(VENV)
	$(BIN)/pytest $(ARGS)

# The page and the MLflow UI in a real browser: Debian's, as playwright's own would be downloaded
test-browser: $(VENV) .venv/browser
	$(BIN)/pytest -m browser tests/browser $(ARGS)

# A sweep on a Dask cluster with a worker killed at work, and all of docs/scale.md: PostgreSQL, S3, several machines
test-cluster: $(VENV) .venv/cluster
	$(BIN)/pytest -m cluster tests/cluster $(ARGS)

.venv/cluster: $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[cluster]"
	ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || { \
	    [ "$$(id -u)" = 0 ] || { echo "make test-cluster needs PostgreSQL: apt-get install postgresql"; exit 1; }; \
	    apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends postgresql > /dev/null; }
	touch $@

# What may go wrong from outside, for real (docs/reliability.md); for the record: FAULTS_KILLS=100 FAULTS_REQUESTS=10000
test-faults: $(VENV) .venv/faults
	$(BIN)/pytest -m faults tests/faults $(ARGS)

.venv/faults: $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[faults]"
	touch $@

.venv/browser: $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[browser]"
	command -v chromium > /dev/null || { \
	    [ "$$(id -u)" = 0 ] || { echo "make test-browser needs chromium: apt-get install chromium"; exit 1; }; \
	    apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends chromium > /dev/null; }
	touch $@

check: $(VENV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Known vulnerabilities of what constraints.txt pins; the auditor stands in an environment of its own
audit: .venv-audit/installed
	.venv-audit/bin/python .ci/audit

.venv-audit/installed: pyproject.toml
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet "pip-audit>=2.9,<3"
	touch $@

format: $(VENV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The MLflow UI over the database that the flows write to, wherever make was called from
ui: $(VENV)
	DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	$(BIN)/mlflow ui --workers 1 --host 127.0.0.1 --port 5000 --allowed-hosts 127.0.0.1:5000,localhost:5000 \
	    --backend-store-uri "$$($(BIN)/python -m mnist_pipeline.store)"

# The champion behind a page to draw a digit on, and POST /predict
serve: $(VENV)
	$(BIN)/python -m serving $(ARGS)

# A lasting Prefect server, which the flows then use, with its UI
server: $(VENV)
	$(BIN)/python -m flows.prefect_api

# Built once, and again when what it is built from has changed
$(VENV): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# Speed against the tutorial's script and its peers, which stand in an environment of their own: to have Lightning
# installed makes MLflow import it
bench: $(VENV) .venv-bench/installed
	.venv-bench/bin/python benchmarks/speed.py $(ARGS)

bench-sweep: $(VENV)
	$(BIN)/python benchmarks/sweep.py $(ARGS)

.venv-bench/installed: $(VENV)
	$(PYTHON) -m venv .venv-bench
	$(BIN)/python -c "import site; print(site.getsitepackages()[0])" > "$$(echo .venv-bench/lib/python*/site-packages)/main.pth"
	.venv-bench/bin/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	touch $@

# The API's pages, made of its docstrings: .cache/api/index.html
api: $(VENV)
	$(BIN)/pdoc flows tasks mnist_pipeline serving --output-directory .cache/api

# Pin anew what pyproject.toml allows (needs pip-tools); pins that still fit are kept
constraints:
	pip-compile --quiet --all-extras --strip-extras --allow-unsafe --no-header --no-annotate --no-emit-options \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv .venv-bench .venv-audit .cache .mypy_cache .pytest_cache .ruff_cache
