#!/bin/sh
# Without a route to its gateway, iptables' TEE sends the copy to the packet's own destination.
#
# Version:   iptables 1.8.11 (Debian 13), Linux 6.18
# Input:     a rule with --gateway and --oif, once with a route to the gateway on that link, and once
#            without one
# Expected:  "Send the cloned packet to the host reachable at the given IP address"
#            (iptables-extensions(8)), so without a route an ARP request for the gateway, or no copy
# Seen:      without a route, an ARP request for the packet's own destination on that link. No message
#            and no counter tells. The kernel takes the gateway from the route that it has found
# So:        after the last address of a link is removed, and its routes with it, the routes are added
#            again (`end_draining` in templates/haproxy_links.sh.j2)
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

cat >"$work/inside" <<'END'
set -eu
ip link set lo up
for name in out copy; do
  ip link add "${name}0" type veth peer name "${name}1"
  ip link set "${name}0" up
  ip link set "${name}1" up
done
ip address add 203.0.113.1/24 dev out0
ip neighbour add 203.0.113.2 lladdr 02:00:00:00:00:02 dev out0
ip route add default via 203.0.113.2
iptables -t mangle -A OUTPUT -d 198.51.100.7 -j TEE --gateway 192.0.2.9 --oif copy0
for change in add delete; do
  ip route "$change" 192.0.2.9 dev copy0
  ip neighbour flush dev copy0
  bash -c 'echo >/dev/udp/198.51.100.7/9'
  echo "route: $change, asked for: $(ip neighbour show dev copy0 | cut -d ' ' -f 1)"
done
END

mmdebstrap --quiet --variant=apt --include=iptables,iproute2 trixie "$work/root"
cp "$work/inside" "$work/root/inside"
unshare --net chroot "$work/root" sh /inside >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
route: add, asked for: 192.0.2.9
route: delete, asked for: 198.51.100.7
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
