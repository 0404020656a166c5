#!/bin/sh
# install of uutils coreutils takes no number for an owner unless a user has that number.
#
# Version:   rust-coreutils 0.0.30-2 (Debian 13); GNU coreutils 9.7 beside it
# Expected:  as GNU's: install -o 4242 FILE DEST makes DEST belong to 4242
# Seen:      GNU     exit status 0, the file belongs to 4242
#            uutils  "invalid user: '4242'", exit status 1, no file; a number that is some user's, as
#                    65534, and a name are taken
# So:        a container's user that the host does not know, as 99 of HAProxy's image, is given with
#            chown, which takes numbers in both
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C
mmdebstrap --quiet --variant=apt --include=rust-coreutils=0.0.30-2 trixie "$work/root"

cat >"$work/root/inside" <<'END'
echo x >/file
uutils=/usr/lib/cargo/bin/coreutils
try() { # NAME COMMAND...: what it says, its status, and whose the file is
  name=$1; shift
  rm -f /out
  said=$("$@" 2>&1) && status=0 || status=$?
  echo "$name: status $status, owner $(stat -c %u /out 2>/dev/null || echo none) ${said##*: invalid}"
}
dpkg-query -W coreutils rust-coreutils
try 'GNU install -o 4242' /usr/bin/install -o 4242 /file /out
try 'uutils install -o 4242' $uutils/install -o 4242 /file /out
try 'uutils install -o 65534' $uutils/install -o 65534 /file /out
try 'uutils install -o nobody' $uutils/install -o nobody /file /out
cp /file /other; $uutils/chown 4242 /other
echo "uutils chown 4242: owner $(stat -c %u /other)"
END
chroot "$work/root" sh /inside >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
GNU install -o 4242: status 0, owner 4242 
uutils install -o 4242: status 1, owner none  user: '4242'
uutils install -o 65534: status 0, owner 65534 
uutils install -o nobody: status 0, owner 65534 
uutils chown 4242: owner 4242
END
sed 1,2d "$work/seen" | cmp -s - "$work/expected" || { echo "that has changed" >&2; exit 1; }
