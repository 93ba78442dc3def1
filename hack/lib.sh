# What the scripts of this folder share: how they speak, and what they show when something fails.
#
# Steps and results go to standard error; colours only on a terminal, and never with NO_COLOR.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${WATCHWORD_CACHE:?run this by make}" "${WATCHWORD_HOST:?run this by make}"
launcher=${WATCHWORD_LAUNCHER:?run this by make}
programs=${WATCHWORD_PROGRAMS:?run this by make}
logs=$WATCHWORD_CACHE/logs
mkdir -p "$logs"

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' plain=''
fi

steps=${steps:-0} step=0 begun=$SECONDS took=()

# step TEXT: announces the next numbered step.
step() {
  step=$((step + 1)) begun=$SECONDS title=$1
  printf '\n%s[%d/%d] %s%s\n' "$bold" "$step" "$steps" "$1" "$plain" >&2
}

# done_: closes a step with the time it took.
done_() {
  took+=("$((SECONDS - begun)) $title")
  printf '%s      done in %d s%s\n' "$dim" $((SECONDS - begun)) "$plain" >&2
}

# show_times: how long each step took that came to its end, and the whole.
show_times() {
  local one
  printf '\n' >&2
  for one in "${took[@]}" "$SECONDS all of it"; do printf '%6d s  %s\n' "${one%% *}" "${one#* }" >&2; done
}

note() { printf '      %s\n' "$1" >&2; }

fail() {
  printf '\n%serror:%s %s\n' "$red" "$plain" "$1" >&2
  exit 1
}

# kubectl ARGUMENTS…: against the cluster of this script: the local one, or the given KUBECONFIG.
kubectl() {
  if [[ -n ${KUBECONFIG:-} ]]; then
    command kubectl "$@"
  else
    "$launcher" exec -- kubectl "$@"
  fi
}

# in_cluster PROGRAM…: a program of the host that reaches the cluster as kubectl does.
in_cluster() {
  if [[ -n ${KUBECONFIG:-} ]]; then "$@"; else "$launcher" exec -- "$@"; fi
}

# built_kubectl: the path of the kubectl of the local cluster, which is built if need be. What the
# host has may be years older, and render something else.
built_kubectl() {
  if [[ -n ${KUBECTL:-} ]]; then echo "$KUBECTL"; else "$launcher" build-tools | grep '/kubectl$'; fi
}

# show_failure [NAMESPACE]: the state and the logs that explain a failure on the cluster.
show_failure() {
  {
    printf '\n%s--- what the cluster says%s\n' "$bold" "$plain"
    kubectl get pods --all-namespaces --output wide || return 0
    for namespace in watchword-system ${1:-}; do
      printf '\n%s--- events in %s%s\n' "$bold" "$namespace" "$plain"
      kubectl --namespace "$namespace" get events --sort-by .lastTimestamp | tail -n 15 | cut -c -300
    done
    if [[ -n ${1:-} ]]; then
      printf '\n%s--- task definitions in %s%s\n' "$bold" "$1" "$plain"
      kubectl --namespace "$1" get taskdefinitions --output wide | cut -c -300
      kubectl --namespace "$1" logs --selector watchword.dev/inject=true --all-containers --tail 20 --prefix
    fi
    for role in certificates controller store webhook; do
      printf '\n%s--- log of %s%s\n' "$bold" "$role" "$plain"
      kubectl --namespace watchword-system logs --selector "app.kubernetes.io/component=$role" \
        --all-containers --tail 200 | { grep -v '"level":"DEBUG"' || true; } | tail -n 15 | cut -c -400
    done
  } >&2 2>&1 || true
}
