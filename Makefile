# `make` builds .venv, installs, and prints and saves the main table with a figure; `make test` checks everything.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: all demo install install-experiments install-test experiments experiments-full check test test-pythons lint types \
	docs docs-links gpu wheel release notebooks catalog verify-catalog clean

all: demo

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "softmaxcode needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# the stamps hold the installed requirements, so that nothing is installed twice
$(VENV)/installed: $(BIN)/python setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-experiments: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[experiments]'
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

install: $(VENV)/installed

install-experiments: $(VENV)/installed-experiments

install-test: $(VENV)/installed-test

# The main job: a dozen (K, d), margin beside Tammes distance, and one code drawn.
demo: install
	mkdir -p out
	@echo 'compiling the kernels, once per machine'
	@$(BIN)/softmaxcode solve 10 3 --starts 1 --no-catalog --no-exact > /dev/null
	$(BIN)/softmaxcode table --pairs '5,2; 4,3; 6,3; 12,3; 13,3; 14,3; 24,3; 10,4; 24,4; 16,5; 27,6; 56,7; 40,10' -o out/table.csv --force
	$(BIN)/softmaxcode solve 24 3 -o out/code.npz --force
	$(BIN)/softmaxcode plot out/code.npz -o out/code.png --force

# Networks trained on digit-pairs (K = 100, d = 10), one seed per head, and the report: a few minutes on two cores.
EXPERIMENT = $(BIN)/python -m experiments
JOBS ?= 2

experiments: install-experiments
	$(EXPERIMENT) gnc --seeds 1 --results out/experiments-quick --jobs $(JOBS)
	$(EXPERIMENT) report --results out/experiments-quick

# Every study with its seeds and stress levels. It can be stopped, and resumes when it is called again.
experiments-full: install-experiments
	for study in gnc temperature cmf assignment finetune text retrieval; do \
		$(EXPERIMENT) $$study --results out/experiments --jobs $(JOBS) || exit 1; \
	done
	$(EXPERIMENT) report --results out/experiments

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell --dictionary - --dictionary words.txt

types: install-test
	$(BIN)/mypy

# The site, into out/site, with its examples executed; warnings are errors.
docs: install-test
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs out/site

# Links that leave the site; this needs a network.
docs-links: install-test
	$(BIN)/python -m sphinx -q -D plot_gallery=0 -b linkcheck docs out/links

# For the working loop: lint, types and tests of under 90 s together on two idle cores.
QUICK = tests/test_architecture.py tests/test_package.py tests/softmaxcode/bounds tests/softmaxcode/checks \
	tests/softmaxcode/contacts tests/softmaxcode/nn tests/softmaxcode/plotting

check: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not processes and not slow" $(QUICK)

# Two processes with one thread each: more threads than cores wait for each other.
test: lint types docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	$(MAKE) wheel

# `make test` with every Python that is installed, each in an environment of its own.
PYTHONS ?= python3.11 python3.12 python3.13

test-pythons:
	for python in $(PYTHONS); do \
		if command -v $$python > /dev/null; then $(MAKE) test PYTHON=$$python VENV=.venv-$$python || exit 1; \
		else echo "$$python is not installed: not tested"; fi; \
	done

# `benchmarks/gpu-wheels.txt` lists what a bare machine needs. Every CUDA test and every CUDA row of the benchmarks, with their tables in a folder: under nine minutes on one GPU.
GPU_OUT ?= out/gpu

gpu: install-test
	$(BIN)/python -m benchmarks.gpu $(GPU_OUT)

# The wheel, tried in an environment of its own that has the libraries of $(VENV); `make release` installs those as well.
PURELIB = -c 'import sysconfig; print(sysconfig.get_path("purelib"))'

wheel: install-test
	rm -rf build dist out/clean
	$(BIN)/python -m build --quiet --wheel --outdir dist
	$(BIN)/python -m venv out/clean
	$(BIN)/python $(PURELIB) > "$$(out/clean/bin/python $(PURELIB))/libraries.pth"
	out/clean/bin/python -m pip install --quiet --no-deps --ignore-installed dist/softmaxcode-*.whl
	cd out && clean/bin/python -I ../tests/try_wheel.py
	rm -rf out/clean

# What a release needs: sdist and wheel, checked, and the wheel installed with each extra in turn.
release: install-test
	rm -rf build dist
	$(BIN)/python -m build --quiet --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tests/try_extras.py dist/softmaxcode-*.whl

# The notebooks, executed again in place.
notebooks: install-test
	$(BIN)/python -m nbconvert --to notebook --execute --inplace notebooks/*.ipynb

# One sweep of the shipped catalogue: improves what is there. Another SEED looks elsewhere.
SEED ?= 0
SHIPPED := softmaxcode/data/catalog.sqlite
#: Published pairs that no other stage has.
PUBLISHED := 72,9; 73,9; 88,10; 72,11; 81,12; 95,12; 71,13; 72,13; 74,13; 90,13; 94,13; 95,13; 96,13; 99,13; \
	76,14; 102,14; 75,15; 76,16; 79,16; 88,16; 126,16; 136,10; 216,3; 360,3; 372,3; 432,3; 492,3
IMPROVE = $(BIN)/softmaxcode catalog improve --catalog $(SHIPPED) --seed $(SEED)

# What a user meets first comes first. On two cores d = 4 took 9 minutes, d = 5 to 8 took 14 and d = 9 to 16 took 26; the budgets of the others add up to an hour, with certificates of large codes beside.
catalog: install
	mkdir -p softmaxcode/data
	$(IMPROVE) --classes 7:200 --dims 3 --budget 15
	$(IMPROVE) --classes 7:130 --dims 4 --budget 8
	$(IMPROVE) --classes 11:64 --dims 5:8 --budget 8
	$(IMPROVE) --classes 11:64 --dims 9:16 --budget 6
	$(IMPROVE) --pairs '100,10; 100,20; 100,30; 200,10; 200,20; 200,30' --budget 300
	$(IMPROVE) --pairs '$(PUBLISHED)' --budget 60
	$(IMPROVE) --pairs '100,22; 112,21; 162,21; 275,22; 325,52; 552,23; 891,22; 4600,23; 10000,512; 10000,2048'
	$(IMPROVE) --pairs '1000,64; 1000,128; 1000,256; 10000,64; 10000,128; 10000,256; 10000,768' --budget 60

# The certificate of every shipped code, derived again from its coordinates.
verify-catalog: install
	$(BIN)/softmaxcode catalog verify $(SHIPPED)

clean:
	rm -rf .venv* build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
