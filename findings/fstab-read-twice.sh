#!/bin/sh
# systemd-fstab-generator and libmount (mount -a, swapon -a, findmnt) do not read one fstab alike.
#
# Version:   systemd 257 and util-linux 2.41 (Debian 13); systemd 252 and util-linux 2.38 (Debian 12)
# Input:     an fstab with an end of line as Windows has it, and with an octal escape that is none of
#            a blank or a backslash
# Expected:  that boot, and mount -a or swapon -a by hand, do the same
# Seen:      a carriage return behind a line is no part of its last field for libmount, and is one for
#            systemd, which reads with getmntent(3): "swap\r" is no swap at boot, and is one for
#            swapon -a. \163 is an s for libmount alone
# So:        a line is for swap if either of them takes it for that (facts/fstab.py)
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

cat >"$work/inside" <<'END'
set -eu
printf '%s\n' '/plain none swap sw 0 0' '/octal none \163wap sw 0 0' >/etc/fstab
printf '/windows none swap\r\n' >>/etc/fstab
mkdir /units
# its debug output says what it has read, also in a container, where it makes no units for swap
SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console SYSTEMD_PROC_CMDLINE='' \
  /usr/lib/systemd/system-generators/systemd-fstab-generator /units /units /units 2>&1 |
  sed -n 's/^Found entry what=\([^ ]*\) where=none type=swap makefs.*/systemd takes for swap: \1/p
    s/^Found swap entry what=\([^ ]*\) makefs.*/systemd takes for swap: \1/p'
findmnt --fstab --noheadings --raw --output SOURCE,FSTYPE |
  sed -n 's/^\([^ ]*\) swap$/libmount takes for swap: \1/p'
END

failed=
for suite in bookworm trixie; do
  mmdebstrap --quiet --variant=apt --include=systemd,mount "$suite" "$work/$suite"
  cp "$work/inside" "$work/$suite/inside"
  # the generator wants /proc, which is gone with the name space
  unshare --mount sh -c 'mount -t proc proc "$1/proc" && chroot "$1" sh /inside' sh \
    "$work/$suite" >"$work/seen"
  sed "s/^/$suite: /" "$work/seen"
  cat >"$work/expected" <<'END'
systemd takes for swap: /plain
libmount takes for swap: /plain
libmount takes for swap: /octal
libmount takes for swap: /windows
END
  cmp -s "$work/seen" "$work/expected" || failed=yes
done
[ -z "$failed" ] || { echo "that has changed" >&2; exit 1; }
