#!/usr/bin/env bash
# Starts the engine of ../shared/kind-node, and makes its images if they are
# missing: about 12 minutes the first time, seconds from then on.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
kind_node=$root/../shared/kind-node
cache=${KIND_NODE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kind-node}
mkdir -p "$cache"
exec 9>"$cache/crewbeat.lock"
flock -n 9 || say "waiting for the build of the node image that is under way"
flock 9
scripts/needs.sh kind-node
"$kind_node/engine.sh" start 9>&- # the engine must not keep the lock
eval "$("$kind_node/engine.sh" env)"
"$kind_node/build.sh"
"$kind_node/service-images.sh"
