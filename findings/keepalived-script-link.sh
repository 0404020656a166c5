#!/bin/sh
# keepalived takes no check script whose path leads through a link, though root owns link and target.
#
# Version:   keepalived 2.3.3 (Debian 13)
# Input:     a valid configuration with enable_script_security and a vrrp_script "/bin/true"; on
#            Debian /bin is a link to usr/bin, and both belong to root
# Expected:  that it is taken as "/usr/bin/true" is: nobody but root can change either
# Seen:      "Disabling track script alive due to insecure" and exit status 5 of --config-test, for
#            /bin/true only
# So:        this package names its scripts below /usr/sbin, and its check of a new configuration
#            puts /usr/bin/true in their place
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

cat >"$work/inside" <<'END'
set -eu
keepalived --version 2>&1 | head -n 1 | cut -d ' ' -f 1-2
for program in /usr/bin/true /bin/true; do
  cat >/try.conf <<CONF
global_defs {
  vrrp_version 3
  script_user root
  enable_script_security
}
vrrp_script alive {
  script "$program"
  interval 1
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
  track_script {
    alive
  }
  virtual_ipaddress {
    192.0.2.7/32 dev lan0
  }
}
CONF
  status=0
  keepalived --config-test --use-file /try.conf --log-console >/said 2>&1 || status=$?
  echo "$program: exit status $status"
  grep -ho 'Disabling track script alive due to insecure' /said || true
done
END

mmdebstrap --quiet --variant=apt --include=keepalived trixie "$work/root"
cp "$work/inside" "$work/root/inside"
# In a network namespace of its own, for keepalived wants a link that is there
unshare --net sh -eu -c '
  ip link add name lan0 type veth peer name lan1
  ip address add 192.0.2.1/24 dev lan0
  ip link set dev lan0 up
  exec chroot "$1" sh /inside
' sh "$work/root" >"$work/seen" 2>"$work/errors" || {
  cat "$work/seen" "$work/errors" >&2; exit 2
}
cat "$work/seen"
cat >"$work/expected" <<'END'
/usr/bin/true: exit status 0
/bin/true: exit status 5
Disabling track script alive due to insecure
END
sed 1d "$work/seen" | cmp -s - "$work/expected" ||
  { echo "that has changed" >&2; exit 1; }
