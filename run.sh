#!/usr/bin/env bash
# ./run.sh                            trains and evaluates experiments/quickstart.cfg
# ./run.sh FLAGFILE [--flag=value..]  any other run; runs/NAME is its work directory
# ./run.sh serve [--flag=value..]     the page of runs/quickstart, which is trained if need be
# ./run.sh test [--all] [..]          the tests; the long ones, too
# ./run.sh check                      linters, formatter and types
# ./run.sh docs [build]               the site: builds it, and serves it unless told not to
set -euo pipefail
cd "$(dirname "$0")"

fail() { echo "run.sh: $*" >&2; exit 2; }

# The newest Python that works, for it has the newest jax; PYTHON names another one.
find_python() {
  local name
  for name in ${PYTHON:-} python3.14 python3.13 python3.12 python3 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "needs Python 3.11 or newer on the PATH; name one as PYTHON=/path/to/python"
}

# The extra of pyproject.toml for the accelerator that is here, if any.
accelerator() {
  local cuda
  if compgen -G '/dev/accel*' >/dev/null || [ -n "${TPU_NAME:-}" ]; then
    echo ,tpu
  elif cuda=$(nvidia-smi 2>/dev/null | grep -o 'CUDA Version: *[0-9]*'); then
    if [ "${cuda##* }" -ge 13 ]; then echo ,cuda13; else echo ,cuda12; fi
  fi
}

# Makes .venv where it is missing, and installs an extra of pyproject.toml, and that of the
# accelerator. What is installed already stays: no verb changes the jax of another one.
install() {
  local extra stamp python
  extra="$1$(accelerator)"
  if [ ! -x .venv/bin/python ]; then
    python=$(find_python)  # on a line of its own, so that its failure ends this too
    "$python" -m venv .venv
  fi
  stamp="$extra $(cksum <pyproject.toml)"
  if ! grep -qsxF "$stamp" .venv/installed; then
    echo "installing into .venv"
    .venv/bin/pip list --format=freeze 2>/dev/null | grep -E '^(jax|jaxlib|flax|optax)==' \
      >.venv/constraints || true
    .venv/bin/pip install --quiet --disable-pip-version-check \
      --constraint .venv/constraints --editable ".[$extra]"
    echo "$stamp" >>.venv/installed
  fi
}

# For large arrays, where Linux leaves that to programs: faster steps on CPUs
use_huge_pages() { export GLIBC_TUNABLES=${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}; }

case "${1:-}" in
  test)
    install test
    exec .venv/bin/python -m pytest "${@:2}"
    ;;
  check)
    install test
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    exec .venv/bin/mypy
    ;;
  docs)
    install docs
    .venv/bin/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
    [ "${2:-}" = build ] ||
      exec .venv/bin/python -m http.server --bind 127.0.0.1 --directory docs/_build/html
    exit
    ;;
  serve)
    install export
    use_huge_pages
    main=(.venv/bin/python -m infogan_jax.main)
    [ -f runs/quickstart/report.html ] ||
      "${main[@]}" --flagfile=experiments/quickstart.cfg --workdir=runs/quickstart
    exec "${main[@]}" --mode=serve --workdir=runs/quickstart "${@:2}"
    ;;
  '' | --*) flagfile=experiments/quickstart.cfg ;;
  *)
    flagfile=$1
    shift
    [ -f "$flagfile" ] || flagfile=experiments/$flagfile.cfg
    [ -f "$flagfile" ] || fail "$flagfile: expected a flagfile, serve, test, check or docs; the flagfiles are: $(echo experiments/*.cfg)"
    ;;
esac
install run
use_huge_pages
exec .venv/bin/python -m infogan_jax.main --flagfile="$flagfile" "$@"
