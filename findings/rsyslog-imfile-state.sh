#!/bin/sh
# rsyslog's imfile keeps a state file of each log that was renamed, also after the log is removed.
#
# Version:   rsyslog 8.2302 (Debian 12) and 8.2504 (Debian 13)
# Input:     a log that is rotated as Docker does it: the oldest file is removed, the log is
#            renamed, and a new one is begun; imfile reads `*.log` in inotify mode
# Expected:  that imfile forgets a renamed file at the latest when it is removed, so that the number
#            of its state files stays that of the logs
# Seen:      a state file more for each rotation, until rsyslogd ends and after it
# So:        on a node with a chatty container the state, which lies in RAM, would grow for ever;
#            the program that names the containers removes old state files
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

cat >"$work/inside" <<'END'
set -eu
mkdir -p /try/logs /try/state
cd /try
cat >conf <<'CONF'
global(workDirectory="/try/state")
module(load="imfile" mode="inotify")
ruleset(name="out") { action(type="omfile" file="/try/out" template="RSYSLOG_FileFormat") }
input(type="imfile" file="/try/logs/*.log" tag="try" ruleset="out" persistStateInterval="1")
CONF
rsyslogd -v | head -n 1 | cut -d ' ' -f 1-3
await() { # TEXT: wait until the text has arrived
  tries=300
  until grep -qs "$1\$" out; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { echo "line '$1' did not arrive" >&2; exit 2; }
    sleep 0.1
  done
}
begin() { # NUMBER: begin a log; imfile knows files by inode and by their first 512 bytes
  printf 'line %s begins %0600d line %s\n' "$1" 0 "$1" >logs/a.log
}
begin 0
rsyslogd -n -f conf -i /try/pid &
trap 'kill $!; wait $!' EXIT
await "line 0"
for number in 1 2 3 4 5 6 7 8 9 10; do
  rm -f logs/a.log.1
  mv logs/a.log logs/a.log.1
  begin "$number"
  await "line $number"
done
count() { find state -name 'imfile-state:*' | wc -l; }
echo "logs: $(echo $(ls logs))"
[ "$(count)" -ge 10 ] && echo "rotated ten times: ten state files or more"
rm logs/a.log.1
kill $!
wait $! || :
trap - EXIT
[ "$(count)" -ge 10 ] && echo "after its end: ten state files or more"
END

failed=
for suite in bookworm trixie; do
  mmdebstrap --quiet --variant=apt --include=rsyslog "$suite" "$work/$suite"
  cp "$work/inside" "$work/$suite/inside"
  chroot "$work/$suite" sh /inside >"$work/seen" 2>"$work/errors" || {
    cat "$work/seen" "$work/errors" >&2; exit 2
  }
  sed "s/^/$suite: /" "$work/seen"
  cat >"$work/expected" <<'END'
logs: a.log a.log.1
rotated ten times: ten state files or more
after its end: ten state files or more
END
  sed 1d "$work/seen" | cmp -s - "$work/expected" || failed=yes
done
[ -z "$failed" ] || { echo "that has changed" >&2; exit 1; }
