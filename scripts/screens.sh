#!/usr/bin/env bash
# Takes the pictures in docs/screens anew, from the real binary in a browser.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
scripts/needs.sh chromium
scripts/build.sh
web_ready
mkdir -p docs/screens
(cd web && CHROMIUM_PATH=$(chromium_path) CREWBEAT_BIN=$root/bin/crewbeat npm run --silent screens)
say "pictures in docs/screens: $(ls docs/screens | wc -l)"
