# make demo    try everything on a virtual cluster, no Raspberry Pi needed (root, Debian or Ubuntu)
# make test    lint, types, unit tests and acceptance tests on a virtual cluster (root)
# make bookworm  the acceptance tests on Debian 12 (root)
# make forky   the same on Debian testing; each of the three with USERLAND=ubuntu26 on nodes that have
#              uutils' coreutils and sudo-rs, as Ubuntu 26.04 (not on Debian 12)
# make life    a cluster's life on the lab: upgrades, nodes that join and leave, security updates, two
#              runs at once, the clock (root); make acceptance has these tests too, make test has not
# make torture the long tests: everything in the way of a deploy, on a virtual cluster (root),
#              after make bookworm; or PARTS="powercut faults" alone, power cuts with SEED=7
# make bench   benchmarks on virtual clusters, hours: docs/benchmarks/ (root); PARTS="limit card"
# make unit    unit tests only: no root, seconds
# make matrix  unit tests on each Python that is here, with lowest and newest dependencies;
#              PYTHONS="3.10 3.14" on these alone
# make lint    ruff, mypy, shellcheck, and the documents as a site (make docs)
# make docs    README.md, docs/ and the reference as a site below site/; a broken link is an error
# make dist    wheel and sdist of the last commit in dist/, the same bytes wherever they are built
# make readme  write the table of docs/settings.md
# make screenshot  write docs/report*.png: an example of the report's page (Debian's chromium)
# make transcript  write docs/preview.md and the README's excerpt: what pyinfra prints (root)
# make clean   the virtual environment and what tools left; not the virtual cluster's image cache

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Setuptools' strict editable mode links each module, so a new module needs a new installation
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check \
    --config-settings editable_mode=strict --editable
export ACCEPTANCE_USERLAND ?= $(USERLAND)
MODULES := $(wildcard $(foreach one,deploys facts operations,$(one)/*.py $(one)/*/*.py) templates/* templates/*/* src/chaos_engine/*)

.PHONY: FORCE demo test unit matrix matrix-ends python3.14 lint docs dist readme screenshot transcript acceptance life bookworm forky torture bench lab-packages venv clean

venv: $(STAMP)

$(VENV)/.modules: FORCE
	@mkdir -p $(VENV); echo '$(MODULES)' | cmp -s - $@ || echo '$(MODULES)' > $@

FORCE:

$(STAMP): pyproject.toml $(VENV)/.modules
	@tests/setup/venv "$(PYTHON)" $(VENV)
	$(INSTALL) '.[test,dev]'
	@touch $@

# Who tries the demo or runs the tests needs no pages
$(VENV)/.docs: pyproject.toml | $(STAMP)
	$(INSTALL) '.[docs]'
	@touch $@

unit: venv
	$(BIN)/pytest -n 2 --dist worksteal tests/unit

# What no Debian release has yet; which other Pythons there are is up to this computer
python3.14: venv
	@$(BIN)/python -m tests.debian_python 3.14

matrix: $(if $(filter 3.14,$(or $(PYTHONS),3.14)),python3.14,venv)
	$(BIN)/nox --session unit $(if $(PYTHONS),--python $(PYTHONS) --error-on-missing-interpreters)

matrix-ends: python3.14
	$(BIN)/nox --session ends

lint: docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.shellcheck

docs: venv $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: venv
	$(BIN)/python -m tests.dist

readme: venv
	$(BIN)/python -m tests.settings_table

screenshot: venv
	$(BIN)/python -m tests.screenshot

transcript: lab-packages venv
	$(BIN)/python -m tests.transcript

lab-packages:
	@tests/setup/lab-packages

# These have a lab of their own, so they can run beside the others
OWN_LAB := $(addprefix tests/acceptance/test_,07_sudo_password.py 14_bookworm_and_legacy.py \
    16_powercut.py)

LIFE := $(addprefix tests/acceptance/test_,27_leases.py 28_kubeadm_upgrade.py 29_clock.py \
    30_updates.py 31_upgrade.py 32_join.py)

life: lab-packages venv
	$(BIN)/pytest $(LIFE)

acceptance: lab-packages venv
	$(BIN)/pytest tests/lab/unit tests/preview tests/programs tests/acceptance

torture: $(if $(PARTS),lab-packages venv,bookworm)
	$(if $(PARTS),,PROPERTY_FILES=2000 $(BIN)/pytest tests/unit/test_real_programs.py tests/programs)
	POWERCUT_SEED=$(SEED) $(BIN)/pytest $(if $(PARTS),$(PARTS:%=tests/torture/test_%.py),tests/torture)

bookworm: lab-packages venv
	ACCEPTANCE_SUITE=bookworm $(BIN)/pytest tests/acceptance

forky: lab-packages venv
	ACCEPTANCE_SUITE=forky $(BIN)/pytest tests/acceptance

# Ansible for comparison, in an environment of its own
.bench/ansible/.installed:
	@tests/setup/venv "$(PYTHON)" .bench/ansible
	.bench/ansible/bin/pip install --quiet --disable-pip-version-check 'ansible-core>=2.17'
	@touch $@

bench: lab-packages venv .bench/ansible/.installed
	$(BIN)/python -m tests.bench $(PARTS)

# The nodes of the acceptance tests mostly wait: what needs none of them goes on beside them.
# nox runs tests/preview too. What only computes gives way to tests that watch the time
test: lab-packages venv $(VENV)/.docs python3.14
	@mkdir -p .nox; rm -f .nox/failed; \
	{ nice $(MAKE) --no-print-directory lint || echo lint >.nox/failed; \
	  nice $(BIN)/nox --session ends || echo matrix-ends >>.nox/failed; \
	  $(BIN)/pytest tests/lab/unit tests/programs $(OWN_LAB) || echo own-lab >>.nox/failed; \
	} >.nox/beside.log 2>&1 & \
	beside=$$!; failed=; \
	$(BIN)/pytest tests/acceptance $(OWN_LAB:%=--ignore=%) $(LIFE:%=--ignore=%) || failed=acceptance; \
	wait $$beside; cat .nox/beside.log; \
	failed="$$failed $$(cat .nox/failed 2>/dev/null)"; \
	[ -z "$${failed# }" ] || { echo "failed: $${failed# }" >&2; exit 1; }

demo:
	@tests/setup/demo

clean:
	rm -rf $(VENV) .bench .nox .python build dist site *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
