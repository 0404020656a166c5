#!/bin/sh
# dpkg synchronises each file that it unpacks before it renames it into place, but no conffile.
#
# Version:   dpkg 1.21.22 or 1.21.23 (Debian 12), with --refuse-unsafe-io, its default
# Expected:  fsync of all that is unpacked, or of nothing
# Seen:      DATA.dpkg-new   fsync, then rename
#            CONF.dpkg-new   written at unpacking; renamed at configuring, never fsync'ed
# So:        a power cut soon after dpkg has reported success may leave an empty or missing conffile
#            of a package that counts as installed: dpkg --verify shows it
# Needs:     root, strace, dpkg
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C
cd "$work"

apt-get download -qq dpkg=1.21.22 2>/dev/null || apt-get download -qq dpkg=1.21.23 2>/dev/null || {
  echo "neither dpkg 1.21.22 nor 1.21.23 is in the archive of this machine" >&2; exit 2
}
dpkg-deb -x dpkg_*.deb program
echo "version: $(program/usr/bin/dpkg --version | head -n 1)"

mkdir -p package/DEBIAN package/etc package/usr/share/two
cat >package/DEBIAN/control <<'END'
Package: two
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: a conffile and a file
END
echo /etc/two.conf >package/DEBIAN/conffiles
echo conf >package/etc/two.conf
echo data >package/usr/share/two/data
dpkg-deb -b --root-owner-group package two.deb >/dev/null
mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates
: >root/var/lib/dpkg/status

PATH=$work/program/usr/bin:$PATH strace -f -y -o trace -e trace=fsync,fdatasync,sync,syncfs,rename \
  program/usr/bin/dpkg --root="$work/root" --refuse-unsafe-io -i two.deb >/dev/null 2>&1
[ -s root/etc/two.conf ] && [ -s root/usr/share/two/data ]

synchronised() { # NAME
  grep -Ec "(fsync|fdatasync)\(.*/$1(\.dpkg-new)?>\)" trace || true
}
data=$(synchronised data) conf=$(synchronised two.conf)
all=$(grep -Ec '[0-9] (sync|syncfs)\(' trace || true)
grep -E '(two\.conf|two/data)' trace | grep -E 'sync|rename' | sed "s|$work/root||g; s/^[0-9]* */seen: /"
echo "seen: synchronised: data $data times, conffile $conf times, everything $all times"
[ "$data" -ge 1 ] && [ "$conf" = 0 ] && [ "$all" = 0 ] || { echo "that has changed" >&2; exit 1; }
