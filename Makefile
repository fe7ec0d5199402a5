# Everything is made in .venv/ and demo/; both can be deleted at any time.

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults fuzz test-image test-dataflow test-cluster faults-cluster faults-store flink-demo lint bench bench-kernels bench-compare bench-national bench-contracts bench-formats bench-month bench-night bench-years bench-feeds bench-sources bench-startup bench-flink constraints clean

BIN := .venv/bin
# The first of these that runs and is new enough.
PYTHON ?= $(shell for name in python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed ## install meterveil and its tools into .venv/ (a minute or two, once)

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "meterveil needs Python 3.11 or newer: install it, or name it with PYTHON=..." >&2; exit 1; }
	@echo "== Installing into .venv/ with $(PYTHON); this takes a minute or two"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	@touch $@

demo: export PATH := $(CURDIR)/$(BIN):$(PATH)
demo: setup ## the whole job on a fleet that is made up: from new keys to an analyst's query
	@rm -rf demo
	@printf '\n== %s\n' "1. A key for the pseudonyms, wrapped by a key of its own"
	meterveil keys create --keyset demo/keys/keyset.json --kek demo/keys/kek.bin
	@printf '\n== %s\n' "2. A fleet: 10,000 metering points, the week of the change to summer time, every fault of real feeds"
	meterveil generate --points 10000 --days 7 --start 2026-03-24 --faults all --out demo
	@printf '\n== %s\n' "3. Readings and reference in, every table of the policy out, one commit"
	meterveil ingest --readings 'demo/readings/*.avro' --reference demo/reference --lake demo/lake \
		--keyset demo/keys/keyset.json --kek demo/keys/kek.bin --run-record demo/run.json
	@printf '\n== %s\n' "4. What there is, and what an analyst may read of it"
	meterveil tables --lake demo/lake --role analyst
	@printf '\n== %s\n' "5. An analyst's week. 2026-03-29 has 23 hours"
	@printf '%s\n' "$$WEEK"
	meterveil query --lake demo/lake --role analyst --purpose load_research "$$WEEK"
	@printf '\n== %s\n' "6. The same figures beside those that the generator counted in another way"
	@meterveil query --lake demo/lake --role analyst --purpose load_research "$$WEEK" --format json --out demo/week.json
	@$(BIN)/python -m pipeline.fleet.compare demo/truth.json demo/run.json demo/week.json

define WEEK
SELECT local_date,
       max(expected_minutes) // 60 AS hours,
       count(DISTINCT site) AS sites,
       sum(energy) AS kwh,
       round(sum(energy * night_share) / sum(energy) FILTER (night_share IS NOT NULL), 3) AS night_share,
       round(sum(present_minutes) / sum(expected_minutes), 4) AS complete
FROM analytics.daily
WHERE direction = 'consumption'
GROUP BY local_date
ORDER BY local_date
endef
export WEEK

test: setup ## run every test, on all processors
	$(BIN)/pytest -n auto

faults: setup ## kill the real command 200 times, let several run at once 50 times, and see what is left (20 to 35 minutes)
	$(BIN)/python tests/faults/campaign.py

.venv/flink: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,flink,deploy,kms]' || \
		echo "== Flink's wheel can't be had: what needs it will say so" >&2
	@touch $@

test-image: setup ## lint the container image, and run its install steps in an empty environment (some minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,deploy]'
	METERVEIL_TEST_IMAGE=1 $(BIN)/pytest -rs tests/test_image.py

test-dataflow: setup ## what is submitted to Dataflow, by its own client, in an environment of its own (some minutes)
	$(PYTHON) -m venv --clear build/dataflow
	build/dataflow/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,deploy]'
	build/dataflow/bin/pip install --quiet --disable-pip-version-check -r deploy/dataflow/requirements.txt
	build/dataflow/bin/pytest -rs tests/pipeline/test_dataflow.py tests/pipeline/test_flex_template.py

