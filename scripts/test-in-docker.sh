#!/usr/bin/env bash
# Runs `make test` in a container that has what the tests start: for machines
# where nothing can be installed. Works on a copy, so that the tree gets no
# files of another user; what Go and npm fetch and build is kept in a volume.
# usage: test-in-docker.sh [STEP…]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
say "building the image crewbeat-test"
docker build --tag crewbeat-test scripts/test-image
exec docker run --rm --init --shm-size 1g -e CI="${CI:-}" \
  -v "$root:/from:ro" -v crewbeat-test-go:/go -e GOCACHE=/go/build-cache -e npm_config_cache=/go/npm-cache \
  crewbeat-test bash -c 'tar -C /from --exclude=node_modules --exclude=./bin --exclude=./data -c . | tar -x && exec scripts/test.sh "$@"' test "$@"
