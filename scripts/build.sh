#!/usr/bin/env bash
# Builds the page and bin/crewbeat, as far as something has changed.
# usage: build.sh [--static]   --static: for an image, without cgo
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_go
page_ready
version=$(git describe --tags --dirty 2>/dev/null || true)
flags=(-trimpath -ldflags "-s -w${version:+ -X main.version=$version}")
say "building bin/crewbeat"
out=bin/crewbeat
if [[ ${1:-} == --static ]]; then
  out=bin/image/crewbeat
  export CGO_ENABLED=0 GOOS=linux
fi
mkdir -p "$(dirname "$out")"
go build "${flags[@]}" -o "$out" ./services/crewbeat
say "built $out, $(du -h "$out" | cut -f1)"
