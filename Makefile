# SPDX-License-Identifier: Apache-2.0
# Everything here needs only Python 3 with venv, a C++17 compiler and make; the rest is installed into
# the virtual environment $(VENV). Nothing is rebuilt that has not changed.
#
#   make test TEST_EXTRAS=test,oracles     compare with PyTorch, JAX and Keras as well
#   make dev BUILD=/tmp/mine               a build of your own, beside everybody else's

PYTHON      ?= python3
VENV        ?= .venv
BUILD       ?= build
PRESET      ?= release
TEST_EXTRAS ?= test
DEMO_EXTRAS ?= sklearn,plot
BENCH       ?=

BIN     := $(VENV)/bin
SOURCES := CMakeLists.txt LICENSE README.md pyproject.toml \
           $(shell find cmake csrc python/fusednn -type f ! -name '*.pyc' ! -name '*.md')
PACKAGE := $(filter-out %/__pycache__,$(wildcard python/fusednn/*))
CPP     := $(shell find csrc tests/cpp tests/emulator -name '*.h' -o -name '*.cpp' -o -name '*.cu' \
             -o -name '*.cuh')
DEV     := $(BUILD)/dev/$(PRESET)

# $(call CONFIGURE,preset,folder,options)
CONFIGURE = PATH="$(abspath $(BIN)):$$PATH" cmake --preset $(1) -B $(2) $(3) \
  -DPython_EXECUTABLE=$(abspath $(BIN))/python \
  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) -DCMAKE_MESSAGE_LOG_LEVEL=WARNING
# $(call PACKAGE_OF,folder,modules): a package of compiled modules and links to the Python sources.
PACKAGE_OF = rm -rf $(1)/package && mkdir -p $(1)/package/fusednn && \
  ln -s $(abspath $(PACKAGE)) $$(ls $(abspath $(2)) 2>/dev/null) $(1)/package/fusednn/

# LD_PRELOAD for a sanitizer's runtime, which must come before Python's own libraries. libstdc++ comes
# along, because the runtime looks up the real __cxa_throw when it starts.
CXX_FILE = $(shell $(CXX) -print-file-name=$(1))
PRELOAD_asan = $(call CXX_FILE,libasan.so) $(call CXX_FILE,libstdc++.so)
PRELOAD_tsan = $(call CXX_FILE,libtsan.so) $(call CXX_FILE,libstdc++.so)

.PHONY: help demo test test-slow bench docs lint format wheel stubs dev asan tsan emulator cuda aarch64 clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     train on real data, beside scikit-learn and PyTorch where they are installed"
	@echo "make test     build the wheel, install it, run the C++ and the Python tests on it"
	@echo "make test-slow longer versions of some of these tests"
	@echo "make bench    measure speed beside the machine's limits and other libraries (BENCH=--quick)"
	@echo "make docs     the documentation as a site, into $(BUILD)/docs"
	@echo "make lint     ruff, mypy, clang-format (make format mends what can be mended)"
	@echo "make wheel    source archive and portable wheel, into dist/"
	@echo "make stubs    write python/fusednn/_core.pyi anew from the compiled module"
	@echo "make dev      compile in place and incrementally: PYTHONPATH=$(DEV)/package"
	@echo "make asan     kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make tsan     kernel tests under ThreadSanitizer"
	@echo "make emulator the CUDA backend on a device made of nothing: no GPU, no nvcc"
	@echo "make cuda     compile the CUDA backend for all devices, check what its kernels use"
	@echo "make aarch64  NEON kernels, cross-compiled, C++ tests run by qemu"
	@echo "make clean    remove everything built; the virtual environment stays"

# ---- environment, wheel, installation ----------------------------------------------------------

$(VENV)/.stamp-tools: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group build
	@touch $@

$(BUILD)/wheel/.stamp: $(SOURCES) | $(VENV)/.stamp-tools
	@echo "Compiling the kernels for every instruction set; this takes a few minutes the first time."
	@rm -rf $(BUILD)/wheel && mkdir -p $(BUILD)/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(BUILD)/wheel \
	  -C build-dir=$(BUILD)/release -C cmake.define.FUSEDNN_CPP_TESTS=ON .
	@touch $@

# Extras first: they bring an older fusednn of the same version only if there was none.
$(VENV)/.stamp-extras-%: pyproject.toml | $(BUILD)/wheel/.stamp
	$(BIN)/python -m pip install --quiet "$$(echo $(BUILD)/wheel/*.whl)[$*]"
	@touch $@

$(VENV)/.stamp-fusednn: $(BUILD)/wheel/.stamp
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(BUILD)/wheel/*.whl
	@touch $@

$(VENV)/.stamp-%-group: pyproject.toml | $(VENV)/.stamp-tools
	$(BIN)/python -m pip install --quiet --group $*
	@touch $@

# ---- using it ----------------------------------------------------------------------------------

demo: $(VENV)/.stamp-extras-$(DEMO_EXTRAS) $(VENV)/.stamp-fusednn
	$(BIN)/python -m fusednn demo

# The Python tests run on the installed wheel: python/ is never on the path.
test: $(VENV)/.stamp-extras-$(TEST_EXTRAS) $(VENV)/.stamp-fusednn
	$(BIN)/cmake --build $(BUILD)/release --target cpp_tests
	$(BIN)/ctest --test-dir $(BUILD)/release --output-on-failure -j2
	FUSEDNN_BUILD_DIR=$(BUILD)/release $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile

# Assertions that `make test` makes as well, many times more often or on more data.
test-slow: $(VENV)/.stamp-extras-$(TEST_EXTRAS) $(VENV)/.stamp-fusednn
	$(BIN)/python -m pytest -q -m slow

# BENCH="--suite step --json result.json" narrows it down; rivals are whatever $(VENV) has.
bench: $(VENV)/.stamp-extras-$(DEMO_EXTRAS) $(VENV)/.stamp-fusednn
	$(BIN)/python -m fusednn bench $(BENCH)

# Numbers come from bench/results, the reference from docstrings; a warning is an error.
docs: $(VENV)/.stamp-docs-group $(VENV)/.stamp-fusednn
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(abspath $(BUILD))/docs
	@echo "$(BUILD)/docs/index.html"

# ---- quality -----------------------------------------------------------------------------------

lint: $(VENV)/.stamp-lint-group
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CPP)

format: $(VENV)/.stamp-lint-group
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP)

# A private build of one preset, usable as PYTHONPATH=$(DEV)/package.
dev: | $(VENV)/.stamp-tools
	$(call CONFIGURE,$(PRESET),$(DEV))
	$(BIN)/cmake --build $(DEV)
	@$(call PACKAGE_OF,$(DEV),$(DEV)/csrc/bindings/_core.*so $(DEV)/csrc/cuda/_cuda.*so)
	@echo "PYTHONPATH=$(abspath $(DEV)/package)"

# Malformed calls ask for absurd sizes; an allocation that fails must be an error here as it is elsewhere.
asan tsan: $(VENV)/.stamp-extras-test
	$(MAKE) dev PRESET=$@
	$(BIN)/cmake --build $(BUILD)/dev/$@ --target cpp_tests
	$(BIN)/ctest --test-dir $(BUILD)/dev/$@ --output-on-failure
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1 \
	  OPENBLAS_NUM_THREADS=1 LD_PRELOAD="$(PRELOAD_$@)" PYTHONPATH=$(BUILD)/dev/$@/package \
	  $(BIN)/python -m pytest -q -m kernels --numpy-only

# The test bodies of the CPU. The slowest are left out: a thousand threads of a device share one here.
# The backend is a module of its own: _core is that of the wheel. An emulated device keeps one processor
# busy, so two processes take half the time.
emulator: $(VENV)/.stamp-extras-test
	$(call CONFIGURE,emulator,$(BUILD)/dev/emulator)
	$(BIN)/cmake --build $(BUILD)/dev/emulator --target _cuda test_emulator
	@$(call PACKAGE_OF,$(BUILD)/dev/emulator,$(BUILD)/release/csrc/bindings/_core.*so \
	  $(BUILD)/dev/emulator/csrc/cuda/_cuda.*so)
	$(BUILD)/dev/emulator/tests/emulator/test_emulator
	PYTHONPATH=$(BUILD)/dev/emulator/package $(BIN)/python -m pytest -q -n 2 --dist loadfile \
	  --device cuda \
	  --deselect tests/python/test_refusals.py::test_random_calls_are_refused_or_harmless \
	  tests/rules tests/optim/test_optim.py tests/bindings/test_cuda.py \
	  tests/bindings/test_resident.py \
	  tests/bindings/test_cuda_steps.py tests/bindings/test_fusion.py \
	  tests/bindings/test_device_arrays.py \
	  tests/bindings/test_network.py tests/bindings/test_ops.py tests/python/test_layers.py \
	  tests/python/test_losses.py tests/python/test_optimizers.py tests/python/test_models.py \
	  tests/python/test_saving.py tests/python/test_refusals.py

# Needs nvcc, no device.
cuda: | $(VENV)/.stamp-tools
	$(call CONFIGURE,release,$(BUILD)/dev/cuda,-DFUSEDNN_CUDA=ON -DFUSEDNN_CUDA_REPORT=ON \
	  -DFUSEDNN_CPP_TESTS=OFF)
	$(BIN)/cmake --build $(BUILD)/dev/cuda --target _cuda > $(BUILD)/dev/cuda/log || \
	  { tail -50 $(BUILD)/dev/cuda/log; exit 1; }
	$(BIN)/python tests/cuda_resources.py $(BUILD)/dev/cuda/log

# Fewer points in the sweep of elementary functions, because emulation is slow.
aarch64: | $(VENV)/.stamp-tools
	PATH="$(abspath $(BIN)):$$PATH" cmake --preset aarch64 -B $(BUILD)/dev/aarch64
	$(BIN)/cmake --build $(BUILD)/dev/aarch64 --target cpp_tests
	FNN_SIMD_STEP=1009 $(BIN)/ctest --test-dir $(BUILD)/dev/aarch64 --output-on-failure

stubs: $(VENV)/.stamp-extras-test $(VENV)/.stamp-fusednn
	$(BIN)/python -m pybind11_stubgen fusednn._core --output-dir python

# ---- release -----------------------------------------------------------------------------------

# auditwheel renames the wheel to the oldest manylinux that its symbols allow, and would copy in
# foreign libraries: there are none. A wheel that grew above 5 MB, 15 MB with CUDA, is a bug.
wheel: $(BUILD)/wheel/.stamp $(VENV)/.stamp-wheel-group
	@rm -rf dist && mkdir dist
	$(BIN)/python -m build --quiet --sdist --no-isolation --outdir dist
	@if [ "$$(uname -s)" = Linux ]; then \
	  PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --wheel-dir dist $(BUILD)/wheel/*.whl; \
	else cp $(BUILD)/wheel/*.whl dist; fi
	@for file in dist/*.whl; do \
	  size=$$(wc -c < $$file); echo "$$file: $$size bytes"; \
	  limit=5000000; if $(BIN)/python -m zipfile -l $$file | grep -q /_cuda; then limit=15000000; fi; \
	  if [ $$size -gt $$limit ]; then echo "larger than $$limit bytes" >&2; exit 1; fi; \
	done

clean:
	rm -rf $(BUILD) dist
	rm -f $(VENV)/.stamp-fusednn
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
