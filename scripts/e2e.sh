#!/usr/bin/env bash
# The smoke test on a kind cluster; `make e2e`. Where no container registry is
# at hand, ../shared/kind-node makes the node image and those of the stores;
# without that folder the public images are pulled.
# With TALLY set, the result goes to that file and the caller sums up.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
kind_node=$root/../shared/kind-node
sum=
[[ -n ${TALLY:-} ]] || sum=1
need_go
[[ -z $sum ]] || rm -f test-results/counts
tally_ready
[[ -z $sum ]] || tally -plan cluster

if [[ -x $kind_node/build.sh && -z ${E2E_NODE_IMAGE:-} ]]; then
  scripts/kind-node.sh
  eval "$("$kind_node/engine.sh" env)"
  . "$kind_node/versions.env"
  export E2E_NODE_IMAGE=kind-node:$KUBERNETES_VERSION
  export E2E_REDIS_IMAGE=e2e/redis:7 E2E_POSTGRES_IMAGE=e2e/postgres:15 E2E_BUSYBOX_IMAGE=e2e/busybox:1
else
  scripts/needs.sh docker
  say "using public images${E2E_NODE_IMAGE:+, and the node image $E2E_NODE_IMAGE}"
fi
docker version >/dev/null 2>&1 || die "no Docker engine answers (DOCKER_HOST=${DOCKER_HOST:-not set})"

export E2E_IMAGE=crewbeat:e2e E2E_LOGS=$root/test-results/cluster
scripts/image.sh "$E2E_IMAGE"
say "building helm"
HELM=$(cd tools && GOWORK=off go tool -n helm)
export HELM
say "running the smoke test"
code=0
go test -json -count=1 -timeout 25m -v ./tests/e2e/cluster/... | tee test-results/cluster.json | tally -name cluster go || code=1
grep -o '"Output":"    [a-z_]*_test.go:[0-9]*: [^"]*' test-results/cluster.json | sed 's/.*go:[0-9]*: /  /; s/\\n$//' | grep -E ' in [0-9]|after ' || true
if [[ $sum ]]; then tally sum || code=1; fi
exit $code
