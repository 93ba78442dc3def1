#!/usr/bin/env bash
# Renders every overlay, and every component on top of the base, and looks at what must never be
# wrong in any of them: each policy is bound, to deny and to tell the audit log, no image is
# `latest`, the agent's image is the webhook's own, no role may read Secrets everywhere or mint
# tokens.

source "$(dirname "$0")/lib.sh"
kubectl=$(built_kubectl)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$(realpath --relative-to="$folder/component" .)

count=0
check() { # NAME FILE
  local name=$1 file=$2 unbound bound denies
  unbound=$(comm -23 \
    <(awk '/^kind: /{kind=$2} /^  name: /&&kind=="ValidatingAdmissionPolicy"{print $2; kind=""}' "$file" | sort) \
    <(awk '/^  policyName: /{print $2}' "$file" | sort))
  [[ -z $unbound ]] || fail "$name: policy without a binding: $unbound"
  bound=$(grep -c '^kind: ValidatingAdmissionPolicyBinding$' "$file")
  denies=$(awk '/^  validationActions:$/{getline a; getline b; n += a == "  - Deny" && b == "  - Audit"} END{print n + 0}' "$file")
  ((bound == denies)) || fail "$name: $bound bindings of policies, and $denies deny and audit"
  ! grep -nE '^ +image: .*:latest$' "$file" >&2 || fail "$name: an image is named by \`latest\`"
  ! grep -n 'serviceaccounts/token$' <(sed -n '/^kind: ClusterRole$/,/^---$/p; /^kind: Role$/,/^---$/p' "$file") >&2 ||
    fail "$name: a role may mint tokens"
  # `secrets` of the core group: the virtual resource of the same name is of another group.
  awk '/^---$/{kind=""; core=0} /^kind: ClusterRole$/{kind=1}
    /^- apiGroups:$/{core=0; in_groups=1; next} in_groups&&/^  - ""$/{core=1} /^  resources:$/{in_groups=0}
    kind&&core&&/^  - (secrets|"\*")$/{found=1} END{exit found}' "$file" ||
    fail "$name: a ClusterRole has verbs on Secrets"
  count=$((count + 1))
  note "$name: $(grep -c '^kind: ' "$file") objects, $(wc -c <"$file") bytes"
}

for overlay in manifests/overlays/*/; do
  overlay=${overlay%/}
  "$kubectl" kustomize "$overlay" >"$folder/out.yaml"
  images=$(awk '/name: WATCHWORD_AGENT_IMAGE/{getline; print $2}' "$folder/out.yaml")
  [[ -n $images && $images != watchword ]] || fail "$overlay: the agent's image is not set"
  grep -q " image: $images\$" "$folder/out.yaml" ||
    fail "$overlay: the agent's image is not the webhook's: $images"
  check "$overlay" "$folder/out.yaml"
done

mkdir "$folder/component"
for component in manifests/components/*/; do
  component=${component%/}
  printf 'resources: [%s]\ncomponents: [%s]\n' "$root/manifests/base" "$root/$component" \
    >"$folder/component/kustomization.yaml"
  "$kubectl" kustomize "$folder/component" >"$folder/out.yaml"
  check "$component" "$folder/out.yaml"
done
echo "$count renderings are sound"
