#!/bin/sh
# dpkg removes a link that stands in place of a package's empty folder when the package goes.
#
# Version:   dpkg 1.21.22 (Debian 12), 1.22 (Debian 13); dpkg-deb beside it
# Expected:  a link to a folder that its owner made, such as /etc/docker into a folder of dotfiles,
#            is left alone, as it is when the package comes
# Seen:      it is left when the package is installed, and gone when that is purged
# So:        undo makes links in place of the folders of packages again that it removes
# Needs:     root
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C
mkdir -p "$work/package/DEBIAN" "$work/package/etc/finding" "$work/root/etc/dotfiles" \
  "$work/root/var/lib/dpkg/info" "$work/root/var/lib/dpkg/updates"
: >"$work/root/var/lib/dpkg/status"
cat >"$work/package/DEBIAN/control" <<'END'
Package: finding
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: an empty folder
END
dpkg-deb --build "$work/package" "$work/package.deb" >/dev/null
ln -s dotfiles "$work/root/etc/finding"
say() { # WHEN
  printf '%s: %s\n' "$1" "$(readlink "$work/root/etc/finding" || echo no link)"
}
{
  say before
  dpkg --root="$work/root" -i "$work/package.deb" >/dev/null 2>&1
  say installed
  dpkg --root="$work/root" --purge finding >/dev/null 2>&1
  say purged
} >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
before: dotfiles
installed: dotfiles
purged: no link
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
