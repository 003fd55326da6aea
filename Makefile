# Everything runs in a virtual environment of its own, made from the locked versions.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup setup-app setup-metrics setup-runtimes setup-ports test test-all test-core test-app test-metrics test-runtimes \
	test-ports faults fuzz hostile soak demo accelerator lint types lock audit clean

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "sempart_jax needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

# A few processes: most tests wait for a compiler that uses one core. It optimizes little, as for most tests
# that is where their time goes.
IN_PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --quickly-compiled

test: $(INSTALLED)
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow"

# Everything: faults, several processes, notebooks, fuzz and soak in short form, the page, PySODMetrics, ONNX,
# transformers and timm; and the values of the released implementation once more, compiled as users compile.
test-all: test-core test-app test-metrics test-runtimes test-ports

test-core: $(INSTALLED)
	$(BIN)/python -m pytest $(IN_PARALLEL)
	$(BIN)/python -m pytest $(filter-out --quickly-compiled,$(IN_PARALLEL)) -m golden

# Gradio, PySODMetrics and jax2onnx hold pillow, NumPy and orbax back: their tests have environments and locks of their
# own.
setup-app: $(VENV)-app/.installed
setup-metrics: $(VENV)-metrics/.installed
setup-runtimes: $(VENV)-runtimes/.installed

$(VENV)-%/.installed: requirements-%.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps -r requirements-$*.lock
	$(VENV)-$*/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps -e .
	touch $@

# The web page; in a browser, too, where chromium and chromedriver are installed.
test-app: setup-app
	$(VENV)-app/bin/python -m pytest -p no:cacheprovider tests/test_app.py tests/web

test-metrics: setup-metrics
	$(VENV)-metrics/bin/python -m pytest -p no:cacheprovider \
		tests/metrics/test_sod.py tests/evaluation/test_sections.py

# Masks by onnxruntime, and by Ray.
test-runtimes: setup-runtimes
	$(VENV)-runtimes/bin/python -m pytest -p no:cacheprovider --quickly-compiled \
		tests/predict/test_onnx.py tests/test_ray.py

# Backbones of transformers and timm. Their lock leaves out PyTorch, of which each machine has a build of its own; where
# no build can be installed, this is skipped.
setup-ports: $(VENV)-ports/.installed
	$(VENV)-ports/bin/python -m pip install --quiet --no-compile --disable-pip-version-check torch==2.13.0 torchvision==0.28.0

test-ports:
	@if $(MAKE) setup-ports; then \
		$(VENV)-ports/bin/python -m pytest -p no:cacheprovider --quickly-compiled \
			tests/networks/test_port_installed.py; \
	else \
		echo "PyTorch, transformers or timm could not be installed: ports are not compared with them"; \
	fi

# The loaders of weights on many more damaged files than in `make test`, which others follow from each seed.
FUZZ_SEEDS ?= 0 1 2 3
fuzz: $(INSTALLED)
	for seed in $(FUZZ_SEEDS); do \
		FUZZ_CASES=5000 $(BIN)/python -m pytest -s tests/faults/test_weights_fuzz.py \
			--hypothesis-seed=$$seed || exit 1; done

# Training, evaluation, segmentation and the web page with more than a hundred hostile files, and peak memory.
hostile: $(INSTALLED) setup-app
	HOSTILE_LONG=1 $(BIN)/python -m pytest -s tests/faults/test_hostile_files.py \
		tests/faults/test_large_photographs.py
	$(VENV)-app/bin/python -m pytest -s -p no:cacheprovider tests/web/test_hostile_visitors.py

# Trainings killed 30 times, and on broken disks; `make test` has a short form of it.
faults: $(INSTALLED)
	SEMPART_KILLS=$${SEMPART_KILLS:-30} $(BIN)/python -m pytest -s tests/faults/test_kills.py \
		tests/faults/test_disk.py tests/faults/test_signals.py

demo: $(INSTALLED)
	$(BIN)/python scripts/demo.py

# Rates, memory and largest batch on an NVIDIA GPU; see docs/performance.md.
CUDA ?= cuda12
accelerator: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "jax[$(CUDA)]"
	$(BIN)/python scripts/benchmark.py --device=gpu --only=gpu $(ACCELERATOR_FLAGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

# The locks hold for every platform and for Python 3.11 and newer; needs `pip install uv`.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header \
	--generate-hashes pyproject.toml --extra test
lock:
	$(LOCK) --extra dev --output-file requirements.lock >/dev/null
	$(LOCK) --extra app --extra browser --output-file requirements-app.lock >/dev/null
	$(LOCK) --extra metrics --output-file requirements-metrics.lock >/dev/null
	$(LOCK) --extra onnx --extra ray --output-file requirements-runtimes.lock >/dev/null
	printf 'torch\ntorchvision\n' | $(LOCK) --extra ports --excludes - --output-file requirements-ports.lock >/dev/null

# Known vulnerabilities of what the locks install; wants the network.
audit: $(VENV)-audit/bin/pip-audit
	for lock in requirements*.lock; do $< --disable-pip --require-hashes --requirement $$lock || exit 1; done

$(VENV)-audit/bin/pip-audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit

# A long run: 2,000 steps each in float32 and bfloat16, on the photographs of SOAK_IMAGES if that is set.
soak: $(INSTALLED)
	SOAK_STEPS=2000 $(BIN)/python -m pytest -p no:cacheprovider --capture=no tests/faults/test_soak.py

clean:
	rm -rf $(VENV) $(VENV)-app $(VENV)-metrics $(VENV)-runtimes $(VENV)-ports $(VENV)-audit
