# The front door. Each target does what its line says; CMake and ctest do the work.
# Tests that mount need root: without it they are started through sudo.
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
PREFIX ?= /usr/local
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$(PATH)")
CTEST = ctest --output-on-failure --no-tests=error -j$(JOBS)
SOURCES = $(shell find . \( -path ./build -o -path ./.cache -o -path ./.git \) -prune -o \
            \( -name '*.cc' -o -name '*.h' \) -print)

# Python's caches would be files of root's in the checkout.
export PYTHONDONTWRITEBYTECODE := 1

.NOTPARALLEL:
.PHONY: deps all tools test integration e2e conformance demo bench asan tsan fuzz soak format style tidy \
        install clean

all:            ## build everything
	cmake --preset dev
	cmake --build build/dev -j$(JOBS)
deps:           ## install the Debian packages that are missing
	scripts/deps.sh
tools: deps     ## bring registry, containerd, nerdctl ... into .cache, without installing them
	scripts/tools.py
test: tools all ## unit, integration, conformance and short end-to-end tests
	$(AS_ROOT) $(CTEST) --test-dir build/dev -LE long
integration: tools all
	$(AS_ROOT) $(CTEST) --test-dir build/dev -L integration
e2e: tools all  ## all end-to-end tests, those with the large demo images included
	$(AS_ROOT) $(CTEST) --test-dir build/dev -L e2e
conformance: tools all
	$(AS_ROOT) $(CTEST) --test-dir build/dev -L conformance
demo: tools all ## two versions of a real image: ordinary and converted, side by side
	$(AS_ROOT) scripts/demo.py
bench: tools    ## speed of the parts, medians of five, beside a limit in the same run
	scripts/tools.py desync snapshots
	cmake --preset bench
	cmake --build build/bench -j$(JOBS) --target benchmarks imsy imsy-convert imsy-snapshotter
	scripts/bench.sh build/bench
	IMSY_BUILD=$(CURDIR)/build/bench bench/convert.py
	$(AS_ROOT) IMSY_BUILD=$(CURDIR)/build/bench bench/pull.py
	$(AS_ROOT) IMSY_BUILD=$(CURDIR)/build/bench bench/throughput.py
	$(AS_ROOT) IMSY_BUILD=$(CURDIR)/build/bench bench/snapshots.py
asan tsan: deps ## unit tests under AddressSanitizer and UBSan, or under ThreadSanitizer
	cmake --preset $@
	cmake --build build/$@ -j$(JOBS)
	$(CTEST) --test-dir build/$@ -L unit
fuzz:           ## every fuzz target for FUZZ_SECONDS
	scripts/deps.sh clang
	cmake --preset fuzz
	cmake --build build/fuzz -j$(JOBS) --target fuzz_targets
	scripts/fuzz.sh build/fuzz $(FUZZ_SECONDS)
soak: tools all ## random traffic of a node for SOAK_SECONDS: a process, the same under tsan, all programs
	build/dev/tests/crash/soak --seconds $(SOAK_SECONDS)
	cmake --preset tsan
	cmake --build build/tsan -j$(JOBS) --target soak
	build/tsan/tests/crash/soak --seconds $(SOAK_SECONDS)
	$(AS_ROOT) IMSY_BUILD=$(CURDIR)/build/dev IMSY_SOAK_SECONDS=$(SOAK_SECONDS) \
	  PYTHONPATH=tests/support tests/e2e/soak_test.py
format:
	clang-format -i $(SOURCES)
style:          ## what can be checked without building
	@clang-format --dry-run --Werror $(SOURCES)
	tests/tidy_test.py
tidy: deps style
	scripts/deps.sh clang
	cmake --preset clang
	cmake --build build/clang -j$(JOBS) --target imsy_proto
	run-clang-tidy -quiet -p build/clang -j$(JOBS) "^$(CURDIR)/(?!build/|\.cache/)"
install:        ## to PREFIX, with all optimisation
	cmake --preset release
	cmake --build build/release -j$(JOBS) --target programs
	cmake --install build/release --prefix $(PREFIX)
clean:          ## remove what was built; .cache stays (remove it by hand)
	rm -rf build
