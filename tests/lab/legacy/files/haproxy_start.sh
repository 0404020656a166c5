#!/bin/bash
# Container without a name, found by its image; the link is looked for by its name only
runs() { docker ps | grep -q haproxy:latest; }
if ! runs; then
  docker run -d --rm --network lb-network --mac-address 02:42:ac:8f:4c:ff --ip=@VIP@ \
    -v /var/log/haproxy/run:/run/haproxy -v /var/log/haproxy:/usr/local/etc/haproxy:ro \
    haproxy:latest
  sleep 4
  runs || exit 1
fi
sleep 4
if ! ip link show foobar >/dev/null 2>&1; then
  ip link add foobar link eth0 type macvlan mode bridge
  ip addr add @HAIRPIN@/32 dev foobar
  ip link set foobar up
  ip route add @VIP@/32 dev foobar
  ip link show foobar >/dev/null 2>&1 || exit 1
fi
