# What deploy/demo and deploy/check share. Sourced, not run.

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# The newest supported Python there is; PYTHON=... chooses another.
find_python() {
  local python
  for python in ${PYTHON:-} python3.13 python3.12 python3.11 python3.10 python3; do
    if command -v "$python" >/dev/null &&
      "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; then
      command -v "$python"
      return
    fi
  done
  fail "expected Python 3.10 to 3.13, found $(python3 --version 2>&1 || echo none)"
}

# need COMMAND PACKAGE: install a Debian package when its command is missing and we are root.
need() {
  command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] && return
  [ "$(id -u)" = 0 ] || fail "$1 is missing: sudo apt-get install $2"
  say "installing $2 (apt-get)"
  local log
  log=$(mktemp)
  # no service may start by itself: the demo and the tests run their own broker
  if ! { printf '#!/bin/sh\nexit 101\n' >"$log.policy" && install_quietly "$2" "$log"; }; then
    cat "$log" >&2
    fail "apt-get could not install $2"
  fi
  rm -f "$log" "$log.policy"
}

install_quietly() {
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then
    install -m 755 "$2.policy" "$policy"
    made=1
  fi
  local status=0
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"; } \
    >"$2" 2>&1 || status=$?
  [ -z "$made" ] || rm -f "$policy"
  return $status
}

# venv DIR REQUIREMENT...: a virtual environment with these installed; quick when nothing changed.
venv() {
  local dir=$1 python stamp
  shift
  python=$(find_python)
  stamp=$(printf '%s\n' "$("$python" --version)" "$PWD" "$@" | cat - pyproject.toml | sha256sum)
  [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$stamp" ] && return
  say "making $dir with $("$python" --version)"
  rm -rf "$dir"
  "$python" -m venv "$dir" 2>/dev/null ||
    fail "$python can't make a virtual environment: sudo apt-get install python3-venv"
  "$dir/bin/pip" install --quiet --disable-pip-version-check "$@" 2>"$dir/pip.log" ||
    { tail -n 20 "$dir/pip.log" >&2; fail "pip could not install: $*"; }
  printf '%s' "$stamp" >"$dir/.stamp"
}
