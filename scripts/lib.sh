# What the scripts share. Sourced; the caller has set -euo pipefail.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
lib_began=$SECONDS

say() { printf '[%4ds] %s\n' $((SECONDS - lib_began)) "$*"; }
die() { printf '\n%s\n' "$*" >&2; exit 1; }

# at_least HAVE WANT: compares versions such as 20.19.0.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

need_go() {
  command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer, https://go.dev/dl"
  local have
  have=$(go env GOVERSION) # without a toolchain of its own choice
  at_least "${have#go}" 1.26 || die "Go ${have#go} is too old: install Go 1.26 or newer, https://go.dev/dl"
}

need_node() {
  command -v node >/dev/null && command -v npm >/dev/null || die "Node is missing: install Node 20.19 or newer with npm, https://nodejs.org"
  local have
  have=$(node --version)
  at_least "${have#v}" 20.19 || die "Node ${have#v} is too old: install Node 20.19 or newer, https://nodejs.org"
}

# web_ready: web/node_modules is what the lock file says.
web_ready() {
  need_node
  if [[ ! -f web/node_modules/.package-lock.json || web/package-lock.json -nt web/node_modules/.package-lock.json ]]; then
    say "installing the page's dependencies (npm ci)"
    (cd web && npm ci --no-audit --no-fund --loglevel=error)
    touch web/node_modules/.package-lock.json
  fi
}

# page_ready: the built page lies where the binary embeds it from.
page_ready() {
  local page=services/crewbeat/page/dist/index.html
  if [[ ! -f $page || -n $(find web services/api/openapi.json -path web/node_modules -prune -o -path web/e2e -prune -o -type f -newer "$page" -print -quit) ]]; then
    web_ready
    say "building the page"
    (cd web && npm run --silent build)
    touch "$page"
    : >services/crewbeat/page/dist/.keep # the build empties the folder; git keeps it by this file
  fi
}

# chromium_path prints where a Chromium is; the page's tests take it from $CHROMIUM_PATH.
chromium_path() {
  local name
  if [[ -n ${CHROMIUM_PATH:-} ]]; then echo "$CHROMIUM_PATH"; return; fi
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name"; then return; fi
  done
  return 1
}

# tally ARG…: see tools/tally. Results go to the file $TALLY.
tally() { "$root/bin/tally" -to "$TALLY" "$@"; }
tally_ready() {
  need_go
  mkdir -p bin
  GOWORK=off go build -C tools -o "$root/bin/tally" ./tally
  export TALLY=${TALLY:-$root/test-results/counts}
  mkdir -p "$(dirname "$TALLY")"
}
