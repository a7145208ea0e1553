# Everything a developer does, one verb each; the work is in scripts/.
.PHONY: help run test lint bench build rebuild wheel clean

help:
	@echo 'What needs a build makes it first.'
	@echo 'make run      serve examples/kv.py on 127.0.0.1:6379, for redis-cli'
	@echo 'make test     C unit tests, then pytest       [ARGS="tests/core -k echo"]'
	@echo 'make lint     ruff, mypy --strict, warnings of the C library'
	@echo 'make bench    list the benchmarks or run one  [ARGS="echo --quick"]'
	@echo 'make build    leave .venv/bin/pybehave; installs what is missing'
	@echo 'make rebuild  compile what changed in src/'
	@echo 'make wheel    manylinux wheel and source distribution into dist/'
	@echo 'make clean    remove build/, dist/ and caches, keep .venv'

build:
	@scripts/setup.sh
run: build
	@scripts/run.sh $(ARGS)
test: build
	@scripts/test.sh $(ARGS)
lint: build
	@scripts/lint.sh
bench: build
	@scripts/bench.sh $(ARGS)
rebuild:
	@scripts/rebuild.sh
wheel: build
	@scripts/wheel.sh
clean:
	@scripts/clean.sh
