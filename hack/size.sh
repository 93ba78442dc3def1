#!/usr/bin/env bash
# What the programs weigh. Each container with secrets starts through the agent, and each node keeps
# a copy of it: it must not weigh more than 5 MB.

source "$(dirname "$0")/lib.sh"
most=5000000
for program in agent watchword-controller watchword; do
  printf '%-22s %10d bytes\n' "$program" "$(stat --format %s "$programs/$program")"
done
agent=$(stat --format %s "$programs/agent")
((agent <= most)) || fail "the agent weighs $agent bytes, and may weigh $most"