CLUSTER ?= long or not long
test-cluster: .venv/flink ## real Flink, S3 and PostgreSQL on loopback: the same rows, and nothing left of them (needs Java 17, Maven, Go, PostgreSQL)
	METERVEIL_TEST_CLUSTER=1 $(BIN)/pytest -rs tests/cluster -m '$(CLUSTER)'

faults-cluster: .venv/flink ## kill TaskManagers and workers of a real cluster, 20 times
	$(BIN)/python tests/cluster/cluster_campaign.py

faults-store: setup ## let an S3 server and a PostgreSQL fail under real runs, 20 times (needs Go and PostgreSQL)
	$(BIN)/python tests/cluster/store_campaign.py

flink-demo: .venv/flink ## the demo's ingest on a real Flink cluster on loopback, beside the same in one process
	$(BIN)/python deploy/flink/demo.py demo/flink

.venv/fuzzed: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

FUZZ ?= 600
fuzz: .venv/fuzzed ## fuzz every reader for FUZZ seconds each (600), or one of them: TARGET=nem12
	$(BIN)/python tests/fuzz/fuzz_campaign.py --seconds $(FUZZ) $(TARGET)

lint: setup ## check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.venv/benched: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

SCALE ?= full
bench: .venv/benched ## the whole job beside its peers; SCALE=small ends in five minutes, SCALE=large has 108 M readings
	$(BIN)/python -m benchmarks.run --scale $(SCALE)

KERNELS = $(BIN)/pytest benchmarks --benchmark-only --benchmark-storage=benchmarks/results/kernels
bench-kernels: setup ## what each step of the core costs, kept as the baseline
	$(KERNELS) --benchmark-save=baseline

bench-compare: setup ## what moved since the baseline
	$(KERNELS) --benchmark-compare --benchmark-compare-fail=min:25%

bench-national: .venv/benched ## one day of every meter of Finland, and smaller fleets (15 minutes, 10 GB of disk)
	$(BIN)/python -m benchmarks.national

bench-contracts: .venv/benched ## the same readings in a lake of a hundred times the contracts
	$(BIN)/python -m benchmarks.contracts

bench-formats: .venv/benched ## the same readings from Avro and from Parquet
	$(BIN)/python -m benchmarks.formats

bench-month: .venv/benched ## memory of a month in one run beside that of a day (20 minutes, 30 GB of disk)
	$(BIN)/python -m benchmarks.month

bench-night: .venv/benched ## a day and eleven days' corrections into a lake that holds these; NIGHT=--heavy for sixty (35 GB of disk)
	$(BIN)/python -m benchmarks.night $(NIGHT)

bench-years: .venv/benched ## a year of weekly runs: whether the last is slower than the tenth (15 minutes, 15 GB of disk)
	$(BIN)/python -m benchmarks.years

bench-feeds: .venv/benched ## a reference snapshot of 4 M customers with every register; a day of 500,000 (5 minutes, 10 GB of disk)
	$(BIN)/python -m benchmarks.feeds

build/readers: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --target $@ lxml nemreader

bench-sources: setup build/readers ## every format beside the obvious way to read it; SOURCES=--large for a message of 1 GB
	$(BIN)/python -m benchmarks.sources --packages build/readers $(SOURCES)

bench-startup: setup ## what a command takes before it works: help, a query, a tiny ingestion
	$(BIN)/python -m benchmarks.startup

bench-flink: .venv/benched .venv/flink ## 20 M readings on a Flink cluster of this machine, and in one process; FLINK=--large for 200 M
	$(BIN)/python -m benchmarks.flink $(FLINK)

constraints: ## renew constraints.txt: the newest versions that fit together
	$(PYTHON) -m venv --clear build/newest
	build/newest/bin/pip install --quiet --disable-pip-version-check -e '.[bench,bench-sources,fuzz,lint,flink,deploy]'
	{ grep '^#' constraints.txt; build/newest/bin/pip freeze --exclude-editable; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## delete everything that can be made again
	rm -rf .venv demo build dist *.egg-info .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
