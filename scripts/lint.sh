#!/usr/bin/env bash
# Formatting and lint of Go, the page and the scripts.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_go
code=0
unformatted=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
if [[ $unformatted ]]; then
  echo "not formatted by gofmt: $unformatted"
  code=1
fi
say "building golangci-lint"
golangci=$(cd tools/lint && GOWORK=off go tool -n golangci-lint)
for module in pkg/tiered pkg/tiered/metricstest services tests/e2e; do
  say "$module"
  (cd "$module" && "$golangci" run --config "$root/.golangci.yml" ./...) || code=1
done
for module in pkg/tiered/bench services/realtime/bench; do
  say "$module"
  (cd "$module" && GOWORK=off "$golangci" run --config "$root/.golangci.yml" ./...) || code=1
done
say tools
(cd tools && GOWORK=off "$golangci" run --config "$root/.golangci.yml" ./...) || code=1
(cd tools/rules && GOWORK=off "$golangci" run --config "$root/.golangci.yml" ./...) || code=1
say web
web_ready
(cd web && npm run --silent typecheck) || code=1
if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh .ci/run || code=1; fi
exit $code
