#!/usr/bin/env bash
# Installs an overlay into the cluster and waits until it works: definitions first, because their
# objects cannot be applied before the API server knows them.
#
#     hack/install.sh OVERLAY       a folder, such as manifests/overlays/dev

source "$(dirname "$0")/lib.sh"
overlay=${1:?which overlay}

# A kind may be known to the API server a moment later than its definition is established.
apply() {
  local i
  for ((i = 0; ; i++)); do
    kubectl apply --server-side --force-conflicts --kustomize "$1" >"$logs/apply.log" 2>&1 && return
    if ((i == 30)) || ! grep -q 'no matches for kind' "$logs/apply.log"; then
      cat "$logs/apply.log" >&2
      fail "cannot apply $1"
    fi
    sleep 1
  done
}

apply crds
kubectl get --kustomize crds --output name |
  while read -r crd; do kubectl wait "$crd" --for=condition=Established --timeout=300s </dev/null; done >/dev/null
note "custom resource definitions are established"

apply "$overlay"
note "applied $overlay"

for role in certificates store webhook controller; do
  kubectl --namespace watchword-system rollout status "deployment/watchword-$role" --timeout=300s \
    >/dev/null || { show_failure; fail "watchword-$role does not become ready"; }
  note "watchword-$role is ready"
done

# Ready means that the webhook serves; that the API server trusts it is written by another role.
for kind in mutating validating; do
  for ((i = 0; ; i++)); do
    bundle=$(kubectl get "${kind}webhookconfiguration" watchword \
      --output 'jsonpath={.webhooks[0].clientConfig.caBundle}')
    [[ -z $bundle ]] || break
    ((i < 300)) || { show_failure; fail "the $kind webhook has no caBundle after five minutes"; }
    sleep 1
  done
done
note "the API server trusts the webhook"

# A store that opens by itself does so a moment after it has become ready; one that does not waits
# for people.
if [[ -n $(kubectl get secretstores default --output 'jsonpath={.spec.autoUnseal}' 2>/dev/null) ]]; then
  kubectl wait secretstore/default --for=jsonpath='{.status.sealed}'=false --timeout=300s >/dev/null ||
    { show_failure; fail "the store does not unseal itself"; }
  note "the store is unsealed"
fi
