.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-timm bench-serve lint setup setup-build clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup  ## train on the furniture set that ships; compare start, metric loss and SAGA on unseen classes: runs/demo, replaced if there (made for 15 minutes on 2 cores)
	@rm -rf runs/demo
	.venv/bin/saga train furniture --output runs/demo
	@.venv/bin/python .ci/check_demo.py runs/demo

test: setup  ## the whole test suite but what is marked slow or gpu (made for 20 minutes on 2 cores)
	.venv/bin/python -m pytest

test-slow: setup  ## the tests that train for minutes
	.venv/bin/python -m pytest -m "slow and not gpu" --timeout 7200

test-timm: setup  ## the tests of timm's towers, with the timm and torchvision of [gpu] in a folder aside
	@.ci/test-timm

bench-serve: setup  ## what serving costs, as ratios: benchmarks/serve.md
	.venv/bin/python benchmarks/serve.py

lint: setup  ## ruff (rules and format) and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

setup:  ## .venv with the pinned versions and the saga command (2 to 3 minutes, then nothing to do)
	@.ci/setup.sh

setup-build:  ## also what renders the shipped pictures and converts the tower's weights
	@.ci/setup.sh build

clean:  ## remove the caches of tests and tools (keeps .venv and runs)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find saga_ray jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +
