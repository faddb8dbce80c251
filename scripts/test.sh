#!/usr/bin/env bash
# Everything that is tested without a cluster, in steps; `make test`.
# usage: test.sh [STEP…]   default: all of them;  test.sh --list  names them
# With TALLY set, the results go to that file and the caller sums them up.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
all=(modules charts go fuzz web processes browser)
if [[ ${1:-} == --list ]]; then (IFS=,; echo "${all[*]}"); exit; fi
steps=("$@")
((${#steps[@]})) || steps=("${all[@]}")

sum=
[[ -n ${TALLY:-} ]] || sum=1
need_go
need_node
needs=0
scripts/needs.sh cc redis postgres chromium || needs=$?
if [[ $needs == 3 ]] && docker version >/dev/null 2>&1; then
  say "running the tests in Docker"
  exec scripts/test-in-docker.sh "$@"
fi
((needs == 0)) || exit 1
mkdir -p test-results
[[ -z $sum ]] || rm -f test-results/counts
tally_ready
[[ -z $sum ]] || tally -plan "$(IFS=,; echo "${steps[*]}")"

failed=
step() { # NAME COMMAND…
  printf '\n== %s\n' "$1"
  "${@:2}" || failed=1
}

# Every module builds by itself, as it does for who imports it. The benchmarks
# run once, without a look at their times.
modules() {
  tally -name modules run bash -c 'for m in pkg/tiered pkg/tiered/metricstest pkg/tiered/bench services services/realtime/bench tests/e2e tools tools/rules; do (cd $m && GOWORK=off go build ./... && GOWORK=off go vet ./...) || exit; done
    (cd pkg/tiered/bench && GOWORK=off go test -run "^$" -bench . -benchtime 1x ./...) &&
    (cd services/realtime/bench && GOWORK=off go test -count=1 -timeout 5m ./...)'
}

# Also that Prometheus takes the chart's alerts and fires them when it should.
charts() { (cd tools && GOWORK=off go test -json ./... && cd rules && GOWORK=off go test -json ./...) | tally -name charts go; }

# The packages that need more than a minute run among the others; -p is the
# number of processors. The processes have a step of their own, as they keep
# time.
go_tests() { go test -race -json -timeout 15m ./pkg/tiered/... ./services/... | tally -name go go; }

# Each for half a minute, on its own processor.
fuzz() { tally -name fuzz run scripts/fuzz.sh; }

web() {
  web_ready
  vitest web test
}

vitest() { # STEP SCRIPT
  local report=$root/test-results/$1.json began=$SECONDS
  rm -f "$report"
  (cd web && CI=true npm run --silent "$2" -- --reporter=default --reporter=json --outputFile.json="$report") || true # the report says what failed
  tally -name "$1" -seconds $((SECONDS - began)) vitest "$report"
}

# The services are built with the race detector too: a race makes them end badly.
processes() {
  go build -race -o bin/crewbeat-race ./services/crewbeat
  CREWBEAT_BIN=$root/bin/crewbeat-race go test -json -count=1 -timeout 10m -v ./tests/e2e/process/... ./tests/e2e/internal/... | tally -name processes go
}

browser() {
  scripts/build.sh
  web_ready
  CHROMIUM_PATH=$(chromium_path) CREWBEAT_BIN=$root/bin/crewbeat vitest browser e2e
}

for s in "${steps[@]}"; do
  case $s in
    modules | charts | fuzz | web | processes | browser) step "$s" "$s" ;;
    go) step go go_tests ;;
    *) die "test.sh: there is no step $s; there are: ${all[*]}" ;;
  esac
done

if [[ $sum ]]; then
  printf '\n'
  tally sum
fi
[[ -z $failed ]]
