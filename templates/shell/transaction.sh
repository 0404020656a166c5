# Put new files in place, restore the old ones if something fails, and act on units, for
# operations/files.
#
# Needs the functions of prelude.sh and originals.sh. $stage is a folder in RAM. $reload is the
# command that has systemd read its files again, or ":". The script that follows defines
# restore_files, which calls `restore` for each file.

# expose PATH STAGED: copy a staged file below $stage by its full path, for the check.
expose() {
  mkdir -p -- "$stage${1%/*}"
  cp -- "$2" "$stage$1"
}

# check_new COMMAND [secret]: run a command that checks the new files, and end the script if it
# fails. With "secret", the output of the command is not shown.
check_new() {
  # not as a condition of `if`: there `set -e` is off, also in a subshell
  set +e; ( set -e; eval "$1" ) >"$stage/.log" 2>&1 </dev/null
  status=$?; set -e
  [ "$status" != 0 ] || return 0
  echo "the new files were refused by: $1" >&2
  [ "${2-}" = secret ] || tail -n 5 "$stage/.log" >&2
  exit 1
}

# save PATH COPY: copy the old file, if there is one.
save() {
  [ -e "$1" ] || [ -L "$1" ] || return 0
  cp -a -- "$1" "$2"
}

# restore COPY PATH STAGED: restore a file from the copy that `save` made, staged at STAGED. If
# there is no copy, remove the file.
restore() {
  if [ -e "$1" ] || [ -L "$1" ]; then
    { cp -a -- "$1" "$3" && synced "$3" && mv -fT -- "$3" "$2"; } || :
  else rm -f -- "$2" || :; fi
}

# await ACTION UNIT: print that the script waits for a unit, and let systemd forget the unit's
# earlier failures.
await() {
  systemctl reset-failed -- "$2" 2>/dev/null || true
  tell "waiting for the $1 of $2"
}

# last_lines UNIT: print the last lines of a unit's journal.
last_lines() {
  unit=$1; shift
  # if there is a journal in RAM, only that is read: others may write to /var/log/journal
  [ ! -d /run/log/journal ] || set -- -D /run/log/journal
  journalctl --sync 2>/dev/null || true
  journalctl -q --no-pager -o cat -n 8 "$@" -u "$unit" >&2 2>/dev/null || true
}

# give_up ACTION UNIT [DONE...]: end the script because a unit failed with the new files. Before
# that, restore the old files, restart those units of DONE that are running, and repeat the action.
# The script has acted on the units DONE before, so they may run with the new files.
give_up() {
  last_lines "$2"
  restore_files
  $reload
  action=$1 failed=$2; shift 2
  systemctl reset-failed -- "$failed" 2>/dev/null || true
  [ $# -eq 0 ] || systemctl try-restart -- "$@" || true
  systemctl "$action" -- "$failed" ||
    echo "$failed does not $action with the old files either" >&2
  echo "$failed did not $action with the new files, so the old files were restored" >&2
  exit 1
}

# enable_missing UNIT...: enable the units that are not enabled yet.
#
# apt may just have enabled a unit. Enabling it again would take seconds if the unit also has a
# script in /etc/init.d.
enable_missing() {
  for unit in "$@"; do
    shift
    systemctl is-enabled --quiet -- "$unit" || set -- "$@" "$unit"
  done
  [ $# -eq 0 ] || systemctl enable -- "$@"
}
