# All that a newcomer needs: `make reproduce` from a clone to results/report.html. Needs Python 3.11, make and gcc.
#   make reproduce [CONFIG=config/smoke.yaml] [CORES=2]     the study, and its report
#   make smoke      the same study in small, under results/smoke, in three minutes
#   make test       tests, one of each kind;  make test-all: all of them, at length
#   make lint       style of Python and Snakemake files, and which room may import which
#   make exactness  10^8 values of `packed` against int64, in every bit-width pair
#   make timing     whether time depends on secrets: t-tests of sampler, encryption and decryption
#   make docs       numbers of README and docs from the recorded results, and the site results/site
#   make certs      certificates for a data owner and workers, under certificates/
#   make lock       requirements.lock from what is installed
#   make record MACHINE=name    keep this study's records under results/recorded/name; refused if uncommitted code made them

CONFIG ?= config/config.yaml
CORES ?= all
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# An environment that exists is used as it is, e.g. a conda one: make install VENV=$CONDA_PREFIX
VENV ?= .venv

# Tests of a file share what they start, such as workers; the longest files come first as they are.
IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.private-lora-installed
# The configuration's own directory of results, or else the default's.
RESULTS = $(shell sed -n 's/^results: *\([^ \#]*\).*/\1/p' $(CONFIG) config/config.yaml | head -n 1)

.PHONY: install reproduce smoke test test-all exactness timing lint docs certs lock record

install: $(INSTALLED)

# Concrete ML asks for an old torch that it does not need, so no resolver accepts the pins: torch comes first with its own
# dependencies, then exactly what is listed.
$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Error: $(VENV) is not Python 3.11, for which the packages are pinned: make install PYTHON=..." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# The workflow makes the report. Snakemake's own report beside it shows which rule made what; it reads every table and figure, so
# it is made again only after one of them, or a caption.
reproduce: install
	@test -f $(CONFIG) || { echo "Error: there is no configuration $(CONFIG)" >&2; exit 1; }
	$(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG)
	@provenance=$(RESULTS)/provenance.html; set -e; \
	if [ ! -f $$provenance ] || [ -n "$$(find $(RESULTS)/tables $(RESULTS)/figures workflow/report -newer $$provenance)" ]; then \
		$(BIN)/snakemake --configfile $(CONFIG) --report $$provenance; \
	fi; echo "report: $(RESULTS)/report.html"

smoke:
	$(MAKE) reproduce CONFIG=config/smoke.yaml

test: install
	$(BIN)/python -m pytest -q $(IN_PARALLEL)

test-all: install
	$(BIN)/python -m pytest -q $(IN_PARALLEL) --all

exactness: install
	$(BIN)/python -m pytest -q tests/contract/test_exactness.py --checked-values 1e8

timing: install
	$(BIN)/python tests/timing/secret_classes.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check -l 128 Snakefile workflow
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/architecture/test_snakemake_lint.py

docs: install
	$(BIN)/snakemake --cores $(CORES) --configfile config/recorded.yaml
	$(BIN)/python -m private_lora docs --results results/recorded-published --site results/site

certs: install
	$(BIN)/python -m private_lora certs --out certificates

# Upgrade packages in $(VENV) first, run the tests, then lock what passed. CUDA libraries are torch's own business.
lock: install
	{ grep '^#' requirements.lock; $(BIN)/python -m pip list --format=freeze --exclude-editable \
		| sed 's/+.*//' | tr 'A-Z_' 'a-z-' | grep -vE '^(pip|wheel|triton|nvidia-.*|cuda-.*)==' \
		| LC_ALL=C sort -t = -k 1,1; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

record: install
	@test -n "$(MACHINE)" || { echo "Error: give the records a name: make record MACHINE=2-core-xeon" >&2; exit 1; }
	$(BIN)/python -m private_lora record --results $(RESULTS) --out results/recorded/$(MACHINE)
