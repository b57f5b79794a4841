# Every target sets up all it needs in .venv, from nothing but make and Python 3.11 or newer.
# PYTHON=python3.13 make test   uses that one.

PYTHON ?= python3
PYTHONS ?= $(PYTHON)
BIN := .venv/bin
BUILD_DOCS = $(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs build/docs
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' bandwidth_async/_version.py)

.PHONY: demo test coverage docs pictures lint pyright proofs proof-queue proof-sharing compat frozen bench bench-goodput bench-goodput-short bench-sockets bench-shards release-check sbom tag upload clean

demo: .venv/ready-cli
	$(BIN)/bandwidth-async demo

test: .venv/ready-test
	$(BIN)/python -m pytest --numprocesses=auto

# The same with the lines that no test reaches. It takes longer.
coverage: .venv/ready-test
	$(BIN)/python -m pytest --numprocesses=auto --cov --cov-report=term:skip-covered

# The pages of docs/ and what the code says of itself, into build/docs. A warning is an error.
docs: .venv/ready-docs
	$(BUILD_DOCS)

# The curves of the page about the rate, from runs in virtual time.
pictures: .venv/ready-test
	$(BIN)/python benchmarks/rate_pictures.py

lint: .venv/ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BUILD_DOCS)

# pyright, a second type checker, on the Python code of all pages, the examples and the public names; needs npm.
pyright: .venv/ready-test
	npm install --prefix .pyright --no-save --no-package-lock --no-audit --no-fund --loglevel=error pyright@1
	$(BIN)/python -m pytest tests/test_docs.py tests/test_facade.py -k "pyright or type_of_every_name"

# The long forms of the proofs that `make test` runs in short form.
proofs: .venv/ready-test
	$(BIN)/python -m pytest --full -s tests/test_proofs.py tests/test_proof_kills.py tests/test_proof_shards.py tests/test_proof_sharing.py \
		tests/test_proof_queue.py tests/test_outage.py \
		tests/test_hang_up.py tests/test_events_end_to_end.py tests/test_proof_downloads.py \
		tests/test_schemathesis.py tests/test_prism.py tests/test_benchmarks.py tests/test_compat.py

# Only those of runs on a queue: 20,000 ids, three workers, each part killed; needs redis-server.
proof-queue: .venv/ready-test
	$(BIN)/python -m pytest --full -s tests/test_proof_queue.py

# Only those of shards that share a rate: 20,000 ids, leader killed, Redis restarted, emptied, gone, cut off.
proof-sharing: .venv/ready-test
	$(BIN)/python -m pytest --full -s tests/test_proof_sharing.py

# All tests with the oldest and the newest version of each dependency, and a pre-release of aiohttp if there is one;
# needs the network. Others: make compat PYTHONS="python3.11 python3.14" TESTS="tests/test_run.py tests/test_cli.py"
compat: .venv/ready-compat
	$(BIN)/python -m tests.compat $(addprefix --python ,$(PYTHONS)) $(TESTS)

# A program that PyInstaller makes of the command line, and each of its commands against a sandbox; needs the network.
frozen: .venv/ready-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pyinstaller>=6'
	$(BIN)/python -m pytest --full -s tests/test_frozen.py

# What an end costs, beside what people write or import instead; needs nginx. Saves figures and draws them.
bench: .venv/ready-bench
	$(BIN)/python benchmarks/hot_path.py
	$(BIN)/python benchmarks/hot_path.py --draw
	$(BIN)/python benchmarks/micro.py --json benchmarks/figures/micro.json
	$(BIN)/python benchmarks/growth.py --json benchmarks/figures/growth.json
	$(BIN)/python benchmarks/startup.py --json benchmarks/figures/startup.json

# Memory, journal and time of the command line over a million ids and ten million: an hour, and 10 GB of disk.
bench-shards: .venv/ready-bench
	$(BIN)/python benchmarks/shards.py --count 1000000 10000000 --json benchmarks/figures/shards.json

# Goodput at servers whose quota is unknown, in virtual time, beside tenacity, botocore and aiolimiter.
bench-goodput: .venv/ready-bench
	$(BIN)/python benchmarks/goodput.py

bench-goodput-short: .venv/ready-bench
	$(BIN)/python benchmarks/goodput.py --short

# The same on real sockets, at nginx, HAProxy and limiters from npm, those of them that are there.
bench-sockets: .venv/ready-bench
	@! command -v npm >/dev/null || $(MAKE) .limiters/ready
	$(BIN)/python benchmarks/goodput_sockets.py

.limiters/ready:
	npm install --prefix .limiters --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
		express@5 express-rate-limit@8 rate-limiter-flexible@9 fastify@5 @fastify/rate-limit@10
	@touch $@

# What a release has to pass. It leaves the wheel and the sdist in dist/; needs npm for pyright.
release-check: .venv/ready-release pyright
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/pyroma --min=10 dist/*.tar.gz
	$(BIN)/python -m pytest tests/test_release.py tests/test_public_api.py

# What comes with the package and all its extras, with versions and licenses, in CycloneDX's form; needs the network.
# The tool reads the version from pyproject.toml, which takes it from the code.
sbom: .venv/ready-release
	$(PYTHON) -m venv --clear --without-pip build/sbom
	$(BIN)/python -m pip --quiet --disable-pip-version-check --python build/sbom/bin/python install '.[all]'
	@mkdir -p dist
	sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml > build/sbom/pyproject.toml
	$(BIN)/cyclonedx-py environment --pyproject build/sbom/pyproject.toml --mc-type library --output-reproducible \
		--output-format JSON --output-file dist/bandwidth_async.cdx.json build/sbom/bin/python

# The version in bandwidth_async/_version.py gets today's date in CHANGELOG.md, a commit and a tag, on this machine only.
tag:
	@test -z "$$(git status --porcelain 2>&1)" || { echo "commit what is there first" >&2; exit 1; }
	@! grep '^## $(VERSION) - ' CHANGELOG.md || { echo "CHANGELOG.md has this version: write the next into bandwidth_async/_version.py" >&2; exit 1; }
	awk '{ print } /^## Unreleased$$/ { print "\n## $(VERSION) - '"$$(date +%Y-%m-%d)"'" }' CHANGELOG.md > CHANGELOG.new
	mv CHANGELOG.new CHANGELOG.md
	git commit --quiet --message 'Release $(VERSION)' CHANGELOG.md
	git tag --annotate v$(VERSION) --message $(VERSION)

# Nothing that was uploaded can be replaced. So the addresses and the tag come first.
upload:
	@! grep --line-number 'bandwidth-async\.example' pyproject.toml || { echo "pyproject.toml: put in the addresses of the maintainers" >&2; exit 1; }
	@test "$$(git describe --tags --dirty 2>&1)" = v$(VERSION) || { echo "tag this commit v$(VERSION), with nothing left to commit" >&2; exit 1; }
	$(MAKE) release-check sbom
	$(BIN)/python -m twine upload dist/*.whl dist/*.tar.gz

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist

.venv/ready-cli: EXTRAS = cli
.venv/ready-test .venv/ready-bench .venv/ready-docs .venv/ready-lint .venv/ready-compat .venv/ready-release: GROUP = --group $*

# pip knows dependency groups since 25.1.
.venv/ready-%: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one with PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, but $(PYTHON) is %d.%d: name another with PYTHON=python3.13 make …" % (v[0], v[1]))'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing what it needs into .venv, which takes some seconds, once"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(or $(EXTRAS),all)]' $(GROUP)
	@touch $@
