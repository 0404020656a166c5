"""What a node remembers of the packages that were removed, so that it can be undone."""

from chaos_engine.facts.manifest import DIRECTORY

KEPT = f"{DIRECTORY}/packages"
"""The ``.deb`` of each removed package that no archive offered any more."""

REMEMBER = f"""\
umask 022; (umask 077; mkdir -p {KEPT}; rm -rf -- {KEPT}/new.*)
record() {{ # NAME: note once what it was, and keep it if it cannot be had again
  [ -z "$(noted removed "$1" "$concern")" ] || return 0
  version=$(dpkg-query -W -f '${{Version}}' "$1") mark=manual held=-
  if apt-mark showhold | grep -qxF -- "$1"; then held=hold; fi
  if apt-mark showauto "$1" | grep -q .; then mark=auto; fi
  if ! offered "$1"; then
    test -n "${{refreshed-}}" || refresh || true
    refreshed=yes
    offered "$1" || repack "$1"
  fi
  note removed "$version $mark $held" "$1"
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
