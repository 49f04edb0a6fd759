# What deploy/demo and deploy/check share. Sourced, not run.

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Debian ships Python without ensurepip, which `venv` needs.
need_venv_module() {
  if ! command -v python3 >/dev/null && [ "$(id -u)" = 0 ]; then apt_install python3-venv; fi
  "$(find_python)" -c 'import ensurepip, venv' 2>/dev/null && return
  [ "$(id -u)" = 0 ] || fail "Python can't make virtual environments: sudo apt-get install python3-venv"
  apt_install python3-venv
}

# The newest supported Python there is; PYTHON=... chooses another.
find_python() {
  local python
  for python in ${PYTHON:-} python3.13 python3.12 python3.11 python3.10 python3; do
    if command -v "$python" >/dev/null &&
      "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$python"
      return
    fi
  done
  fail "expected Python 3.10 to 3.13, found $(python3 --version 2>&1 || echo none)"
}

# need COMMAND PACKAGE: install a Debian package when its command is missing and we are root.
need() {
  if command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; then return; fi
  [ "$(id -u)" = 0 ] || fail "$1 is missing: sudo apt-get install $2"
  apt_install "$2"
}

apt_install() {
  say "installing $1 (apt-get)"
  local policy=/usr/sbin/policy-rc.d made='' log status=0
  log=$(mktemp)
  if [ ! -e "$policy" ]; then # no service may start by itself: the demo and the tests run their own
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=yes
  fi
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"; } \
    >"$log" 2>&1 || status=$?
  if [ -n "$made" ]; then rm -f "$policy"; fi
  [ $status = 0 ] || { tail -n 20 "$log" >&2; fail "apt-get could not install $1"; }
  rm -f "$log"
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
