#!/usr/bin/env bash
# Every fuzz test, for 30 seconds each, as many at a time as there are
# processors, each with one worker.
# usage: fuzz.sh [SECONDS [NAME]]   NAME: only those whose name has it
# An input that fails is left in the package's testdata/fuzz: keep it there,
# with a name that says what it is, and it is tested from then on.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
export SECONDS_EACH=${1:-30}
only=${2:-}
need_go
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
export CACHE=${FUZZ_CACHE:-$(go env GOCACHE)/fuzz-crewbeat}

list=
for dir in $(grep -rl --include=*_test.go --exclude-dir=node_modules '^func Fuzz' pkg services | xargs -n 1 dirname | sort -u); do
  names=$(grep -h '^func Fuzz' "$dir"/*_test.go | sed 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/' | grep -e "$only" || true)
  [[ -n $names ]] || continue
  test=$bin/${dir//\//-}.test
  go test -c -fuzz=. -o "$test" "./$dir"
  for name in $names; do list+="$dir $name $test"$'\n'; done
done
[[ -n $list ]] || die "fuzz.sh: there is no fuzz test whose name has \"$only\""
say "$(grep -c . <<<"$list") fuzz tests, $SECONDS_EACH s each"

one() { # DIR NAME TEST
  local out
  if out=$(cd "$1" && "$3" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "${SECONDS_EACH}s" -test.fuzzminimizetime 1s -test.parallel 1 -test.timeout 10m -test.fuzzcachedir "$CACHE/$2" 2>&1); then
    printf 'ok   %s %s: %s\n' "$1" "$2" "$(grep -o 'execs: [0-9]*' <<<"$out" | tail -n 1)"
  else
    printf 'FAIL %s %s\n%s\n' "$1" "$2" "$(tail -n 60 <<<"$out")"
    return 1
  fi
}
export -f one
xargs -P "$(nproc)" -L 1 bash -c 'one "$@"' one <<<"$(grep . <<<"$list")"
