#!/usr/bin/env bash
# Everything that CI checks, in an order that fails early: formatting, lints, documentation, unit
# tests, fuzz targets, the image and what it is built from, manifests, and the end-to-end suite on a cluster
# of its own. Kubernetes is built in the background meanwhile, which takes about ten minutes once per
# machine.
#
# Before the end it says how long each step took; the last line sums up the counts of the test runner.

steps=10
source "$(dirname "$0")/lib.sh"
counts=$logs/test-runner.log
: >"$counts"
export WATCHWORD_E2E_SKIPPED=$logs/skipped.log
: >"$WATCHWORD_E2E_SKIPPED"

summary() {
  local status=$? passed failed skipped
  read -r passed failed < <(awk '/^test result: /{passed += $4; failed += $6} END {print passed + 0, failed + 0}' "$counts")
  # To the runner they have passed.
  skipped=$(wc -l <"$WATCHWORD_E2E_SKIPPED")
  passed=$((passed - skipped))
  [[ -z ${tools:-} ]] || kill "$tools" 2>/dev/null || true
  show_times
  if ((status == 0)); then
    printf '\n%severything holds%s\n' "$green" "$plain" >&2
  else
    printf '\n%sfailed at step %d of %d%s\n' "$red" "$step" "$steps" "$plain" >&2
  fi
  if ((skipped)); then
    echo "$passed passed, $failed failed, $skipped skipped"
  else
    echo "$passed passed, $failed failed"
  fi
  exit "$status"
}
trap summary EXIT

step "What the tests and the cluster need"
# Programs that tests run as they are: the servers and tools that users have.
packages=()
[[ -f /usr/share/java/zookeeper.jar ]] || packages+=(zookeeper)
command -v gpg >/dev/null || packages+=(gnupg)
command -v curl >/dev/null || packages+=(curl)
command -v xxd >/dev/null || packages+=(xxd)
# What builds the image where there is no Docker.
command -v buildah >/dev/null || packages+=(buildah)
# libFuzzer is written in C++.
command -v c++ >/dev/null || packages+=(g++)
if ((${#packages[@]})); then
  note "missing for the tests: ${packages[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${packages[@]}" ||
    { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends "${packages[@]}"; } ||
    fail "install these first: ${packages[*]}"
fi
make launcher
"$launcher" prerequisites --install
(
  trap - EXIT
  exec nice -n 10 "$launcher" build-tools >"$logs/tools.log" 2>&1
) &
tools=$!
note "building Kubernetes in the background: $logs/tools.log"
done_

step "Formatting and lints"
make lint
done_

step "Documentation"
make docs
done_

step "Tests without a cluster"
make unit 2>&1 | tee -a "$counts"
done_

step "Fuzz targets, a few seconds each"
hack/fuzz.sh 4
done_

step "One TLS provider"
make check-ring
done_

step "What the image is built from"
make check-context
done_

step "The image"
make check-image
done_

step "Manifests"
if ! wait "$tools"; then
  tail -n 40 "$logs/tools.log" >&2
  fail "cannot build Kubernetes: $logs/tools.log"
fi
tools=
make render
done_

step "The end-to-end suite"
hack/e2e.sh local 2>&1 | tee -a "$counts"
done_
