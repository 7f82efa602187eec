# The doors of a developer. `make test` on a fresh Debian or Ubuntu machine with Rust needs nothing else.

.PHONY: setup test lint bench controls fuzz

# What the tests need: engine, image, compiler. Says what it installs and starts; else does nothing.
setup:
	@tests/setup

# Everything, on both backends; nothing is skipped.
test: setup
	DOCKER_HOST="$$(tests/setup --engine)" FUMEHOOD_REQUIRE_DOCKER=1 cargo test --locked

# Init (src/init) is a package of its own inside the build: it is checked with it.
lint:
	cargo fmt --check
	FUMEHOOD_CHECK_INIT=1 cargo clippy --locked --all-targets -- -D warnings

# Figures as ratios to what is measured beside them. Lines that need an engine say where there is none.
bench:
	DOCKER_HOST="$$(tests/setup --engine || true)" cargo bench --locked --bench ratios

# Each control taken out of a copy of the sources, and which tests notice: an hour on two cores.
controls: setup
	tests/controls/off

# Each fuzz target for a minute (`SECONDS_EACH=600 make fuzz`), on the stable toolchain; needs cargo-fuzz.
fuzz:
	@fuzz/run
