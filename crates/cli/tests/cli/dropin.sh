#!/bin/sh
# A session as somebody wrote it for crabbox: its words, its shapes, nothing of ours.
set -eu

fail() {
  echo "dropin: $1" >&2
  exit 1
}

# has TEXT PATTERN: the text has a line that matches.
has() {
  printf '%s\n' "$1" | grep -Eq -- "$2" || fail "no line like $2 in: $1"
}

doctor=$(crabbox doctor --provider vast)
has "$doctor" '^ok      provider-selection provider=vast source=flag selected=true$'
has "$doctor" '^ok      ssh-key  per-lease$'
has "$doctor" '^ok      provider provider=vast timeout=10s auth=ready control_plane=ready inventory=ready api=list mutation=false leases=0 runtime=unchecked default_order=dlperf_per_dphtotal desc runtype=ssh_direct user=root$'

export CRABBOX_PROVIDER=vast
[ "$(crabbox list --json)" = '[]' ] || fail 'the inventory is not empty'

warmup=$(crabbox warmup -keep -ttl 20m -idle-timeout 5m -slug drop-in)
has "$warmup" '^leased cbx_[0-9a-f]{12} slug=drop-in provider=vast server=[0-9]+ type=.+ ip=[^ ]+ idle_timeout=5m0s expires=[0-9TZ:.-]+$'
has "$warmup" '^ready ssh=root@[^ ]+:[0-9]+ network=public workroot=/[^ ]+$'
has "$warmup" '^warmup complete total=[0-9.hms]+$'
lease=$(printf '%s\n' "$warmup" | sed -n 's/^leased \(cbx_[0-9a-f]*\) .*/\1/p')

status=$(crabbox status --wait --wait-timeout 2m --id drop-in)
has "$status" "^$lease slug=drop-in provider=vast target=linux windows_mode=normal state=ready type=.+ host=[^ ]+ pond=- network=public ready=true has_host=true idle_for=[0-9.hms]+ idle_timeout=5m0s expires=[0-9TZ:-]+$"
has "$(crabbox status --json --id drop-in)" '^\{"id":"cbx_[0-9a-f]{12}","slug":"drop-in","provider":"vast","target":"linux","windowsMode":"normal","state":"ready","serverId":"[0-9]+","serverType":"[^"]+","host":"[^"]+","network":"public","sshHost":"[^"]+","sshUser":"root","sshPort":"[0-9]+","sshKey":"[^"]+id_ed25519",'

gpus=$(crabbox run --id drop-in --no-sync -- nvidia-smi --query-gpu=name --format=csv,noheader)
[ "$(printf '%s\n' "$gpus" | grep -c .)" -ge 1 ] || fail "no GPU: $gpus"
code=0
crabbox run -id "$lease" -no-sync -shell 'exit 7' || code=$?
[ "$code" -eq 7 ] || fail "the exit code of the command is 7, not $code"

listed=$(crabbox list --json)
has "$listed" '^\[\{"CloudID":"[0-9]+","Provider":"vast","HostID":"","id":0,"name":"drop-in","status":"ready","labels":\{.*"keep":"true".*"slug":"drop-in","state":"ready","target":"linux","ttl_secs":"1200".*\},"public_net":\{"ipv4":\{"ip":"[^"]+"\}\},"private_net":\{"ipv4":\{"ip":""\}\},"server_type":\{"name":"[^"]+"\}[,}]'
has "$(crabbox list)" "^[0-9]+ +drop-in +ready +.+ +[^ ]+ +lease=$lease slug=drop-in keep=true target=linux( |$)"

stopped=$(crabbox stop drop-in 2>&1 >/dev/null)
has "$stopped" "^destroyed lease=$lease vast=[0-9]+ name=drop-in$"

crabbox cleanup --dry-run
[ "$(crabbox list --json)" = '[]' ] || fail 'something is left'
code=0
crabbox status drop-in 2>/dev/null || code=$?
[ "$code" -eq 4 ] || fail "a lease that is gone is exit code 4, not $code"
echo 'dropin: passed'
