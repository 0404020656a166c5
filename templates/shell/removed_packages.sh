# Note the packages that a script is about to remove, so that undo can install them again.
#
# Needs the functions of prelude.sh, originals.sh and apt.sh.
mkdir -p "$REPACKED"

# record NAME...: note version and marks of installed packages, and keep a copy of those that no
# archive offers.
record() {
  held=$(apart apt-mark showhold) auto=$(apart apt-mark showauto)
  available=$(offered "$@") refreshed=
  for one in $(dpkg-query -W -f '${Package}=${Version} ' "$@"); do
    name=${one%%=*} mark=manual holds=-
    [ -z "$(noted removed "$name" "$concern")" ] || continue
    if among "$name" "$held"; then holds=hold; fi
    if among "$name" "$auto"; then mark=auto; fi
    if [ -z "$refreshed" ] && ! among "$name" "$available"; then
      refresh || true
      refreshed=yes available=$(offered "$@")
    fi
    among "$name" "$available" || repack "$name"
    note removed "${one#*=} $mark $holds" "$name"
  done
}

# offered NAME...: print those of the packages that an archive offers.
offered() {
  apart apt-cache madison "$@" | cut -d '|' -f 1 | tr -d ' ' | sort -u
}

# repack NAME: rebuild the .deb of an installed package from its files, as dpkg-repack(1) does.
repack() {
  new=$(mktemp -d "$REPACKED/XXXXXX.chaos-new"); chmod 755 "$new"; mkdir -m 755 "$new/DEBIAN"
  dpkg-query -L "$1" | while IFS= read -r path; do
    case $path in
      /.) ;;
      /*) if [ -e "$path" ] || [ -L "$path" ]; then echo "${path#/}"; fi ;;
    esac
  done | tar -C / -cf - --no-recursion -T - | tar -C "$new" -xpf -
  dpkg-query -s "$1" | awk '/^[^ ]/ { skip = /^(Status|Conffiles|Config-Version):/ } !skip' \
    > "$new/DEBIAN/control"
  dpkg-query -W -f '${Conffiles}\n' "$1" | awk 'NF == 2 { print $1 }' | while read -r path; do
    if [ -e "$path" ]; then echo "$path"; fi
  done > "$new/DEBIAN/conffiles"
  for part in preinst postinst prerm postrm config templates triggers shlibs symbols; do
    file=$(dpkg-query --control-path "$1" $part)
    if [ -n "$file" ]; then cp -p -- "$file" "$new/DEBIAN/$part"; fi
  done
  chmod 644 "$new/DEBIAN/control" "$new/DEBIAN/conffiles"
  dpkg-deb -Zgzip -b "$new" "$REPACKED/$1.deb.chaos-new" >/dev/null
  sync -- "$REPACKED/$1.deb.chaos-new"; mv -fT -- "$REPACKED/$1.deb.chaos-new" "$REPACKED/$1.deb"
  sync -- "$REPACKED"; rm -rf -- "$new"
}
