# The dead-man switch: destroys its own instance at its deadline, whatever became of who rented it.
#
# Before this text stand the settings, as assignments (ssh/deadman.rs writes them):
#   T  time to live in seconds, 0 for none       I  idle timeout in seconds       A  1 where being idle counts
#   P  1 where it comes over a session, not by a start script
#   U  the API's address    H  its host and port    N  its host name    V  hostname or ip    B  its path    S  S for HTTPS
# Comments and indentation do not travel. Runs under dash, bash and busybox.
(
  set +eu
  umask 077
  trap '' HUP
  D=${HOME:-/root}/.crabbox/deadman
  # the process table; a container that shares its machine's names another one
  Q=${CRABBOX_PROC:-/proc}
  mkdir -p "$D"

  # n: seconds since the machine started. No clock that somebody sets has a say.
  now() { read -r n _ <"$Q/uptime"; n=${n%%.*}; }
  # puts a file in its place whole
  put() { echo "$2" >"$D/$1.new" && mv -f "$D/$1.new" "$D/$1"; }
  # whether all of these are plain numbers that the shell can count with
  num() { for x; do case $x in '' | *[!0-9]* | 0?* | ???????????*) return 1 ;; esac; done; }

  # the key of this one instance and its id: from the environment, else from that of the container's first process
  of() { tr '\0' '\n' <"$Q/1/environ" | sed -n "s/^$1=//p"; }
  k=${CONTAINER_API_KEY:-$(of CONTAINER_API_KEY)}
  c=${CONTAINER_ID:-$(of CONTAINER_ID)}
  case $k in *[!A-Za-z0-9_.-]*) k= ;; esac
  num "$c" || c=

  # Without the certificates of the usual authorities no server is believed.
  R=$CRABBOX_ROOT
  W=' noca'
  for x in "$SSL_CERT_FILE" "$SSL_CERT_DIR" "$CURL_CA_BUNDLE" $R/etc/ssl/*.pem $R/etc/ssl/certs/* $R/etc/pki/tls/certs/*; do
    [ -s "$x" ] && W=
  done
  [ $S ] || W=

  # the clients that can ask, best first
  L=
  for x in curl wget python3 python openssl bash; do
    y=$(command -v $x) || continue
    # programs from elsewhere bring certificates of their own
    case $y in "$R"/bin/* | "$R"/usr/bin/*) ;; *) W= ;; esac
    case $x in
      # busybox has a wget that cannot delete
      wget) case $(wget --help 2>&1) in *--method*) ;; *) continue ;; esac ;;
      openssl) [ $S ] || continue ;;
      bash) [ $S ] && continue ;;
    esac
    L="$L $x"
  done

  # One request through client $1. True for any answer, whatever it says. The key goes through pipes and the
  # environment, so that no list of processes and no disk ever shows it.
  E=$U/instances/$c/
  r=$(printf '\r')
  M=/dev/shm/.deadman$$
  j='Content-Type: application/json'
  http() {
    for x in "DELETE $B/instances/$c/ HTTP/1.1" "Host: $H" "Authorization: Bearer $k" "$j" \
      'Content-Length: 3' 'Connection: close' '' '{}'; do
      echo "$x$r"
    done
  }
  heard() { read -r x; case $x in HTTP/*) ;; *) return 1 ;; esac; }
  ask() {
    case $1 in
      curl) echo "header=\"Authorization: Bearer $k\"" | curl -qsm20 -K- -XDELETE -H"$j" -d{} -o/dev/null "$E" ;;
      wget)
        # it wants a regular file: one in memory, without a name by the time the key is in it
        {
          rm -f "$M"
          echo "header=Authorization: Bearer $k" >&3
          wget --config=/proc/self/fd/3 -qO/dev/null -t1 -T20 --max-redirect=0 --method=DELETE --header="$j" --body-data={} "$E"
        } 3<>"$M"
        # 8: the server answered with an error
        case $? in 0 | 8) ;; *) return 1 ;; esac ;;
      python*)
        K=$k $1 -c "
import os
try: import http.client as h
except ImportError: import httplib as h
c=h.HTTP${S}Connection('$H',timeout=20)
c.request('DELETE','$B/instances/$c/','{}',{'Authorization':'Bearer '+os.environ['K'],'Content-Type':'application/json'})
c.getresponse()" ;;
      openssl)
        http | openssl s_client -quiet -connect "$H" -servername "$N" -verify_return_error -verify_$V "$N" | heard ;;
      bash) http | bash -c "exec 3<>/dev/tcp/${H%:*}/${H##*:};cat >&3;cat <&3" | heard ;;
    esac
  }

  # Waits. Without anything to wait with, going on would only burn the processor.
  nap() { sleep $1; case $? in 126 | 127) exit 0 ;; esac; }

  # Says how things stand, that it lives, and which one it is.
  tell() {
    now
    put report "1 $n $e $f ${k:+key} ${c:+id}$W$L =$G"
  }
  # The newest of these watches: an older one sees that and ends.
  mine() {
    read -r g _ <"$D/watch"
    [ "${g:-$G}" = "$G" ] || exit 0
  }

  # Asks until the container dies, more and more slowly. An answer ends the round; only silence moves on.
  destroy() {
    p=2
    while :; do
      # without key or id there is nothing to ask with
      for x in ${k:+${c:+$L}}; do
        mine
        tell
        ask $x & w=$!
        (sleep 30; kill $w) & s=$!
        wait $w; z=$?
        kill $s
        [ $z = 0 ] && break
      done
      mine
      tell
      nap $p
      [ $p -lt 60 ] && p=$((p * 2))
    done
  }

  # Whether somebody works here: crabbox renewed its workspace owner since the last look, or an SSH session is open.
  # Without a process that calls itself sshd, a connection to port 22 counts.
  used() {
    for x in "${HOME:-/root}"/.crabbox/workspace-owners/*.owner; do [ "$x" -nt "$D/mark" ] && return 0; done
    z=
    for x in "$Q"/[0-9]*/cmdline; do
      y=
      read -r y <"$x"
      case $y in sshd*:*@*) return 0 ;; sshd* | */sshd*) z=1 ;; esac
    done
    [ "$z" ] && return 1
    for x in tcp tcp6; do
      while read -r _ y _ z _; do case $y$z in *:001601) return 0 ;; esac; done <"$Q/net/$x"
    done
    return 1
  }

  now
  G=$n.$$
  put watch "$G"
  # What came over a session is the plan from then on, also for a start script that runs again after a stop.
  if [ $P ]; then
    put plan "$T $I $A"
  else
    read -r t i z <"$D/plan" && num "$t" "$i" && case $z in 0 | 1) T=$t I=$i A=$z ;; esac
  fi
  # nothing is to end it; the former may have reported meanwhile
  [ $T$A = 00 ] && rm -f "$D/report" && exit 0

  # The hard end. A start after a stop keeps it (if the machine itself was started anew: what was left of it), but is
  # never closer to it than one idle timeout, and what is no number is not believed.
  read -r b <"$Q/sys/kernel/random/boot_id"
  read -r e y <"$D/end"
  # an install over a session has moved the last report away
  read -r _ z _ <"$D/report" || read -r _ z _ <"$D/last"
  # a touch may have changed the timeout; who installs it over a session knows that
  i=
  [ $P ] || read -r _ i <"$D/idle"
  num "$i" && [ $i -gt 0 ] || i=$I
  f=$((n + i))
  if num "$e"; then
    # a container that counts from its own start has started anew when it counts less than before
    num "$z" || z=0
    [ "$y" = "$b" ] && [ $z -le $n ] || { [ $z -gt 0 ] && e=$((n + e - z)); }
    [ $e -gt $((n + T)) ] && e=$((n + T))
    [ $e -lt $f ] && e=$f
  else
    e=$((n + T))
  fi
  [ $T = 0 ] && e=0
  put end "$e $b"
  # The idle deadline, which a touch renews by writing this file: deadline and timeout.
  put idle "$f $i"
  [ $A = 1 ] || f=0
  { :; } >"$D/mark"

  while :; do
    read -r d i <"$D/idle"
    mine
    now
    q=15
    if [ $A = 1 ]; then
      num "$i" && [ $i -gt 0 ] || i=$I
      # no honest deadline is more than one timeout away
      m=$((n + i))
      [ $f -gt $m ] && f=$m
      num "$d" && [ $d -gt $f ] && [ $d -le $m ] && f=$d
      used && f=$m
      { :; } >"$D/mark"
      [ $((f - n)) -lt $q ] && q=$((f - n))
    fi
    [ $e -gt 0 ] && [ $((e - n)) -lt $q ] && q=$((e - n))
    tell
    [ $q -gt 0 ] || destroy
    nap $q
  done
) </dev/null >/dev/null 2>&1 &
