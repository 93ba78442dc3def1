#!/usr/bin/env bash
# What the programs weigh. Each container with secrets starts through the agent, and each node keeps
# a copy of it: it must not weigh more than 5 MB. With PROFILE=release also what the image weighs that
# holds nothing else: at most 15 MB compressed.

source "$(dirname "$0")/lib.sh"
# limit WHAT BYTES MOST: says what it weighs, and fails if that is too much.
limit() {
  printf '%-22s %10d bytes\n' "$1" "$2"
  (($2 <= $3)) || fail "$1 weighs $2 bytes, and may weigh $3"
}
weight() { stat --format %s "$programs/$1"; }

limit agent "$(weight agent)" 5000000
for program in watchword-controller watchword; do
  printf '%-22s %10d bytes\n' "$program" "$(weight "$program")"
done
if [[ ${PROFILE:-dev} == release ]]; then
  image=$(tar --create --directory "$programs" agent watchword-controller | gzip -9 | wc -c)
  limit 'image, compressed' "$image" 15000000
fi
