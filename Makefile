# make help lists what can be made. Any Python from 3.10 on: make PYTHON=python3.12 run

PYTHON    ?= python3
NOTEBOOKS ?=
PHOTOS    ?= photos

VENV    := .venv
PY      := $(VENV)/bin/python
STAMP   := $(VENV)/.installed
LESSONS := $(PY) -m tlkit.course.lessons
WORKERS := -n 2 --dist loadfile
TESTS   := OMP_NUM_THREADS=1 $(PY) -m pytest -q $(WORKERS) -p no:nbval

# threads that wait sleep instead of spinning: on a busy machine the notebooks run several times faster
export OMP_WAIT_POLICY ?= passive
# one heap for all threads: a network that trains in a thread beside the notebook takes 0.2 GB less
export MALLOC_ARENA_MAX ?= 1
# compiled once: the tests start two hundred processes that import tlkit
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help run lint quick test lab render full bench docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "  NOTEBOOKS='05 08' limits run, full and render to some; PYTHON=python3.12 chooses the Python of a new .venv"

run: $(STAMP) ## run every notebook and write its page to build/ (no network, no GPU, about two minutes)
	@$(LESSONS) run --out build $(NOTEBOOKS)

lint: $(STAMP) ## what ruff says of code and notebooks
	@echo "== lint"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

quick: lint ## lint, and the tests that are not marked slow (about a minute): while you work
	@$(TESTS) -m 'not slow' --ignore tests/browser

test: lint ## lint, all tests, and the notebooks' outputs compared with a new run
	@echo "== tests"
	@$(TESTS) --ignore tests/browser
	@echo "== tests in a browser, where there is one"
	@$(TESTS) tests/browser
	@echo "== notebooks: run again, outputs compared"
	@$(PY) -m pytest -q $(WORKERS) -p no:cacheprovider --nbval --nbval-current-env --nbval-cell-timeout 300 \
		--nbval-sanitize-with tests/nbval_sanitize.cfg notebooks

lab: $(STAMP) ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab notebooks

render: $(STAMP) ## refresh the outputs stored in notebooks/
	@$(LESSONS) render $(NOTEBOOKS)

full: $(STAMP) ## VGG16 on flower photos, on the GPU when there is one (PHOTOS=./folder or PHOTOS=x.tgz: your own)
	@$(LESSONS) run --out build/full --timeout 7200 -p BACKBONE vgg16 -p IMAGES '$(PHOTOS)' -p DEVICE auto $(NOTEBOOKS)

bench: $(STAMP) ## measure: runs every program in benchmarks/
	@set -e; for program in $(sort $(wildcard benchmarks/*.py)); do echo "== $$program"; $(PY) "$$program"; done

docs: $(STAMP) ## build the site from docs/ and the stored notebooks, links checked, to build/site
	@rm -rf build/site
	@$(PY) -m sphinx --fail-on-warning --keep-going --nitpicky --quiet -b html -d build/doctrees -c docs . build/site
	@echo "The site begins at build/site/index.html"

lock: ## compute constraints.txt anew from pyproject.toml; the torch lines in it are chosen by hand (needs uv)
	@mkdir -p build
	@rm -f build/resolved.txt
	@grep -E '^(#|torch==|torchvision==)' constraints.txt > build/chosen.txt
	@uv pip compile --quiet --universal --python-version 3.10 --extra test --extra ray --no-header --no-annotate \
		--constraint build/chosen.txt --output-file build/resolved.txt pyproject.toml
	@grep -v -E "^(torch|torchvision|triton|nvidia-.*|cuda-.*|setuptools)==|sys_platform == 'emscripten'" \
		build/resolved.txt | cat build/chosen.txt - > constraints.txt
	@grep -c '==' constraints.txt

clean: ## remove what run, test and the notebooks wrote; .venv stays
	rm -rf build notebooks/out .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt Makefile
	@test -x $(PY) || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "tlkit needs Python 3.10 or newer. Choose one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) \
		|| { echo "No virtual environment could be made. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing tlkit and what it needs into $(VENV) (PyTorch is large: one to ten minutes, once) ..."
	@start=$$(date +%s); \
		$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]' \
		&& touch $(STAMP) && echo "Installed in $$(( $$(date +%s) - start )) s."
