"""The head of each script that changes a node: who may see it, one at a time, nothing half-done.

The folders that root works in are made here and nowhere else. Whatever a script writes is root's
alone (umask 077) unless it says otherwise.
"""

from __future__ import annotations

from chaos_engine.facts.manifest import DIRECTORY, STAGED
from chaos_engine.facts.observe import LOCK, LOCK_SECONDS, PATH
from chaos_engine.facts.observe.progress import TELL
from chaos_engine.facts.share import TARGET
from chaos_engine.facts.systemd import RECORDS

PRELUDE = f"""\
set -eu; umask 077
export PATH={PATH} LC_ALL=C
mkdir -p {RECORDS}; chmod 700 {RECORDS}
{TELL}
exec 9>>{LOCK}; chmod 600 {LOCK}
flock -n 9 || {{
  tell 'waiting for an earlier run that is still at work on this node, at most {LOCK_SECONDS} s'
  flock -w {LOCK_SECONDS} 9
}} || {{
  echo 'an earlier run is still at work on this node, lslocks tells which process; wait for it,' \\
    'or end it, and run again' >&2
  exit 1
}}
case $(sync --version) in
  *uutils* | *" 0."*) # its sync FILE is sync(2): all file systems, one that does not answer too
    sync() {{ if [ "$1" = -f ]; then shift; fi; command sync -f "$@"; }}
    ;;
esac
durable() {{ # wait until all that was written is on the card, on each of the node's disks
  tell 'waiting until all that was written is on the card'
  awk '{{
    at = $5; disk = $3; sub(/.* - /, ""); split($0, what, " ")
    # anybody may have mounted that, and call it a disk; what is below it is reached through it,
    # as what is below NFS is, whose server may be away
    if (what[1] ~ "^(fuse|nfs)") {{ users[at "/"]; next }}
    if (what[2] ~ "^/dev/" || at == "/") {{ where[++n] = at; disks[n] = disk }}
  }}
  END {{
    for (i = 1; i <= n; i++) {{
      hidden = seen[disks[i]]
      for (above in users) if (index(where[i], above) == 1) hidden = 1
      if (!hidden) {{ seen[disks[i]] = 1; print where[i] }}
    }}
  }}' /proc/self/mountinfo | while read -r at; do
    at=$(printf %b. "$at") at=${{at%.}} # a space in a path is \\040 there; it may end with \\012
    [ ! -e "$at" ] || sync -f "$at" # it may be covered by another mount
  done
}}
jot() {{ # FILE LINE...: add lines to a file of ours, on the card
  mkdir -p {DIRECTORY}
  jotted=$1; shift
  printf '%s\\n' "$@" 2>/dev/null >>"$jotted" && sync -- "$jotted" {DIRECTORY} || {{
    echo "cannot write $jotted: No space left on device, or read-only" >&2; return 1
  }}
}}
staging() {{ # PATH...: note the files that will wait beside their places, for a later run to remove
  jot {STAGED} "$@"
}}
clear_staging() {{ # remove what a run that was cut short has left
  [ -d {DIRECTORY} ] || return 0
  chmod 700 {DIRECTORY}
  if [ -s {STAGED} ]; then
    while read -r path; do # a line that was cut short names something else
      case $path in
        {TARGET}/*) ;; # others may write there by now, or it hangs
        */.*.chaos | *.chaos-old) rm -f -- "$path" ;;
      esac
    done <{STAGED}
  fi
  rm -f -- {STAGED}
  find {DIRECTORY} -name '*.chaos-new' -prune -exec rm -rf -- {{}} +
}}
clear_staging
"""
"""Who ends a run ends pyinfra: its last command goes on without it, and would undo the next run's
work, or take its files. The lock is the shell's, open as descriptor 9, and gone with it however it
ends; what starts a daemon by itself has to close it.

The lock's folder is root's alone, so that nobody else can hold the lock and stop every run.

`durable` asks each disk once (syncfs(2)), the root file system whatever it is on: a network file
system that does not answer would hold it for ever."""
