#!/bin/sh
# keepalived's track_src_ip has no effect: an owner whose own address is removed stays MASTER.
#
# Version:   keepalived 2.3.3 (Debian 13)
# Input:     an instance with unicast_src_ip and track_src_ip, once for IPv4 and once for IPv6, whose
#            source address is removed once it is MASTER
# Expected:  "if the configured src_ip doesn't exist or is removed put the instance into fault state"
#            (keepalived.conf(5))
# Seen:      MASTER in both cases, also 5 s later. No advert leaves any more ("Cant send advert"), so
#            another proxy becomes MASTER too
# So:        the script that keepalived calls looks at the node's address itself
#            (templates/haproxy_links.sh.j2)
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
ip address add 2001:db8::1/64 dev lan0 nodad
ip link set lan0 up
ip link set lan1 up
for set in "192.0.2.1 192.0.2.2 192.0.2.7/32" "2001:db8::1 2001:db8::2 fe80::7/64"; do
  set -- $set
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
  unicast_src_ip $1
  track_src_ip
  unicast_peer {
    $2
  }
  virtual_ipaddress {
    $3 dev lan0
  }
}
CONF
  keepalived --vrrp --dont-fork --log-console --no-syslog --use-file /try.conf >/said 2>&1 &
  await() { # for at most 5 s
    tries=50
    until grep -q "$1" /said || [ "$tries" = 0 ]; do sleep 0.1; tries=$((tries - 1)); done
  }
  await "Entering MASTER STATE"
  ip address delete "$1/$([ "$1" = 192.0.2.1 ] && echo 24 || echo 64)" dev lan0
  await "Entering FAULT STATE"
  kill $!
  wait $! || true
  echo "$1: $(sed -n 's/.*(one) Entering \([A-Z]*\) STATE.*/\1/p' /said | xargs)"
done
END

mmdebstrap --quiet --variant=apt --include=keepalived,iproute2 trixie "$work/root"
cp "$work/inside" "$work/root/inside"
unshare --net --mount sh -eu -c 'mount -t proc proc "$1/proc" && chroot "$1" sh /inside' sh \
  "$work/root" >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
192.0.2.1: BACKUP MASTER
2001:db8::1: BACKUP MASTER
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
