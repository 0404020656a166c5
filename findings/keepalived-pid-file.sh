#!/bin/sh
# keepalived 2.2 does not start, and reports success, if a PID file of a former run is empty.
#
# Version:   keepalived 2.2.7 (Debian 12); Ubuntu 24.04 has 2.2.8. 2.3.3 (Debian 13) does it right
# Input:     a folder with an empty keepalived.pid, as a power cut or a kill at the wrong moment leaves it,
#            or one with the number of another program's process
# Expected:  it starts, for no keepalived runs
# Seen:      with 2.2.7 "daemon is already running" and exit status 0, in both cases
# So:        the script that runs keepalived removes the PID files first
#            (templates/haproxy_vrrp.sh.j2)
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

cat >"$work/inside" <<'END'
set -eu
ip link set lo up
ip link add lan0 type veth peer name lan1
ip address add 192.0.2.1/24 dev lan0
ip link set lan0 up
ip link set lan1 up
cat >/try.conf <<CONF
vrrp_instance one {
  interface lan0
  virtual_router_id 7
  virtual_ipaddress {
    192.0.2.7/32 dev lo
  }
}
CONF
sleep 60 &
other=$!
for file in "empty" "of another process"; do
  if [ "$file" = empty ]; then : >/try.pid; else echo "$other" >/try.pid; fi
  keepalived --vrrp --dont-fork --log-console --no-syslog --use-file /try.conf \
    --pid /try.pid --vrrp_pid /vrrp.pid >/said 2>&1 &
  daemon=$!
  tries=50
  until grep -Eq "already running|Entering (BACKUP|MASTER) STATE" /said || [ "$tries" = 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
  if grep -q "already running" /said; then
    wait "$daemon" && status=0 || status=$?
    seen="not started, status $status"
  else
    kill "$daemon"
    wait "$daemon" || true
    seen=started
  fi
  echo "$file: $seen"
done
kill "$other"
wait "$other" || true
END

for suite in bookworm trixie; do
  mmdebstrap --quiet --variant=apt --include=keepalived,iproute2 "$suite" "$work/$suite"
  cp "$work/inside" "$work/$suite/inside"
  dpkg-query --root="$work/$suite" -W -f '${Version}\n' keepalived | sed -E 's/^1:([0-9.]+)-.*/\1/'
  unshare --net --mount sh -eu -c 'mount -t proc proc "$1/proc" && chroot "$1" sh /inside' sh \
    "$work/$suite"
done >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
2.2.7
empty: not started, status 0
of another process: not started, status 0
2.3.3
empty: started
of another process: started
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
