# Head of each script that changes a node.
#
# Everything that a script writes is readable by root only, unless the script says otherwise. The
# folders that root works in are made here and nowhere else.
set -eu; umask 077
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

# Where this package keeps its files, and where the log share is mounted. Python has the same names
# in facts/manifest.py, facts/repairs.py, facts/systemd.py, facts/share.py and facts/observe.
# shellcheck disable=SC2034 # no script uses all of them
{
  STATE_DIR=/var/lib/chaos-engine RUN_DIR=/run/chaos-engine LOG_SHARE=/var/log
  MANIFEST=$STATE_DIR/manifest ORIGINALS=$STATE_DIR/originals WRITTEN=$STATE_DIR/written
  ASIDE=$STATE_DIR/aside REPAIRS=$STATE_DIR/repairs STAGED=$STATE_DIR/staged
  KEPT=$STATE_DIR/packages CHANGING=$STATE_DIR/packages-changing
  LOCK=$RUN_DIR/lock LOCK_SECONDS=600
}

# tell WHAT: say what is done now. ", at most N s" at its end says how long that may take.
tell() {
  printf '%s\n' "chaos-engine: $*"
}

# An interrupted run can leave its last command running. That would undo the work of the next run,
# or remove its files. The lock is open as descriptor 9 of the shell and ends with the shell. What
# starts a daemon by itself has to close it.
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

# In uutils, sync FILE is sync(2): it waits for all file systems, also for one that never answers.
case $(sync --version) in
  *uutils* | *" 0."*)
    sync() { if [ "$1" = -f ]; then shift; fi; command sync -f "$@"; }
    ;;
esac

# durable: wait until everything that was written is on the card, on each of the node's disks.
#
# Each disk is synchronised once, by syncfs(2), and the root file system whatever it is on. A
# network file system that does not answer would block this for ever, so none is asked. Users can
# mount a FUSE file system and call it a disk, and what is mounted below one is reached through it;
# NFS is the same, because its server may be away.
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
    # a space in a path is \040 there. The path may end with \012
    at=$(printf %b. "$at") at=${at%.}
    # it may be covered by another mount
    [ ! -e "$at" ] || sync -f "$at"
  done
}

# jot FILE LINE...: add lines to a file of this package, and wait until they are on the card.
jot() {
  mkdir -p "$STATE_DIR"
  jotted=$1; shift
  { printf '%s\n' "$@" 2>/dev/null >>"$jotted" && sync -- "$jotted" "$STATE_DIR"; } || {
    echo "cannot write $jotted: No space left on device, or read-only" >&2; return 1
  }
}

# unpack: unpack the archive on the standard input, with the rights that it names for each file.
unpack() {
  base64 -d | tar -C / -xzmf - --no-same-owner --no-same-permissions
}

# copy_rights FROM TO: give a file the owner, mode, ACL and extended attributes of another one.
copy_rights() {
  cp -a --attributes-only --no-preserve=timestamps -- "$1" "$2"
}

# staging PATH...: note the files that will wait beside their places, for a later run to remove.
staging() {
  jot "$STAGED" "$@"
}

# clear_staging: remove what an interrupted run has left.
clear_staging() {
  [ -d "$STATE_DIR" ] || return 0
  chmod 700 "$STATE_DIR"
  if [ -s "$STAGED" ]; then
    # a line that was cut short names something else
    while read -r path; do
      case $path in
        # others may write there by now, or it hangs
        "$LOG_SHARE"/*) ;;
        */.*.chaos | *.chaos-old) rm -f -- "$path" ;;
      esac
    done <"$STAGED"
  fi
  rm -f -- "$STAGED"
  find "$STATE_DIR" -name '*.chaos-new' -prune -exec rm -rf -- {} +
}
clear_staging
