# shellcheck shell=bash
# What scripts/setup, scripts/run and scripts/test share. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ME=scripts/$(basename "$0")

say() { printf '%s: %s\n' "$ME" "$*"; }

fail() {
  printf '%s: %s\n' "$ME" "$*" >&2
  exit 1
}

# Holds the lock that keeps two set-ups of one checkout apart; `unlock` or the end of the script gives it back.
lock() {
  exec 9<"$ROOT/scripts/lib.sh"
  flock --nonblock 9 || {
    say "waiting for another set-up of this checkout"
    flock --timeout 1800 9 || fail "another set-up has held the lock for 30 minutes; end it and try again"
  }
}

unlock() { exec 9<&-; }

# need_packages PACKAGE...: installs those Debian packages that are missing. A package counts as present if dpkg knows it
# as installed, or if a command of its name is on the PATH, whoever installed that.
need_packages() {
  local package missing=()
  for package in "$@"; do
    command -v "$package" >/dev/null && continue
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] && continue
    missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return

  command -v apt-get >/dev/null ||
    fail "missing: ${missing[*]} (Debian's names); there is no apt-get here, so install them by your system's own means"
  [[ $(id -u) == 0 ]] || fail "missing system packages; install them with: sudo apt-get install -y ${missing[*]}"

  say "installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { apt_get update && apt_get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    fail "apt-get could not install ${missing[*]}; its whole output is in $log"
  fi
  rm -f "$log"
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

# Checks that there is a Rust at least as new as Cargo.toml asks for.
need_rust() {
  local want have
  want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
  if ! command -v rustc >/dev/null || ! command -v cargo >/dev/null; then
    fail "Rust $want or newer is needed, and there is no cargo on the PATH: see rustup.rs, then 'rustup default stable'"
  fi
  have=$(rustc --version | cut -d ' ' -f 2)
  [[ $(printf '%s\n' "$want" "$have" | sort --version-sort | head -n 1) == "$want" ]] ||
    fail "Rust $want or newer is needed, here is $have: 'rustup update stable'"
}

# need_venv DIR REQUIREMENTS: a virtual environment with exactly these hash-pinned wheels. Rebuilt when the list, the
# Python or the place changes, for its scripts hold absolute paths. Dependencies come from the list alone.
need_venv() {
  local dir=$1 requirements=$2 stamp
  [[ -f $requirements ]] || fail "${requirements#"$ROOT/"} is missing: it lists what goes into ${dir#"$ROOT/"}"
  stamp="$dir $(python3 --version) $(sha256sum <"$requirements")"
  [[ -f $dir/stamp && $(<"$dir/stamp") == "$stamp" ]] && return
  say "installing ${requirements#"$ROOT/"} into ${dir#"$ROOT/"}"
  rm -rf "$dir"
  python3 -m venv "$dir" || fail "python3 could not make a virtual environment in $dir: is python3-venv installed?"
  pip_quiet "$dir/bin/python" install --no-deps --require-hashes --only-binary=:all: -r "$requirements" ||
    fail "pip could not install ${requirements#"$ROOT/"}: no network, or no wheel for $(python3 --version) on $(uname -m)"
  printf '%s\n' "$stamp" >"$dir/stamp"
}

# pip_quiet PYTHON ARGUMENT...: pip with nothing but errors to say, and nothing to ask.
# Wheels are not kept a second time: what is installed is all that is needed again.
pip_quiet() { "$1" -m pip --quiet --no-input --no-cache-dir --disable-pip-version-check "${@:2}" </dev/null; }

# Free space of this checkout's disk, whole GB.
free_gb() { df --output=avail --block-size=1G "$ROOT" | tail -n 1 | tr -d ' '; }

# The directory of the programs of the newest PostgreSQL here, 15 at least. Debian has them on nobody's PATH.
find_postgres() {
  local bin found=
  for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort --version-sort); do
    [[ -x $bin/postgres && -x $bin/initdb ]] && found=$bin
  done
  [[ -n $found ]] || found=$(dirname "$(command -v initdb)" 2>/dev/null) || return 1
  (($("$found/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/') >= 15)) && printf '%s\n' "$found"
}
