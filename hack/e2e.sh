#!/usr/bin/env bash
# The end-to-end suite.
#
#     hack/e2e.sh local        on a local cluster of its own, which is removed afterwards
#     hack/e2e.sh kind         on a kind cluster of its own
#     hack/e2e.sh given        on the cluster of KUBECONFIG. INSTALL=no leaves what is installed
#                              there; else nodes must have, or be able to pull, the images that
#                              manifests/overlays/dev and the tests name
#
# KEEP=1 keeps a cluster that was started here, and the namespaces of the stories. FILTER is passed
# to the test runner. BENCH=https runs that benchmark instead of the stories.

steps=6
[[ -z ${BENCH:-} ]] || steps=5
source "$(dirname "$0")/lib.sh"
cluster=${1:-local}
# The tests use the local cluster of this name if there is one, else KUBECONFIG.
unset WATCHWORD_E2E_CLUSTER
if [[ $cluster == local ]]; then
  unset KUBECONFIG
  export WATCHWORD_E2E_CLUSTER=test
fi
if [[ -n ${KEEP:-} ]]; then export WATCHWORD_E2E_KEEP=1; fi

# Where stories that do not fit the cluster leave their names.
export WATCHWORD_E2E_SKIPPED=${WATCHWORD_E2E_SKIPPED:-$logs/skipped.log}
: >"$WATCHWORD_E2E_SKIPPED"

# Runs at every end.
ended() {
  local status=$?
  # With cargo's child, at whose end its cluster ends.
  [[ -z ${alone:-} ]] || kill -- "-$alone" 2>/dev/null || true
  ((status == 0)) || show_failure
  if [[ -s $WATCHWORD_E2E_SKIPPED ]]; then
    printf '\n%sskipped, though counted as passed%s\n' "$bold" "$plain" >&2
    while read -r story; do note "$story"; done <"$WATCHWORD_E2E_SKIPPED"
  fi
  if [[ $cluster == local && $status -ne 0 ]]; then
    "$launcher" logs --lines 15 >"$logs/daemons.log" 2>&1 || true
    note "the daemons' logs: $logs/daemons.log"
  fi
  if [[ -n ${started:-} && -z ${KEEP:-} ]]; then
    case $cluster in
    local) "$launcher" down ;;
    kind) kind delete cluster --name watchword ;;
    esac
  fi
  exit "$status"
}
trap ended EXIT

step "Compiling Watchword"
make programs launcher
hack/size.sh >&2
done_

# The benchmark's own cost is not what it measures, so it is of the profile that is there.
told=(cargo test --locked --target "$WATCHWORD_HOST" --package watchword-e2e --all-features)
if [[ -n ${BENCH:-} ]]; then
  told=(cargo bench --locked --target "$WATCHWORD_HOST" --profile dev --package watchword-e2e --bench "$BENCH")
fi

step "Compiling the tests"
"${told[@]}" --no-run
done_

step "Preparing the cluster ($cluster)"
case $cluster in
local)
  "$launcher" prerequisites --install
  "$launcher" down 2>/dev/null || true
  started=1
  "$launcher" up
  "$launcher" images --agent "$programs/agent" --controller "$programs/watchword-controller" >/dev/null
  ;;
kind)
  command -v kind >/dev/null || fail "\`kind\` is not installed"
  command -v docker >/dev/null || fail "\`docker\` is not installed"
  export KUBECONFIG=$WATCHWORD_CACHE/kind.kubeconfig
  # One of that name that is there already is somebody's, and stays.
  kind create cluster --name watchword --config e2e/kind.yaml --kubeconfig "$KUBECONFIG" --wait 120s
  started=1
  "$launcher" images --no-load --agent "$programs/agent" \
    --controller "$programs/watchword-controller" |
    while read -r archive; do kind load image-archive --name watchword "$archive"; done
  ;;
given)
  [[ -n ${KUBECONFIG:-} ]] || fail "set KUBECONFIG"
  note "the cluster of $KUBECONFIG, whose nodes must have these images (ctr -n k8s.io images import FILE):"
  "$launcher" images --no-load --agent "$programs/agent" --controller "$programs/watchword-controller" |
    while read -r archive; do note "  $archive"; done
  ;;
*) fail "CLUSTER is local or kind, not $cluster" ;;
esac
done_

step "Installing Watchword"
if [[ ${INSTALL:-yes} == no ]]; then note "left as it is"; else hack/install.sh manifests/overlays/dev; fi
done_

export WATCHWORD_CLI=$programs/watchword
if [[ -n ${BENCH:-} ]]; then
  step "Running the $BENCH"
  "${told[@]}"
  done_
  exit
fi

# One story waits more than it computes, so those that have clusters to themselves are told beside
# the others. In a group of its own, so that all of it can be ended.
step "Telling the stories"
note "those on clusters of their own are told meanwhile: $logs/alone.log"
setsid "${told[@]}" --test alone -- --test-threads 2 ${FILTER:-} >"$logs/alone.log" 2>&1 &
alone=$!
failed=
"${told[@]}" --lib --bins || failed=yes
"${told[@]}" --doc || failed=yes
"${told[@]}" --test stories -- --test-threads 3 ${FILTER:-} || failed=yes
"${told[@]}" --test disturbing -- ${FILTER:-} || failed=yes
wait "$alone" || failed=yes
alone=
cat "$logs/alone.log"
[[ -z $failed ]] || fail "a story failed"
done_

# A few stories may have stored nothing.
[[ -z ${FILTER:-} ]] || exit 0
step "Searching for what the stories have stored"
"${told[@]}" --test traces
done_
