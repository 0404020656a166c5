#!/bin/sh
# apt-get install leaves a package that dpkg was interrupted with as it is, and exits 0.
#
# Version:   apt 2.6 (Debian 12) and 3.0 (Debian 13)
# Input:     a package in the state that dpkg notes before it unpacks: "reinstreq half-installed",
#            shown as iHR by dpkg -l, and kept if the power fails then
# Expected:  that apt-get install NAME, or apt-get -f install, installs it, or fails
# Seen:      "two is already the newest version (1)", "1 not fully installed or removed", exit
#            status 0, and it stays iHR; so does apt-get -f install. apt-get install --reinstall
#            repairs it
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

cat >"$work/inside" <<'END'
set -eu
export DEBIAN_FRONTEND=noninteractive
mkdir -p /try/package/DEBIAN /try/package/usr/share/two /try/archive
cd /try
cat >package/DEBIAN/control <<'CONTROL'
Package: two
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: a file
CONTROL
echo data >package/usr/share/two/data
dpkg-deb -b --root-owner-group package archive/two_1_all.deb >/dev/null
cd archive
{
  dpkg-deb -f two_1_all.deb
  echo "Filename: ./two_1_all.deb"
  echo "Size: $(stat -c %s two_1_all.deb)"
  echo "SHA256: $(sha256sum two_1_all.deb | cut -d ' ' -f 1)"
} >Packages
rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/try/archive ./' >/etc/apt/sources.list
apt-get -qq update
apt-get -qq -y install two >/dev/null
# as dpkg leaves it when it does not come to the end
sed -i '/^Package: two$/,/^$/s/^Status: .*/Status: install reinstreq half-installed/' \
  /var/lib/dpkg/status
rm /usr/share/two/data
state() { dpkg -l two | tail -n 1 | cut -d ' ' -f 1; }
try() { # ARGUMENTS of apt-get
  status=0
  apt-get -y "$@" >/try/said 2>&1 || status=$?
  echo "apt-get $*: exit status $status, then $(state)"
}
[ "$(state)" = iHR ]
apt-get --version | head -n 1
try install two
grep -h 'newest version\|not fully' /try/said
try -f install
try install --reinstall two
[ -s /usr/share/two/data ]
END

failed=
for suite in bookworm trixie; do
  mmdebstrap --quiet --variant=apt "$suite" "$work/$suite"
  cp "$work/inside" "$work/$suite/inside"
  chroot "$work/$suite" sh /inside >"$work/seen" 2>"$work/errors" || {
    cat "$work/errors" >&2; exit 2
  }
  sed "s/^/$suite: /" "$work/seen"
  cat >"$work/expected" <<'END'
apt-get install two: exit status 0, then iHR
two is already the newest version (1).
1 not fully installed or removed.
apt-get -f install: exit status 0, then iHR
apt-get install --reinstall two: exit status 0, then ii
END
  sed 1d "$work/seen" | cmp -s - "$work/expected" || failed=yes
done
[ -z "$failed" ] || { echo "that has changed" >&2; exit 1; }
