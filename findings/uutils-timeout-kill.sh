#!/bin/sh
# timeout of uutils coreutils says 125 where GNU's says 124, and does not send KILL to a group.
#
# Version:   rust-coreutils 0.0.30-2 (Debian 13); GNU coreutils 9.7 beside it
# Expected:  as GNU's: `timeout -k 1 0.5 COMMAND` ends with 124 if TERM was enough, with 137 after
#            1.5 s if not; `timeout -s KILL 0.5 COMMAND` ends with 137 after 0.5 s
# Seen:      125 if TERM was enough; KILL is not sent, so the command runs to its end. By the source,
#            125 is gone with 0.6.0. In 0.12.0 (Debian testing) KILL reaches the command, not its
#            children, and -s KILL says 124
# So:        125 counts as too late too, and what a script means by 125 has another number; TERM comes
#            before KILL, and its target is a shell that does not catch it
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C
mmdebstrap --quiet --variant=apt --include=rust-coreutils=0.0.30-2 trixie "$work/root"

cat >"$work/root/inside" <<'END'
try() { # NAME COMMAND...: its status, and whether the command ran to its end
  name=$1; shift
  rm -f /ended
  "$@" >/dev/null 2>&1 && status=0 || status=$?
  [ -e /ended ] && end="ran to its end" || end="was ended"
  echo "$name: status $status, $end"
}
uutils=/usr/lib/cargo/bin/coreutils/timeout
stubborn='trap "" TERM; sleep 3; touch /ended'
for one in /usr/bin/timeout $uutils; do
  case $one in $uutils) who=uutils ;; *) who=GNU ;; esac
  try "$who -k, TERM is enough" $one -k 0.5 0.5 sh -c 'sleep 3; touch /ended'
  try "$who -k, KILL is needed" $one -k 0.5 0.5 sh -c "$stubborn"
  try "$who -s KILL" $one -s KILL 0.5 sh -c 'sleep 3; touch /ended'
done
END
chroot "$work/root" sh /inside >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
GNU -k, TERM is enough: status 124, was ended
GNU -k, KILL is needed: status 137, was ended
GNU -s KILL: status 137, was ended
uutils -k, TERM is enough: status 125, was ended
uutils -k, KILL is needed: status 137, ran to its end
uutils -s KILL: status 124, ran to its end
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
