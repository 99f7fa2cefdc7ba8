# Every target builds its own .venv from a bare Python 3.11 (or newer) and needs nothing else prepared.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo sweep-demo doctor test test-cluster browser check constraints clean

demo: $(INSTALLED)  ## the whole road on drawn phantoms, to a report
	$(BIN)/python jobs/pipeline.py smoke

sweep-demo: $(INSTALLED)  ## two backbones compared on drawn phantoms, and the better one exported
	$(BIN)/python jobs/tune.py sweep-demo

doctor: $(INSTALLED)  ## what is wrong with this machine, before work is begun
	$(BIN)/python jobs/doctor.py

test: $(INSTALLED) browser  ## all tests but those that start clusters
	$(BIN)/python -m pytest -m 'not cluster'

test-cluster: $(INSTALLED)  ## tests on clusters of their own: submitting, storage, lost nodes
	$(BIN)/python -m pytest -m cluster

browser:  ## Chromium for the tests of the page; without it and without the right to install it, they skip
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { \
		echo "installing chromium"; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null 2>&1; }; } || true

check: $(INSTALLED)  ## formatting, lint, types, who imports whom, undeclared packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into .venv (about two minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

constraints: $(INSTALLED)  ## resolve constraints.txt anew
	$(BIN)/uv pip compile -q --upgrade --all-extras --universal --python-version 3.11 pyproject.toml -o constraints.txt

clean:
	rm -rf .venv runs
