# Needs Python 3.11, 3.12 or 3.13, make and a C compiler; everything else goes into .venv.
.PHONY: up test check bench soak lock
.DEFAULT_GOAL := up

UV_VERSION := 0.13.9
BIN := .venv/bin
# --inexact leaves alone what was installed besides, such as PyTorch. Compiled once here, or by
# every process at every start where PYTHONDONTWRITEBYTECODE is set.
SYNC := UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV= $(BIN)/uv sync --quiet --frozen --inexact \
	--compile-bytecode --extra worker --extra text

up: .venv/.worker
	@exec $(BIN)/python -m maas_site.supervisor

test: .venv/.test
	@exec $(BIN)/python -m tests.both_databases $(ARGS)

# A data folder of its own: reading the settings makes a secret key.
check: export MERCATO_DATA := .venv/check-data
check: .venv/.test
	@echo "== ruff check" && $(BIN)/ruff check .
	@echo "== ruff format" && $(BIN)/ruff format --check .
	@echo "== mypy" && $(BIN)/mypy .
	@echo "== imports" && $(BIN)/lint-imports
	@echo "== migrations" && $(BIN)/python manage.py makemigrations --check --dry-run
	@echo "== deployment" && $(DEPLOYED) $(BIN)/python manage.py check --deploy --fail-level WARNING
	@echo "== templates" && find templates -name '*.html' -exec $(BIN)/djade --check --target-version 5.2 {} +
	@echo "== assets" && .ci/assets
	@echo "check passed"

# What a site behind a proxy with TLS sets; see docs/settings.md.
DEPLOYED := MERCATO_PUBLIC_URL=https://mercato.example MERCATO_ALLOWED_HOSTS=mercato.example \
	MERCATO_HOST=0.0.0.0 SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(60))')

# ONLY=mosec,bentoml measures those alone. The servers it compares with go into .venv-bench.
bench: .venv/.worker
	@ONLY="$(ONLY)" exec $(BIN)/python -m benchmarks

# Kills parts of the site under load; SEED=… repeats a run.
soak: .venv/.test
	@exec $(BIN)/python -m tests.soak $(or $(MINUTES),10) $(SEED)

lock: .venv/.uv
	$(BIN)/uv lock

# The environment: a stamp for each step, so that a second `make up` installs nothing ----------

.venv/.uv: Makefile
	@python=; for name in python3.11 python3 python3.12 python3.13; do \
	  if $$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then python=$$name; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11, 3.12 or 3.13 is needed and was not found. Install it, then run make again." >&2; \
	  exit 1; fi; \
	[ -x $(BIN)/python ] || { echo "Making .venv with $$($$python --version)"; $$python -m venv .venv; }
	@[ "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = $(UV_VERSION) ] \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.venv/.worker: .venv/.uv uv.lock
	@echo "Installing what uv.lock lists; the first time takes a few minutes"
	@$(SYNC)
	@touch $@

.venv/.test: .venv/.uv uv.lock
	@echo "Installing what uv.lock lists, with the tools for tests"
	@$(SYNC) --extra test
	@touch .venv/.worker $@
