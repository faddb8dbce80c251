#!/usr/bin/env bash
# Builds the image from the sources at hand, without a registry: the static
# binary and certificates, nothing else.
# usage: image.sh [NAME:TAG]   default crewbeat:dev
set -euo pipefail
. "$(dirname "$0")/lib.sh"
image=${1:-crewbeat:dev}
docker version >/dev/null 2>&1 || die "no Docker engine answers (DOCKER_HOST=${DOCKER_HOST:-not set})"
scripts/build.sh --static
for certs in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
  [[ ! -f $certs ]] || break
done
cp "$certs" bin/image/ca-certificates.crt
out=$(docker build --quiet --file Dockerfile.binary --tag "$image" bin/image 2>&1) || die "$out"
say "image $image, $(docker image inspect -f '{{.Size}}' "$image" | awk '{ printf "%.1f MiB", $1 / 1048576 }')"
