# Owns the workspace, says so, and runs $6 as the recorded child, with our standard input. $5: seconds between renewals.
reply=$(locked 10 acquire) || reply=BUSY
case $reply in
  ACQUIRED | RECOVERED | OWNED) ;;
  *)
    say "${reply:-AMBIGUOUS}"
    exit 75
    ;;
esac

# Renews while we live. The child ends when the ownership is lost: another program may be at work in the folder.
keep() {
  trap 'kill "$pause" 2>/dev/null; wait "$pause"; exit 0' TERM
  while :; do
    sleep "$1" &
    pause=$!
    wait "$pause"
    kill -0 $$ 2>/dev/null || exit 0
    locked 50 renew
    case $? in
      0 | 73) continue ;;
    esac
    kill -TERM "$(sed -n 1p "$child.of.$$" 2>/dev/null)" 2>/dev/null
    exit 0
  done
}
keep "$5" </dev/null >/dev/null 2>&1 &
keeper=$!

# Signals are for the child: we stay to clear its record.
trap : HUP INT TERM
(
  # A subshell does not know its own number; a child of it does.
  me=$(exec sh -c 'echo "$PPID"')
  since=$(started "$me")
  if ! locked 50 record_child "$me" "${since:-unknown}"; then
    say AMBIGUOUS
    exit 75
  fi
  echo "$me" >"$child.of.$$"
  say "$reply"
  exec sh -c "$6"
)
code=$?
kill "$keeper" 2>/dev/null
wait "$keeper" 2>/dev/null
locked 50 forget_child "$(sed -n 1p "$child.of.$$" 2>/dev/null)"
rm -f "$child.of.$$"
exit "$code"
