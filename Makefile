PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Installs everything but torch, several times faster than pip; `make UV= serve` installs with pip alone.
UV = uv>=0.11,<1
IMPORTS := ray.serve, torch, transformers, openvino, lancedb, cv2, av, sklearn.cluster, fastapi

# Over how many processes the tests are spread; tests/conftest.py says how.
SPREAD := -n auto --maxprocesses 4 --no-loadscope-reorder

# $(call install,REQUIREMENT): with uv, or with pip where uv cannot be had or finds no packages.
install = $(if $(UV),{ $(BIN)/pip install --quiet '$(UV)' \
	&& $(BIN)/uv pip install --quiet --python $(BIN)/python -e '$(1)'; } ||) $(BIN)/pip install --quiet -e '$(1)'

.PHONY: serve test test-isa hostile client schema check bench faults two-nodes soak clean

serve: $(VENV)/.installed
	$(BIN)/visiongraph serve $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/pytest $(SPREAD) $(ARGS)

# The numeric tests once under each instruction set that this processor has.
test-isa: $(VENV)/.installed-dev
	$(BIN)/python -m tests.isa $(ARGS)

# Every hostile file and request to every route, of a service of its own or of the one at ARGS='--url …'.
hostile: $(VENV)/.installed-dev
	$(BIN)/python -m tests.hostile --out ops/bench/reports/hostile.md $(ARGS)

# What the Python client has from tests/contract/openapi.json: its models and a method for each route.
client: $(VENV)/.installed-dev
	$(BIN)/python clients/python/generate.py

# Many made-up requests to every route, EXAMPLES to each; SCHEMA_URL names a running service, SCHEMA_KEY a key of it.
schema: $(VENV)/.installed-dev
	EXAMPLES=$${EXAMPLES:-200} $(BIN)/pytest tests/contract/test_answers.py $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/visiongraph check
	$(BIN)/python -m ops.check.dependencies
	$(BIN)/kingfisher scan . --git-history none --quiet --redact --no-validate --no-update-check --rules-path ops/check/secrets.yaml
	$(BIN)/hadolint ops/deploy/Dockerfile
	$(BIN)/yamllint -s -c ops/deploy/.yamllint ops/deploy
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec ops/deploy/compose*.yaml
	$(BIN)/check-jsonschema -q --schemafile ops/deploy/kubernetes/rayservice.schema.json ops/deploy/kubernetes/rayservice.yaml
	$(BIN)/kubernetes-validate --strict --quiet ops/deploy/kubernetes/settings.yaml ops/deploy/kubernetes/network.yaml

bench: $(VENV)/.installed-dev
	$(call install,.[bench])
	$(BIN)/python -m ops.bench.assets $(ARGS)
	$(BIN)/python -m ops.bench.photos

# Everything that can fail, and the table of what clients see of it; takes about a quarter of an hour.
faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.cluster.faults --out docs/faults.md $(ARGS)

# The service on a Ray cluster of two nodes, of which one is killed.
two-nodes: $(VENV)/.installed-dev
	$(BIN)/python -m tests.cluster.two_nodes --out ops/bench/reports/two-nodes.md $(ARGS)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m ops.bench.soak --out ops/bench/reports/soak.md $(ARGS)

# torch comes first and by pip, so that a machine set up for its CPU build keeps that; uv leaves what is installed.
# uv compiles no bytecode: one process does it here for what all of them import, not each for itself at the first start.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile 'torch==2.13.0'
	$(call install,.)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c 'import $(IMPORTS)'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(call install,.[dev])
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
