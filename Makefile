# The commands that people and CI share. Options go into ARGS: make train ARGS="--epochs 3"
PYTHON ?= python3
BIN := .venv/bin
VENV := .venv/installed
# A module is compiled when it is first imported: to compile all that torch brings takes a minute
PIP_OPTIONS := --disable-pip-version-check --no-compile --constraint constraints.txt
# A file's tests share what they start; files are begun in the order in which they are collected
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: start train test test-quick test-system test-browser test-cluster test-faults check audit format api ui server serve bench bench-sweep constraints clean reset

train: $(VENV)
	$(BIN)/python flows/train_flow.py $(ARGS)

# A fresh copy as a project of another name (docs/starting.md): make start NAME=leaf-reader MODEL=leaves
start: $(VENV)
	$(BIN)/python tools/start.py "$(NAME)" "$(MODEL)"
	$(BIN)/pip uninstall --quiet --yes mnist-pipeline

test: $(VENV)
	$(BIN)/pytest $(PARALLEL) $(ARGS)

# The library's tests that need neither a training by the flow nor several seconds
test-quick: $(VENV)
	$(BIN)/pytest -m "not slow" tests/test_config.py tests/test_house.py tests/data tests/training $(ARGS)

# These three together, as CI runs them: while one waits, another works
test-system: $(VENV) .venv/browser .venv/cluster .venv/faults
	$(BIN)/pytest $(PARALLEL) -m "browser or cluster or faults" tests/browser tests/cluster tests/faults $(ARGS)

# The page and the MLflow UI in a real browser: Debian's Chromium, as playwright would download its own
test-browser: $(VENV) .venv/browser
	$(BIN)/pytest $(PARALLEL) -m browser tests/browser $(ARGS)

# A sweep on a Dask cluster, one of whose workers is killed, and all of docs/scale.md: PostgreSQL, S3, several machines
test-cluster: $(VENV) .venv/cluster
	$(BIN)/pytest $(PARALLEL) -m cluster tests/cluster $(ARGS)

.venv/cluster: $(VENV)
	$(BIN)/pip install --quiet $(PIP_OPTIONS) --editable ".[cluster]"
	ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || { \
	    [ "$$(id -u)" = 0 ] || { echo "make test-cluster needs PostgreSQL: apt-get install postgresql"; exit 1; }; \
	    apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends postgresql > /dev/null; }
	touch $@

# Real faults from outside (docs/reliability.md); more of them with FAULTS_KILLS=100 FAULTS_REQUESTS=10000
test-faults: $(VENV) .venv/faults
	$(BIN)/pytest $(PARALLEL) -m faults tests/faults $(ARGS)

.venv/faults: $(VENV)
	$(BIN)/pip install --quiet $(PIP_OPTIONS) --editable ".[faults]"
	touch $@

.venv/browser: $(VENV)
	$(BIN)/pip install --quiet $(PIP_OPTIONS) --editable ".[browser]"
	command -v chromium > /dev/null || { \
	    [ "$$(id -u)" = 0 ] || { echo "make test-browser needs chromium: apt-get install chromium"; exit 1; }; \
	    apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends chromium > /dev/null; }
	touch $@

check: $(VENV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Known vulnerabilities of what constraints.txt pins; the auditor has an environment of its own
audit: .venv-audit/installed
	.venv-audit/bin/python .ci/audit

.venv-audit/installed: pyproject.toml
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet "pip-audit>=2.9,<3"
	touch $@

format: $(VENV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The MLflow UI for the database that the flows write to, wherever make is called from
ui: $(VENV)
	$(BIN)/python -m flows.ui mlflow $(ARGS)

# The champion, with a page to draw a digit on and POST /predict
serve: $(VENV)
	$(BIN)/python -m serving $(ARGS)

# A lasting Prefect server with its UI, which the flows then use
server: $(VENV)
	$(BIN)/python -m flows.ui prefect $(ARGS)

# Built once, and again when one of these files changes
$(VENV): pyproject.toml constraints.txt
	@echo "Building .venv: two to five minutes and 6 GB, nearly all of it torch"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP_OPTIONS) --editable ".[dev]"
	touch $@

# Speed against the tutorial's script and other libraries, which have an environment of their own: MLflow imports
# Lightning wherever it is installed
bench: $(VENV) .venv-bench/installed
	.venv-bench/bin/python benchmarks/speed.py $(ARGS)

bench-sweep: $(VENV)
	$(BIN)/python benchmarks/sweep.py $(ARGS)

.venv-bench/installed: $(VENV)
	$(PYTHON) -m venv .venv-bench
	$(BIN)/python -c "import site; print(site.getsitepackages()[0])" > "$$(echo .venv-bench/lib/python*/site-packages)/main.pth"
	.venv-bench/bin/pip install --quiet $(PIP_OPTIONS) --editable ".[bench]"
	touch $@

# The docstrings as pages: .cache/api/index.html
api: $(VENV)
	$(BIN)/pdoc flows tasks mnist_pipeline serving --output-directory .cache/api

# Pin what pyproject.toml allows (needs pip-tools); pins that still fit are kept
constraints:
	pip-compile --quiet --all-extras --strip-extras --allow-unsafe --no-header --no-annotate --no-emit-options \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv .venv-bench .venv-audit .cache .grimp_cache .mypy_cache .pytest_cache .ruff_cache

# Back to before the first run: deletes what the flows wrote beside the code, once it is confirmed
STATE := mlflow.db* mlflow.lock mlartifacts optuna.db* served.db* corrections in_progress .prefect MNIST_data
reset:
	@printf 'Delete all runs, models, checkpoints and data in %s? [y/N] ' "$$PWD"; read -r answer; \
	if [ "$$answer" = y ]; then rm -rf $(STATE); else echo 'Nothing was deleted.'; fi
