# Head of each script that changes a node.
#
# Only root can read what a script writes, unless the script gives it other rights. The folders that
# root works in are made here and nowhere else.
set -eu; umask 077
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

# Where this package keeps its files, and where the log share is mounted. Python has the same names
# in facts/manifest.py, facts/repairs.py, facts/systemd.py, facts/share.py and facts/observe.
# shellcheck disable=SC2034 # no script uses all of them
{
  STATE_DIR=/var/lib/chaos-engine RUN_DIR=/run/chaos-engine LOG_SHARE=/var/log
  MANIFEST=$STATE_DIR/manifest ORIGINALS=$STATE_DIR/originals WRITTEN=$STATE_DIR/written
  ASIDE=$STATE_DIR/aside REPAIRS=$STATE_DIR/repairs STAGED=$STATE_DIR/staged
  REPACKED=$STATE_DIR/packages CHANGING=$STATE_DIR/packages-changing
  LOCK=$RUN_DIR/lock LOCK_SECONDS=600
}

# tell WHAT: print what is done now, for the lines of progress of the run. If it ends with ", at
# most N s", the run shows this limit too.
tell() {
  printf '%s\n' "chaos-engine: $*"
}

# An interrupted run can leave its last command running, which would then undo the work of the next
# run, or remove its files. So each script holds a lock, by descriptor 9 of its shell, until the
# shell ends. A command that starts a daemon by itself has to close the descriptor (9>&-).
mkdir -p "$RUN_DIR"; chmod 700 "$RUN_DIR"
exec 9>>"$LOCK"; chmod 600 "$LOCK"
flock -n 9 || {
  tell "waiting for an earlier run that is still at work on this node, at most $LOCK_SECONDS s"
  flock -w "$LOCK_SECONDS" 9
} || {
  echo 'an earlier run is still at work on this node, lslocks tells which process; wait for it,' \
    'or end it, and run again' >&2
  exit 1
}

# With uutils, sync FILE calls sync(2), which waits for all file systems, even for a network file
# system that never answers. sync -f FILE waits for the file's own.
case $(sync --version) in
  *uutils* | *" 0."*)
    sync() { if [ "$1" = -f ]; then shift; fi; command sync -f "$@"; }
    ;;
esac

# durable: wait until everything that was written is on the card, on each of the node's disks.
#
# Each disk is synchronised once, by syncfs(2), and the root file system even if it is on no disk.
# FUSE and NFS are left out, since a server that does not answer would block this for ever. Mounts
# below them are left out too, because their paths lead through them. Users may mount a FUSE file
# system under the name of a disk, so the type counts.
durable() {
  tell 'waiting until all that was written is on the card'
  awk '{
    at = $5; disk = $3; sub(/.* - /, ""); split($0, what, " ")
    if (what[1] ~ "^(fuse|nfs)") { users[at "/"]; next }
    if (what[2] ~ "^/dev/" || at == "/") { where[++n] = at; disks[n] = disk }
  }
  END {
    for (i = 1; i <= n; i++) {
      hidden = seen[disks[i]]
      for (above in users) if (index(where[i], above) == 1) hidden = 1
      if (!hidden) { seen[disks[i]] = 1; print where[i] }
    }
  }' /proc/self/mountinfo | while read -r at; do
    # the kernel writes a space as \040. The dot keeps a line break at the end of the path
    at=$(printf %b. "$at") at=${at%.}
    # another mount may hide the path
    [ ! -e "$at" ] || sync -f "$at"
  done
}

# jot FILE LINE...: append lines to a file of this package, and wait until they are on the card.
jot() {
  mkdir -p "$STATE_DIR"
  jotted=$1; shift
  { printf '%s\n' "$@" 2>/dev/null >>"$jotted" && sync -- "$jotted" "$STATE_DIR"; } || {
    echo "cannot write $jotted: No space left on device, or read-only" >&2; return 1
  }
}

# unpack: unpack the archive of new files on the standard input. Only root can read these.
unpack() {
  base64 -d | tar -C / -xzmf - --no-same-owner --no-same-permissions
}

# copy_rights FROM TO: give a file the owner, mode, ACL and extended attributes of another one.
copy_rights() {
  cp -a --attributes-only --no-preserve=timestamps -- "$1" "$2"
}

# staging PATH...: note the paths of files that will be staged, so that a later run removes what an
# interruption leaves of them.
staging() {
  jot "$STAGED" "$@"
}

# clear_staging: remove the staged files that an interrupted run has left.
clear_staging() {
  [ -d "$STATE_DIR" ] || return 0
  chmod 700 "$STATE_DIR"
  if [ -s "$STAGED" ]; then
    # only names of staged files are removed: a line that was cut short may name another file
    while read -r path; do
      case $path in
        # others can write to the log share, and the share may hang
        "$LOG_SHARE"/*) ;;
        */.*.chaos | *.chaos-old) rm -f -- "$path" ;;
      esac
    done <"$STAGED"
  fi
  rm -f -- "$STAGED"
  find "$STATE_DIR" -name '*.chaos-new' -prune -exec rm -rf -- {} +
}
clear_staging
