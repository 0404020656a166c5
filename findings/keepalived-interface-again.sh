#!/bin/sh
# keepalived 2.2 never becomes MASTER again after its interface was removed and added.
#
# Version:   keepalived 2.2.7 (Debian 12); Ubuntu 24.04 has 2.2.8. 2.3.3 (Debian 13) does it right
# Input:     an instance with unicast_src_ip and a peer that is silent. Once it is MASTER, its interface
#            is removed, and added again with the same name and address, as when a USB network adapter
#            resets itself
# Expected:  FAULT, BACKUP, and MASTER when no advert has come for some four intervals (0.4 s here)
# Seen:      with 2.2.7 the last state is BACKUP, also 10 s later. With 2.3.3 it is MASTER
# So:        keepalived is restarted when the interface's number is another one than at its start
#            (`restart_deaf_keepalived` in templates/haproxy_links.sh.j2)
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

cat >"$work/inside" <<'END'
set -eu
add() {
  ip link add lan0 type veth peer name lan1
  ip address add 192.0.2.1/24 dev lan0
  ip link set lan0 up
  ip link set lan1 up
}
ip link set lo up
add
cat >/try.conf <<CONF
global_defs {
  vrrp_version 3
}
vrrp_instance one {
  state BACKUP
  interface lan0
  virtual_router_id 7
  priority 100
  advert_int 0.1
  unicast_src_ip 192.0.2.1
  unicast_peer {
    192.0.2.2
  }
  virtual_ipaddress {
    192.0.2.7/32 dev lo
  }
}
CONF
keepalived --vrrp --dont-fork --log-console --no-syslog --use-file /try.conf >/said 2>&1 &
states() { sed -n 's/.*(one) Entering \([A-Z]*\) STATE.*/\1/p' /said | xargs; }
await() { # NUMBER: until the instance has been MASTER so many times, for at most 10 s
  tries=100
  until [ "$(grep -c "Entering MASTER STATE" /said)" = "$1" ] || [ "$tries" = 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
}
await 1
ip link delete lan0
tries=50
until grep -q "Entering FAULT STATE" /said || [ "$tries" = 0 ]; do sleep 0.1; tries=$((tries - 1)); done
add
await 2
kill $!
wait $! || true
states
END

for suite in bookworm trixie; do
  mmdebstrap --quiet --variant=apt --include=keepalived,iproute2 "$suite" "$work/$suite"
  cp "$work/inside" "$work/$suite/inside"
  version=$(dpkg-query --root="$work/$suite" -W -f '${Version}' keepalived)
  echo "$version: $(unshare --net --mount sh -eu -c \
    'mount -t proc proc "$1/proc" && chroot "$1" sh /inside' sh "$work/$suite")"
done >"$work/seen"
cat "$work/seen"
sed -E 's/^1:([0-9.]+)-[^:]*/\1/' "$work/seen" >"$work/short"
cat >"$work/expected" <<'END'
2.2.7: BACKUP MASTER FAULT BACKUP
2.3.3: BACKUP MASTER FAULT BACKUP MASTER
END
cmp -s "$work/short" "$work/expected" || { echo "that has changed" >&2; exit 1; }
