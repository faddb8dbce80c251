#!/usr/bin/env bash
# Sees to it that programs the tests start are here: from PATH, else by apt
# where this user may, else it says in one message what is missing and ends
# with 3, so that the caller may turn to Docker.
# usage: needs.sh NAME…   of redis postgres chromium docker cc kind-node
set -euo pipefail
. "$(dirname "$0")/lib.sh"

have() { # NAME: is it here?
  case $1 in
    redis) command -v redis-server ;;
    postgres) command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' ;;
    chromium) chromium_path ;;
    docker) command -v docker ;;
    cc) command -v gcc || command -v cc ;; # the race detector links with it
    kind-node) # what ../shared/kind-node needs beside Go
      local program
      for program in dockerd debootstrap gcc pkg-config xz iptables curl; do command -v "$program" || return 1; done
      pkg-config --exists libseccomp ;;
    *) die "needs.sh: what is $1?" ;;
  esac >/dev/null 2>&1
}
packages() {
  case $1 in
    redis) echo redis-server ;;
    postgres) echo postgresql ;;
    chromium) echo chromium ;;
    docker) echo docker.io ;;
    cc) echo gcc libc6-dev ;;
    kind-node) echo docker.io debootstrap gcc libc6-dev libseccomp-dev pkg-config xz-utils iptables curl ;;
  esac
}

wanted=() names=()
for name in "$@"; do
  if ! have "$name"; then
    names+=("$name")
    read -ra more <<<"$(packages "$name")"
    wanted+=("${more[@]}")
  fi
done
((${#wanted[@]})) || exit 0

apt=()
if command -v apt-get >/dev/null; then
  if [[ $(id -u) == 0 ]]; then
    apt=(apt-get)
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    apt=(sudo -n apt-get)
  fi
fi
if ! ((${#apt[@]})); then
  echo "These are missing: ${names[*]}. Install them, for instance with
  apt-get install ${wanted[*]}
and start again, or install Docker, in which the tests run as well. Nothing was
installed here: that needs apt-get and root (or sudo without a password)." >&2
  exit 3
fi

say "installing ${wanted[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Services must not start by themselves: the tests start their own.
{ "${apt[@]}" update -qq && "${apt[@]}" install -y -qq --no-install-recommends "${wanted[@]}"; } </dev/null >"$log" 2>&1 ||
  die "apt-get could not install ${wanted[*]}:
$(tail -n 20 "$log")"
rm -f "$log"
for name in "${names[@]}"; do
  have "$name" || die "$name is still missing after installing $(packages "$name")"
done
