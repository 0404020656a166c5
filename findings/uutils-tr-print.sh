#!/bin/sh
# tr of uutils coreutils 0.0.30 has the classes print and graph the wrong way round.
#
# Version:   rust-coreutils 0.0.30-2 (Debian 13); GNU coreutils 9.7 beside it
# Expected:  `tr -cd '[:print:]'` keeps what can be printed, the space too (isprint(3), POSIX)
# Seen:      words run together; graph keeps the space instead, which it must not. With 0.12.0
#            (Debian testing) print keeps it
# So:        a text is made fit for a terminal by the range ' -~'
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C
mmdebstrap --quiet --variant=apt --include=rust-coreutils=0.0.30-2 trixie "$work/root"

cat >"$work/root/inside" <<'END'
uutils=/usr/lib/cargo/bin/coreutils/tr
for class in print graph space punct; do
  for one in /usr/bin/tr $uutils; do
    case $one in $uutils) who=uutils ;; *) who=GNU ;; esac
    printf '%s, %s keeps: "%s"\n' "$who" "$class" "$(printf 'a b!' | $one -cd "[:$class:]")"
  done
done
END
chroot "$work/root" sh /inside >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
GNU, print keeps: "a b!"
uutils, print keeps: "ab!"
GNU, graph keeps: "ab!"
uutils, graph keeps: "a b!"
GNU, space keeps: " "
uutils, space keeps: " "
GNU, punct keeps: "!"
uutils, punct keeps: "!"
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
