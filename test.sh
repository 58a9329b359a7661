#!/usr/bin/env bash
# Installs what the tests need, by package name, and runs all of them. Ends with one line per part
# and exits non-zero when a part failed, after the lines that tell why. `./test.sh PART…` runs only
# those parts. What each part printed is kept in target/test-logs.
set -uo pipefail
cd "$(dirname "$0")"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export KAFKA_LIBS=$CARGO_TARGET_DIR/compat/kafka-libs
logs=$CARGO_TARGET_DIR/test-logs
mkdir -p "$logs"
failed=0
failures=()
summary=()
wanted=("$@")

want() {
  [ ${#wanted[@]} -eq 0 ] && return 0
  local part
  for part in "${wanted[@]}"; do [ "$part" = "$1" ] && return 0; done
  return 1
}

finish_part() { # NAME STATUS SECONDS
  if [ "$2" -eq 0 ]; then
    summary+=("passed  $1 ($3 s)")
  else
    failed=1
    failures+=("$1")
    summary+=("FAILED  $1 ($3 s)")
  fi
}

part() { # NAME COMMAND…
  local name=$1 started=$SECONDS status=0
  shift
  want "$name" || return 0
  echo "=== $name"
  "$@" 2>&1 | tee "$logs/$name.log" || status=$?
  finish_part "$name" "$status" $((SECONDS - started))
}

# Runs two at a time: most of them wait for processes to start more than they compute, and the last
# steps of a release build use one core.
beside() { # NAME COMMAND… -- NAME COMMAND…
  local first=() second=() target=first word
  for word in "$@"; do
    if [ "$word" = -- ]; then target=second; else declare -n list=$target; list+=("$word"); fi
  done
  local started=$SECONDS pid="" status
  if want "${first[0]}"; then
    echo "=== ${first[0]} (in the background)"
    "${first[@]:1}" >"$logs/${first[0]}.log" 2>&1 &
    pid=$!
  fi
  part "${second[@]}"
  if [ -n "$pid" ]; then
    status=0
    wait "$pid" || status=$?
    echo "=== ${first[0]}"
    cat "$logs/${first[0]}.log"
    finish_part "${first[0]}" "$status" $((SECONDS - started))
  fi
}

install_packages() {
  local packages=()
  need() { command -v "$1" >/dev/null 2>&1 || packages+=("${@:2}"); }
  need cc gcc libc6-dev
  need kcat kcat
  need java default-jdk-headless
  need mvn maven
  need node nodejs npm
  need go golang
  need python3 python3
  need valgrind valgrind
  python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
  [ -e /usr/share/java/zookeeper.jar ] || packages+=(zookeeper)
  [ ${#packages[@]} -eq 0 ] && return 0
  local sudo=""
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

deny() {
  if command -v cargo-deny >/dev/null 2>&1; then
    cargo deny check bans licenses sources
  else
    echo "cargo deny: not run, it is not installed"
  fi
}

# A suite that hangs must not take the whole run with it.
suite() { timeout -k 30 1200 "compat/$1/run.py"; }
admin() { timeout -k 30 1200 compat/cluster/admin.py; }

part packages install_packages
part fetch compat/install.sh
part format cargo fmt --all --check
part clippy cargo clippy --workspace --all-targets -- -D warnings
part deny deny
beside release cargo build --release -- unit cargo test --workspace --no-fail-fast
beside kafka-tools suite kafka-tools -- takeover suite takeover
beside operation suite operation -- bigfile suite bigfile
beside own-tools suite own-tools -- clients suite clients
beside znodes suite znodes -- checker compat/test_history.py
beside cluster-admin admin -- cluster suite cluster
beside rolling suite rolling -- chaos suite chaos
# Another release build, of minutes: only when asked for.
[ ${#wanted[@]} -eq 0 ] || part instructions cargo run --release -p bench --bin instructions

echo
printf '%s\n' "${summary[@]}"
# The end of the log is what is read first, and where it is kept short the only thing.
for name in ${failures[@]+"${failures[@]}"}; do
  echo
  echo "--- why $name failed (all of it: $logs/$name.log)"
  tail -n 15 "$logs/$name.log"
  echo "--- in short"
  grep -E -A 2 "^FAILED|\.\.\. FAILED|^not ok|^DIFFERENT|^BROKEN|^STALE|panicked at|^error(:|\[)|^differential: " "$logs/$name.log" | cut -c 1-300 | tail -n 12
done
exit $failed
