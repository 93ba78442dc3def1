#!/usr/bin/env bash
# The demo: a real cluster on this machine, Watchword on it, two secrets, a pod that has them, and
# a look at the places where they are not.
#
#     hack/demo.sh up | down

steps=9
source "$(dirname "$0")/lib.sh"
export WATCHWORD_E2E_CLUSTER=demo
unset KUBECONFIG

if [[ ${1:-up} == down ]]; then
  if [[ -x $launcher ]]; then "$launcher" down; else make launcher && "$launcher" down; fi
  exit
fi

[[ $(uname -s) == Linux ]] || fail "the local cluster needs Linux: see README.md for kind"
((EUID == 0)) || fail "the local cluster needs root (namespaces and mounts): run \`sudo make demo\`, or see README.md for kind"
for tool in cargo go gcc; do
  command -v "$tool" >/dev/null || fail "\`$tool\` is not installed"
done

secrets=$(mktemp -d)
chmod 700 "$secrets"
ended() {
  local status=$?
  rm -rf "$secrets"
  if ((status != 0)); then
    if [[ ${installed:-} ]]; then show_failure shop; fi
    printf '\n%sThe demo failed at step %d.%s Logs are in %s; %s\n' "$red" "$step" "$plain" "$logs" \
      "run \`make demo\` again to go on, or \`make demo-down\` to clean up." >&2
  fi
  exit "$status"
}
trap ended EXIT

step "Compiling the launcher of the local cluster"
make launcher
done_

step "Installing what this machine is missing"
"$launcher" prerequisites --install
done_

step "Building Kubernetes, etcd, containerd and CoreDNS (about ten minutes, the first time)"
"$launcher" build-tools >/dev/null
done_

step "Compiling Watchword"
make programs
done_

step "Starting a cluster of one node"
"$launcher" up
"$launcher" images --agent "$programs/agent" --controller "$programs/watchword-controller" >/dev/null
done_

step "Installing Watchword"
installed=1
hack/install.sh manifests/overlays/demo
done_

step "Storing two secrets: shop/db-password and shop/tls-key"
watchword() { in_cluster "$programs/watchword" "$@"; }
store() { # PATH FILE: a second demo gives the secret a new value
  if watchword secret create "$1" --file "$2" 2>"$logs/secret.log"; then return; fi
  watchword secret update "$1" --file "$2" || { cat "$logs/secret.log" >&2; fail "cannot store $1"; }
  updated=1
}
# No newline at the end: what is stored is what the variable holds, byte for byte.
printf '%s' "$(head -c 18 /dev/urandom | base64)" >"$secrets/db-password"
head -c 300 /dev/urandom | base64 -w 64 >"$secrets/tls-key"
store shop/db-password "$secrets/db-password"
store shop/tls-key "$secrets/tls-key"
watchword secret list shop >&2
done_

step "Applying examples/web.yaml"
kubectl create namespace shop --dry-run=client --output yaml | kubectl apply --server-side --filename - >/dev/null
kubectl apply --server-side --filename - <examples/web.yaml >&2
for ((i = 0; ; i++)); do
  if kubectl --namespace shop get deployment web >/dev/null 2>&1; then break; fi
  ((i < 60)) || fail "the controller makes no Deployment of it"
  sleep 1
done
# A demo that runs again has given the secrets new values, which pods take when they start.
[[ -z ${updated:-} ]] ||
  kubectl --namespace shop delete pods --selector watchword.dev/task-definition=web --wait >/dev/null
kubectl --namespace shop rollout status deployment/web --timeout=120s >&2
kubectl --namespace shop get taskdefinition web >&2
done_

step "Looking for the values"
value=$(<"$secrets/db-password")
# Of the file its first line, and what base64 makes of it, whatever follows.
line=$(head -n 1 "$secrets/tls-key")
pod=$(kubectl --namespace shop get pods --selector watchword.dev/task-definition=web \
  --field-selector status.phase=Running --output 'jsonpath={.items[0].metadata.name}')
inside() { kubectl --namespace shop exec "$pod" --container web -- "$@"; }
file=/mnt/mesos/sandbox/certs/tls.key
show() { printf '      %-46s %s\n' "$1" "$2"; }
verdict() { # WHERE COUNT: what must hold no value
  if [[ $2 == 0 ]]; then show "$1" "${green}no value${plain}"; else
    show "$1" "${red}found $2 times${plain}"
    leaked=1
  fi
}
# found VALUE FILE…: how often the value stands there, as it is or in base64.
found() { { grep -aorF -e "$1" -e "$(printf %s "${1:0:$((${#1} / 3 * 3))}" | base64 -w 0)" "${@:2}" || true; } | wc -l; }
# either FILE…: the same for the two secrets.
either() { echo $(($(found "$value" "$@") + $(found "$line" "$@"))); }

echo
echo "    ${bold}What the pod has${plain} ($pod)"
password() { inside cat /proc/1/environ 2>/dev/null | tr '\0' '\n' | sed -n 's/^DB_PASSWORD=//p'; }
# A container runs a moment before the agent in it has become the application.
for ((i = 0; i < 30; i++)); do
  [[ $(password) != "$value" ]] || break
  sleep 1
done
[[ $(password) == "$value" ]] || fail "the application's DB_PASSWORD is not what was stored"
show "DB_PASSWORD of the application" "$value"
inside cat "$file" | cmp --silent - "$secrets/tls-key" || fail "$file is not what was stored"
show "$file" "$(inside wc -c "$file" | awk '{print $1}') bytes, as stored"
show "what that file lies on (/proc/mounts)" "$(inside grep " $file " /proc/mounts | awk '{print $3, $4}' | cut -c -30)"
show "what the application said" "$(kubectl --namespace shop logs "$pod" --container web | head -n 1)"

echo
echo "    ${bold}What everything else has of the two${plain}"
leaked=
kubectl --namespace shop get pod "$pod" --output yaml >"$secrets/pod.yaml"
verdict "the pod's spec and status" "$(either "$secrets/pod.yaml")"
show "  its command instead" "$(kubectl --namespace shop get pod "$pod" --output 'jsonpath={.spec.containers[0].command}' | cut -c -60)…"
for kind in taskdefinitions taskrevisions deployments replicasets secrets configmaps events; do
  kubectl get "$kind" --all-namespaces --output yaml
done >"$secrets/objects.yaml"
verdict "definitions, revisions, workloads, Secrets …" "$(either "$secrets/objects.yaml")"
for role in certificates controller store webhook; do
  kubectl --namespace watchword-system logs --selector "app.kubernetes.io/component=$role" --tail -1
done >"$secrets/logs.txt"
verdict "the logs of Watchword" "$(either "$secrets/logs.txt")"
etcd=$WATCHWORD_CACHE/clusters/demo/etcd
verdict "all of etcd: every key, its history, the WAL" "$(either "$etcd")"
show "  the name DB_PASSWORD, by the same search" "found $(found DB_PASSWORD "$etcd") times"
[[ -z $leaked ]] || fail "a value stands where it must not"
done_

cat <<END

    ${bold}Go on${plain}
      alias k='$launcher --name demo kubectl'
      k -n shop get taskdefinitions,pods
      k -n shop logs deployment/web
      k -n shop edit taskdefinition web      # point it at a secret that is not there, and see
      $launcher --name demo exec -- $programs/watchword secret list shop
      make demo-down                         # removes all of it
END
