# Every target builds its own .venv, from the first Python of PYTHONS that is there, and needs nothing else
# prepared. PYTHON=... names another.
PYTHONS := python3.11 python3.12 python3.13
BIN := .venv/bin
INSTALLED := .venv/.installed
# Two groups of tests run at a time; make test SIDE_BY_SIDE= runs one after another.
SIDE_BY_SIDE := -n 2 --no-loadscope-reorder

# Where it is set, every process compiles our modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo sweep-demo doctor test test-cluster test-all fuzz browser check constraints clean

demo: $(INSTALLED)  ## the whole road on drawn phantoms, to a report
	$(BIN)/python jobs/pipeline.py smoke

install: $(INSTALLED)  ## .venv alone

sweep-demo: $(INSTALLED)  ## two backbones compared on drawn phantoms, and the better one exported
	$(BIN)/python jobs/tune.py sweep-demo

doctor: $(INSTALLED)  ## what is wrong with this machine, before work is begun
	$(BIN)/python jobs/doctor.py

test: $(INSTALLED) browser  ## tests but those that start clusters, and the thorough ones
	$(BIN)/python -m pytest -m 'not cluster and not thorough' $(SIDE_BY_SIDE)

test-cluster: $(INSTALLED)  ## tests on clusters of their own: submitting, storage, lost nodes, an endpoint's life
	$(BIN)/python -m pytest -m 'cluster and not thorough' $(SIDE_BY_SIDE)

test-all: $(INSTALLED) browser  ## every test, before a release
	$(BIN)/python -m pytest

fuzz: $(INSTALLED)  ## hostile images, forms, studies and requests for an hour: FUZZ_TIMES as many as in `make test`
	FUZZ_TIMES=$(or $(FUZZ_TIMES),300) $(BIN)/python -m pytest -s tests/serving/test_fuzz.py

browser:  ## Chromium for the tests of the page; without it and without the right to install it, they skip
	@command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { \
		echo "installing chromium"; \
		apt-get -qq update && for package in chromium-headless-shell chromium; do \
			apt-get -qq install -y --no-install-recommends $$package >/dev/null 2>&1 && break; done; }; } || true

check: $(INSTALLED)  ## formatting, lint, types, who imports whom, undeclared packages, fields of Kubernetes' manifests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .
	$(BIN)/python -m pytest -k kubernetes_knows_every_field tests/test_cluster_files.py

# uv installs the same packages in a tenth of the time, and reads none of pip's settings: where these name an index or a
# proxy, and where uv fails, pip installs.
PIP := $(BIN)/python -m pip --disable-pip-version-check
OWN_INDEX := \.(index-url|no-index|proxy)=

# Asked for what venv needs: a shim of pyenv may stand for nothing, and Debian packs ensurepip apart.
$(INSTALLED): pyproject.toml constraints.txt
	@if [ -x $(BIN)/python ] && [ -z "$(PYTHON)" ]; then echo "updating .venv"; exit; fi; \
	for python in $(or $(PYTHON),$(PYTHONS)); do \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
		echo "installing into .venv with $$("$$python" --version), $$(command -v "$$python"): 4 GB, a minute or more"; \
		exec "$$python" -m venv .venv; \
	done; \
	echo "none of these is a Python with venv: $(or $(PYTHON),$(PYTHONS)). Install one (Debian, Ubuntu: apt-get install" \
		"python3-venv; Fedora: dnf install python3.13; macOS: brew install python@3.13), or name one: make PYTHON=..." >&2; \
	exit 1
	@$(PIP) install -qq -c constraints.txt uv 2>/dev/null && ! $(PIP) config list | grep -qE '$(OWN_INDEX)' && \
		$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]' 2>/dev/null || \
		$(PIP) install -qq -c constraints.txt -e '.[dev]'
	@touch $@

constraints: $(INSTALLED)  ## resolve constraints.txt anew
	$(BIN)/uv pip compile -q --upgrade --all-extras --group serving --group serving-gpu --universal --python-version 3.11 pyproject.toml -o constraints.txt

clean:  ## all that can be built again; trained models, in runs/, stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find brain_ray jobs tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
