# Workspace owner: who may work in a lease's workspace. The records are crabbox's, so that both programs exclude each other.
# $1 key, $2 token, $3 mark for replies, $4 seconds until an owner expires
set -u
umask 077
root=$HOME/.crabbox/workspace-owners
mkdir -p "$root"
chmod 700 "$HOME/.crabbox" "$root" 2>/dev/null
owner=$root/$1.owner
child=$root/$1.child
gate=$root/$1.gate
token=$2
mark=$3
ttl=$4

say() { printf '%s %s\n' "$mark" "$1" >&2; }

# Only ASCII counts as a digit here, whatever the locale.
is_number() { case $1 in '' | *[!0123456789]*) return 1 ;; esac; [ "${#1}" -le 18 ]; }
is_token() { case $1 in '' | *[!0123456789abcdef]*) return 1 ;; esac; [ "${#1}" -eq 64 ]; }

short_pause() { sleep 0.1 2>/dev/null || sleep 1; }

# locked TRIES COMMAND...: runs the command while no other process changes the records; 73 when somebody stays inside.
locked() {
  tries=$1
  shift
  if command -v flock >/dev/null 2>&1; then
    (
      until flock -x -n 9; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || exit 73
        short_pause
      done
      "$@"
    ) 9>>"$gate"
    return
  fi
  # crabbox refuses to work without flock, so this lock is ours alone: a folder, which only one can create.
  waited=0
  until mkdir "$gate.held" 2>/dev/null; do
    tries=$((tries - 1))
    waited=$((waited + 1))
    [ "$tries" -gt 0 ] || return 73
    short_pause
    break_gate
  done
  echo $$ >"$gate.held/pid"
  "$@"
  inside=$?
  rm -rf "$gate.held"
  return "$inside"
}

# Whoever held the folder may have been killed. Only one at a time looks, so that no fresh lock is broken.
break_gate() {
  holder=$(cat "$gate.held/pid" 2>/dev/null)
  if [ -n "$holder" ]; then
    exists "$holder" && return
  else
    [ "$waited" -gt 20 ] || return
  fi
  mkdir "$gate.breaking" 2>/dev/null || return
  [ "$(cat "$gate.held/pid" 2>/dev/null)" != "$holder" ] || rm -rf "$gate.held"
  rmdir "$gate.breaking"
}

exists() { kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ]; }

# A process number is used again one day: the time of its start tells them apart. BusyBox does not show that time the
# way crabbox records it; the kernel's own number serves there.
started() {
  when=$(LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' | sed 's/^ //;s/ $//' | cut -c1-96)
  [ -n "$when" ] || when=$(ticks "$1")
  printf %s "$when"
}
ticks() {
  count=$(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20)
  [ -z "$count" ] || printf 'proc:%s' "$count"
}
is_zombie() { case $(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null) in Z*) ;; *) return 1 ;; esac; }

# 0: somebody's record is there, in $held_by and $held_until; 1: nobody's; 2: it cannot be understood.
read_owner() {
  if [ ! -e "$owner" ] && [ ! -L "$owner" ]; then return 1; fi
  if [ ! -f "$owner" ] || [ -L "$owner" ]; then return 2; fi
  version= held_by= held_until= more=
  { IFS= read -r version; IFS= read -r held_by; IFS= read -r held_until; IFS= read -r more; } <"$owner"
  [ "$version" = v1 ] && is_token "$held_by" && is_number "$held_until" && [ -z "$more" ] || return 2
}
write_owner() {
  printf 'v1\n%s\n%s\n' "$token" $(($(date +%s) + ttl)) >"$owner.tmp.$$" && mv -f "$owner.tmp.$$" "$owner"
}
is_ours() { read_owner && [ "$held_by" = "$token" ]; }

# 0: the recorded child lives; 1: it does not; 2: the record cannot be understood.
child_lives() {
  [ -e "$child" ] || return 1
  pid= since=
  { IFS= read -r pid; IFS= read -r since; } <"$child"
  is_number "$pid" && [ -n "$since" ] && [ "${#since}" -le 96 ] || return 2
  exists "$pid" || return 1
  # Where nobody collects dead processes they stay listed for ever.
  ! is_zombie "$pid" || return 1
  case $since in
    proc:*) present=$(ticks "$pid") ;;
    *) present=$(started "$pid") ;;
  esac
  [ -n "$present" ] || return 2
  [ "$present" = "$since" ]
}

acquire() {
  read_owner
  case $? in
    0)
      if [ "$held_by" = "$token" ]; then
        write_owner && echo OWNED
        return
      fi
      if [ "$held_until" -gt "$(date +%s)" ]; then echo BUSY; return; fi
      won=RECOVERED
      ;;
    1) won=ACQUIRED ;;
    *) echo AMBIGUOUS; return ;;
  esac
  child_lives
  case $? in
    0) echo CHILD ;;
    1) rm -f "$child" && write_owner && echo "$won" ;;
    *) echo AMBIGUOUS ;;
  esac
}

renew() { is_ours && write_owner; }

release() {
  if ! is_ours; then echo MISMATCH; return; fi
  child_lives
  case $? in
    0) echo CHILD ;;
    1) rm -f "$child" "$owner" && echo RELEASED ;;
    *) echo AMBIGUOUS ;;
  esac
}

# A child of ours that already lives stays the recorded one.
record_child() {
  is_ours || return 1
  child_lives && return 0
  printf '%s\n%s\n' "$1" "$2" >"$child.tmp.$$" && mv -f "$child.tmp.$$" "$child"
}
forget_child() {
  is_ours || return 1
  pid=
  IFS= read -r pid <"$child" 2>/dev/null
  [ "$pid" != "$1" ] || rm -f "$child"
}
