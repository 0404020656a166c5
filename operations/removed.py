"""What a node remembers of the packages that were removed, so that it can be undone."""

from chaos_engine.operations.originals import DIRECTORY

RECORD = f"{DIRECTORY}/packages-removed"
"""A line a package, once: its name, version, and whether it was marked manual or auto."""

KEPT = f"{DIRECTORY}/packages"
"""The ``.deb`` of each removed package that no archive offered any more."""

MARKED = f"{DIRECTORY}/packages-marked-manual"
"""The packages that were marked manual, so that ``apt autoremove`` does not take them."""

REMEMBER = f"""\
umask 022; (umask 077; mkdir -p {KEPT}; rm -rf -- {KEPT}/new.*; : >> {RECORD})
record() {{ # NAME: note once what it was, and keep it if it cannot be had again
  if awk '{{ print $1 }}' {RECORD} | grep -qxF -- "$1"; then return 0; fi
  version=$(dpkg-query -W -f '${{Version}}' "$1") mark=manual
  if apt-mark showauto "$1" | grep -q .; then mark=auto; fi
  if ! offered "$1"; then
    test -n "${{refreshed-}}" || refresh || true
    refreshed=yes
    offered "$1" || repack "$1"
  fi
  echo "$1 $version $mark" >> {RECORD}
}}
offered() {{ apt-cache madison "$1" | grep -q .; }}
repack() {{ # NAME: an installed package's .deb again, as dpkg-repack(1) makes it
  new=$(mktemp -d {KEPT}/new.XXXXXX); chmod 755 "$new"; mkdir -m 755 "$new/DEBIAN"
  dpkg-query -L "$1" | while IFS= read -r path; do
    case $path in
      /.) ;;
      /*) if [ -e "$path" ] || [ -L "$path" ]; then echo "${{path#/}}"; fi ;;
    esac
  done | tar -C / -cf - --no-recursion -T - | tar -C "$new" -xpf -
  dpkg-query -s "$1" | awk '/^[^ ]/ {{ skip = /^(Status|Conffiles|Config-Version):/ }} !skip' \\
    > "$new/DEBIAN/control"
  dpkg-query -W -f '${{Conffiles}}\\n' "$1" | awk 'NF == 2 {{ print $1 }}' | while read -r path; do
    if [ -e "$path" ]; then echo "$path"; fi
  done > "$new/DEBIAN/conffiles"
  for part in preinst postinst prerm postrm config templates triggers shlibs symbols; do
    file=$(dpkg-query --control-path "$1" $part)
    if [ -n "$file" ]; then cp -p -- "$file" "$new/DEBIAN/$part"; fi
  done
  chmod 644 "$new/DEBIAN/control" "$new/DEBIAN/conffiles"
  dpkg-deb -Zgzip -b "$new" "{KEPT}/$1.deb" >/dev/null
  sync -- "{KEPT}/$1.deb"; rm -rf -- "$new"
}}
"""
"""Shell function ``record NAME``, for a script that begins with `apt.APT`."""
