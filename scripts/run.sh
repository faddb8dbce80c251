#!/usr/bin/env bash
# Builds Crewbeat and runs all of it in one process.
# usage: run.sh [OPTION OF crewbeat serve]…   as --addr 127.0.0.1:9000 --data ./data
set -euo pipefail
here=$(dirname "$0")
"$here/build.sh"
. "$here/lib.sh"
exec bin/crewbeat serve "$@"
