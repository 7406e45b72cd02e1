# make train   set up and run the demo: synthetic clicks, two Ray Train workers, GradOPS
# make test    set up and run all checks and tests
# make clean   remove what the two made (the runs too)

PYTHON ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p && break; done)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
INSTALLED := $(VENV)/installed
DEMO_ROWS ?= 300000

.PHONY: setup train test end-to-end lint clean

setup: $(INSTALLED)

# torch comes first and alone: its CPU build lies on an index of its own, and pip would ask every
# index about every package. pip compiles modules on one core; compileall takes all, and fails at
# files that are templates or of other Pythons, as pip does without a word.
$(INSTALLED): docker/cpu.lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else "Python %d.%d: recsys_mtl needs 3.11 or 3.12; name one with make PYTHON=..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-compile --no-deps --retries 1 --extra-index-url $(TORCH_INDEX) \
		"$$(grep '^torch==' docker/cpu.lock.txt)"
	$(VENV)/bin/pip install --quiet --no-compile --no-deps -r docker/cpu.lock.txt
	$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

train: $(INSTALLED) data/demo/truth.json
	$(VENV)/bin/recsys-mtl train pipelines/runs/demo.yaml

data/demo/truth.json: | $(INSTALLED)
	$(VENV)/bin/python -m pipelines.synthetic_clicks --out data/demo --rows $(DEMO_ROWS) --seed 1

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# A torch thread a process: as many processes as cores have none to spare. A file's tests stay with
# one process, which makes their fixtures once, and the long files come first. The tests of whole runs
# share a Ray cluster, which takes all cores at times, and come one after the other; they often wait
# for it, so that the checks of the code cost nothing beside them.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder \
		tests/in_process tests/distributed tests/unit tests/deploy
	$(MAKE) --no-print-directory -j 2 end-to-end lint

end-to-end: $(INSTALLED)
	$(VENV)/bin/python -m pytest tests/end_to_end

clean:
	rm -rf $(VENV) data/demo runs/demo
