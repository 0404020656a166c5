#!/bin/sh
# mount -o remount,relatime leaves a file system at noatime up to util-linux 2.38, and succeeds.
#
# Version:   util-linux 2.38.1 (Debian 12) and 2.41 (Debian 13), on one kernel
# Input:     a tmpfs without an entry in fstab, mounted with noatime
# Expected:  that an option on the command line wins over one that the mount has already, as
#            mount(8) says of duplicate options, and that all releases do the same
# Seen:      2.38 takes noatime from the mount's present options, gives both to the kernel, and the
#            kernel prefers noatime; "noatime,relatime" on one line ends the same way, and so does
#            nodiratime,relatime. 2.41 ends with relatime in each case. Both exit with 0
# So:        what undoes noatime restores the entry in fstab first, from which mount takes its options
#            then, and looks at /proc/self/mountinfo afterwards (templates/shell/remount.sh)
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

cat >"$work/inside" <<'END'
set -eu
: >/etc/fstab
for options in relatime noatime,relatime nodiratime,relatime; do
  mount -t tmpfs -o noatime,size=1m small /mnt
  mount -o "remount,$options" /mnt
  echo "remount,$options: $(findmnt --noheadings --output OPTIONS /mnt)"
  umount /mnt
done
END

for suite in bookworm trixie; do
  mmdebstrap --quiet --variant=apt --include=mount "$suite" "$work/$suite"
  cp "$work/inside" "$work/$suite/inside"
  # /proc and the file system are gone with the name space
  unshare --mount sh -c 'mount -t proc proc "$1/proc" && chroot "$1" sh /inside' sh \
    "$work/$suite" | sed "s/^/$suite: /"
done >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
bookworm: remount,relatime: rw,noatime,size=1024k
bookworm: remount,noatime,relatime: rw,noatime,size=1024k
bookworm: remount,nodiratime,relatime: rw,noatime,nodiratime,size=1024k
trixie: remount,relatime: rw,relatime,size=1024k
trixie: remount,noatime,relatime: rw,relatime,size=1024k
trixie: remount,nodiratime,relatime: rw,nodiratime,relatime,size=1024k
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
