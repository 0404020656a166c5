# Restore each thing that a concern has changed, for operations/undo.
#
# Needs the functions of prelude.sh, originals.sh and quietly.sh, and `confined` (facts/share.py).
# The functions for packages need those of apt.sh too. $SHARE_SECONDS and $SHARE_BLOCKS limit the
# work on the log share: its time, and the size of a file in blocks of 512 bytes.
#
# Three lists, one item a line. $left has "KIND NAME" of each thing that was given to `release`, and
# $postponed of each that was given to `postpone`. $not_ours has the paths of files on the log share
# that others have put there, and that stay.
left="" postponed="" not_ours=""

# release KIND NAME: have `forget` note that a thing belongs to no concern, because others need it.
release() {
  left="$left$1	$2
"
}

# postpone KIND NAME: have `forget` keep the concern's note of a thing that cannot be undone now.
postpone() {
  postponed="$postponed$1	$2
"
}

# set_aside PATH: copy a file into $ASIDE, because its content is neither ours nor the original.
set_aside() {
  kept=$ASIDE$1 new=$ASIDE$1.chaos-new
  mkdir -p -- "${kept%/*}"
  rm -rf -- "$new"
  case $1 in
    "$LOG_SHARE"/*)
      confined "$SHARE_SECONDS" "$LOG_SHARE" 'ulimit -f "$3"
        cp -dp -- "$1" "$2" && { [ -L "$2" ] || chmod a-s -- "$2"; }' \
        "$1" "$new" "$SHARE_BLOCKS" && [ -f "$new" ] && [ ! -L "$new" ] || {
        echo "$1 is not ours, and is no file that is small enough to be kept; it stays on the share"
        rm -rf -- "$new"
        not_ours="$not_ours$1
"
        return 0
      }
      ;;
    *) cp -a -- "$1" "$new" ;;
  esac
  [ ! -e "$kept" ] && [ ! -L "$kept" ] || {
    kept=$kept.$({ readlink -- "$new" || cat -- "$new"; } | sha256sum | cut -c 1-8)
    echo "$1 is kept as $kept"
  }
  synced "$new"; mv -fT -- "$new" "$kept"; sync -- "${kept%/*}"
}

# put_back PATH: put a file's original in place, by a rename.
put_back() {
  [ -e "$ORIGINALS$1" ] || [ -L "$ORIGINALS$1" ] || {
    echo "the original of $1 is not in $ORIGINALS any more; restore it by hand" >&2; return 1
  }
  case $1 in "$LOG_SHARE"/*) put_on_share "$1"; return ;; esac
  [ -d "$(dirname -- "$1")" ] || (umask 022; mkdir -p -- "$(dirname -- "$1")")
  new=$(dirname -- "$1")/.$(basename -- "$1").chaos
  staging "$new"; rm -f -- "$new"
  case $(stat -f -c %T -- "$(dirname -- "$1")") in
    # these file systems have no owners
    msdos | exfat) cp --preserve=timestamps -- "$ORIGINALS$1" "$new" ;;
    *) cp -a -- "$ORIGINALS$1" "$new" ;;
  esac
  synced "$new"
  mv -fT -- "$new" "$1"; sync -- "$(dirname -- "$1")"
}

# put_on_share PATH: put a file's original in place on the log share, where others can write.
put_on_share() {
  case $not_ours in *"$1
"*) return 0 ;; esac
  confined "$SHARE_SECONDS" "$LOG_SHARE" 'new=${1%/*}/.${1##*/}.chaos
    umask 022 && mkdir -p -- "${1%/*}" && rm -f -- "$new" && cp -dp -- "$2" "$new" &&
      { [ -L "$new" ] || chmod a-s -- "$new"; } &&
      [ ! -d "$1" ] && mv -fT -- "$new" "$1"' "$1" "$ORIGINALS$1" || {
    echo "$1 cannot be restored on the share; its original is kept in $ASIDE$1.original"
    mkdir -p -- "$ASIDE${1%/*}"
    mv -fT -- "$ORIGINALS$1" "$ASIDE$1.original"
  }
}

# briefly COMMAND...: run a command that may hang on a dead file system.
#
# No signal reaches a process that waits for a dead file system. So the command is the child of a
# shell, which timeout can end.
briefly() {
  timeout -k 1 "$SHARE_SECONDS" sh -c '"$@" </dev/null; exit $?' sh "$@" 9>&-
}

# run_at PATH SCRIPT: run a script with a path as its $1, for a limited time. For a path on the log
# share, the script follows no link.
run_at() {
  case $1 in
    "$LOG_SHARE"/*) confined "$SHARE_SECONDS" "$LOG_SHARE" "$2" "$1" ;;
    *) briefly sh -c "$2" sh "$1" ;;
  esac
}

# remove_file PATH: remove a file that this package has created.
remove_file() {
  case $not_ours in *"$1
"*) return 0 ;; esac
  case $1 in
    "$LOG_SHARE"/*)
      run_at "$1" 'rm -f -- "$1"' || echo "$1 cannot be removed; it stays on the share" ;;
    *) rm -f -- "$1" ;;
  esac
}

# empty_folder PATH: remove a folder that this package has created, if it is empty.
empty_folder() {
  run_at "$1" 'rmdir -- "$1"' 2>/dev/null || :
}

# drop_folder PATH: remove such a folder if it is empty, and release it if it is not.
drop_folder() {
  run_at "$1" 'rmdir -- "$1" 2>/dev/null || [ ! -d "$1" ]' || release folder "$1"
}

# wipe PATH: overwrite a file with a secret, then remove it.
#
# Before that, the file gets the name of a staged file. If the power is cut then, a later run removes
# the file, and does not take its overwritten content for a change by somebody else.
wipe() {
  gone=$(dirname -- "$1")/.$(basename -- "$1").chaos
  if [ -f "$1" ] && [ ! -L "$1" ]; then
    staging "$gone"
    mv -fT -- "$1" "$gone"; sync -- "$(dirname -- "$1")"
    shred -n 1 -- "$gone" 2>/dev/null || true
    rm -f -- "$gone"
  fi
  rm -f -- "$1"
}

# state UNIT PROPERTY: print a property of a unit.
state() {
  systemctl show --property="$2" --value -- "$1"
}

# stop_unit UNIT: stop a unit unless it is inactive.
stop_unit() {
  case $(state "$1" ActiveState) in
    inactive) ;;
    failed) systemctl reset-failed -- "$1" ;;
    *) systemctl stop -- "$1" ;;
  esac
}

# end_unit UNIT: stop and disable a unit whose file this package has created.
end_unit() {
  stop_unit "$1"
  case $(state "$1" UnitFileState) in enabled*) systemctl disable -- "$1" ;; esac
}

# unit_again UNIT ACTIVE ENABLED: restore the state of a unit. ACTIVE is its ActiveState before, ""
# if it did not exist. ENABLED is its UnitFileState before.
unit_again() {
  [ "$(state "$1" LoadState)" != not-found ] || return 0
  now=$(state "$1" UnitFileState)
  case $3 in
    "$now") ;;
    enabled) systemctl unmask -- "$1"; systemctl enable -- "$1" ;;
    disabled) systemctl unmask -- "$1"; systemctl disable -- "$1" ;;
    masked) systemctl mask -- "$1" ;;
  esac
  case $2 in
    active | activating | reloading)
      how=start
      [ ! -e "$RUN_DIR/$1" ] || how=restart
      systemctl reset-failed -- "$1" 2>/dev/null || true
      systemctl "$how" -- "$1" || {
        echo "$1 does not start as it was: look at journalctl -u $1" >&2; return 1
      }
      ;;
    "") [ ! -e "$RUN_DIR/$1" ] || systemctl try-restart -- "$1" ;;
    *) stop_unit "$1" ;;
  esac
  rm -f -- "$RUN_DIR/$1"
}

# sysctl_again KEY VALUE: restore a kernel parameter. KEY is a path below /proc/sys.
sysctl_again() {
  [ ! -e "/proc/sys/$1" ] || echo "$2" >"/proc/sys/$1"
}

# swap_again AREA PRIORITY: turn swap on again, unless it is on.
swap_again() {
  sed 1d /proc/swaps | while read -r area _; do printf '%b\n' "$area"; done |
    grep -qxF -- "$1" && return
  if [ ! -e "$1" ]; then echo "$1 is not there; it may be made at the next boot"; return; fi
  case $2 in -*) swapon -- "$1" ;; *) swapon -p "$2" -- "$1" ;; esac
}

# docker_runs: succeed if Docker is installed and runs.
docker_runs() {
  command -v docker >/dev/null && [ "$(state docker.service ActiveState)" = active ]
}

# drop_image IMAGE: remove an image, unless something uses it.
drop_image() {
  docker_runs || return 0
  # not docker image ls: that finds none by tag and digest together
  ! docker image inspect -- "$1" >/dev/null 2>&1 || docker image rm -- "$1" >/dev/null ||
    echo "the image $1 stays: something uses it"
}

# drop_network NAME STATE: remove a Docker network. STATE is "created", or the command that creates
# the network as it was before.
drop_network() {
  command -v docker >/dev/null || return 0
  docker_runs || {
    echo "Docker does not run, so its network $1 cannot be removed; start it (systemctl start" \
      "docker) and run again" >&2; return 1
  }
  if docker network inspect -- "$1" >/dev/null 2>&1; then
    docker network rm -- "$1" >/dev/null || {
      echo "the Docker network $1 is in use; remove its containers and run again" >&2; return 1
    }
  fi
  [ "$2" = created ] || sh -c "$2" >/dev/null
}

# drop_link NAME: remove a macvlan link.
drop_link() {
  case $(ip -o -d link show dev "$1" 2>/dev/null) in
    *" macvlan "*) ip link delete dev "$1" ;;
  esac
}

# stop_containers: stop all containers, before Docker is removed. With live-restore they would stay.
stop_containers() {
  docker_runs || return 0
  tell "stopping Docker's containers"
  docker ps -q | xargs -r docker stop -t 10 >/dev/null
}

# unhold PACKAGE...: end the hold of packages.
unhold() {
  for package in "$@"; do
    ! apart apt-mark showhold | grep -qxF -- "$package" ||
      apart apt-mark unhold "$package" >/dev/null
  done
}

# auto_again PACKAGE...: mark packages as installed automatically again.
auto_again() {
  for package in "$@"; do
    [ -z "$(apart apt-mark showmanual "$package" 2>/dev/null)" ] ||
      apart apt-mark auto "$package" >/dev/null
  done
}

# status PACKAGE: print dpkg's state of a package, nothing if dpkg does not know it.
status() {
  dpkg-query -W -f '${db:Status-Status}' -- "$1" 2>/dev/null | sed s/not-installed// || :
}

# would_go PACKAGE...: print all packages that apt would remove with these. If apt refuses, because
# the system needs one of them, print "the system".
would_go() {
  if plan=$(apt_get -s -o APT::Get::AutomaticRemove=false remove -- "$@" 2>&1); then
    printf '%s\n' "$plan" | awk '$1 == "Remv" { print $2 }' | cut -d : -f 1
  else
    echo the system
  fi
}

# other_than NAME...: print the lines of the standard input that are none of these names.
other_than() {
  grep -vxF -- "$(printf '%s\n' "$@")" || :
}

# remove_packages "HOW NAME"...: remove packages, except those that others need. HOW is purge or
# remove.
# shellcheck disable=SC2086,SC2046,SC2116,SC2005,SC2154 # names are words of lists; apt.sh sets log
remove_packages() {
  wanted="" purged=""
  for one in "$@"; do
    case $(dpkg-query -W -f '${Essential} ${Protected} ${Important}' "${one#* }" \
        2>/dev/null) in
      *yes*) echo "${one#* } stays: no system does without it"; release package "${one#* }" ;;
      *) [ -z "$(status "${one#* }")" ] || wanted="$wanted ${one#* }" ;;
    esac
  done
  [ -n "$wanted" ] || return 0
  if [ -n "$(would_go $wanted | other_than $wanted)" ]; then
    going=
    for package in $wanted; do
      if [ -n "$(would_go "$package" | other_than $wanted)" ]; then
        echo "$package stays, for it is needed by:" \
          "$(echo $(would_go "$package" | other_than $wanted))"
        release package "$package"
      else
        going="$going $package"
      fi
    done
    wanted=$going
  fi
  for one in "$@"; do
    case "$one " in "purge "*) case " $wanted " in *" ${one#* } "*)
      purged="$purged ${one#* }" ;; esac ;; esac
  done
  # if the user has put a link in place of a package's folder, dpkg removes the link
  linked=$(dpkg-query -L $wanted $purged 2>/dev/null | while IFS= read -r path; do
    case $path in
      # in other folders, packages have links of their own
      /etc/* | /opt* | /srv* | /var/*)
        if [ -L "$path" ] && [ -d "$path" ]; then echo "$path	$(readlink -- "$path")"; fi ;;
    esac
  done)
  [ -z "$wanted" ] || quietly apt_get -o APT::Get::AutomaticRemove=false remove -- $wanted
  # Debian's docker.io would remove all of Docker's data with its configuration
  rm -f /var/lib/docker/nuke-graph-directory.sh
  for package in $purged; do
    dpkg-query -W -f '${Conffiles}\n' -- "$package" 2>/dev/null | while read -r path sum _; do
      [ ! -f "$path" ] || [ "$(md5sum <"$path")" = "$sum  -" ] || set_aside "$path"
    done
  done
  [ -z "$purged" ] || patiently dpkg --purge $purged || { printf '%s\n' "$log" >&2; return 1; }
  printf '%s\n' "$linked" | while IFS='	' read -r path target; do
    [ -z "$path" ] || [ -e "$path" ] || [ -L "$path" ] || ln -s -- "$target" "$path"
  done
  # dpkg removes /opt with the last package that has a file there
  [ -d /opt ] || mkdir -m 755 /opt
}

# forget: remove the concern's lines from the manifest. Lines that were postponed stay. Lines that
# were released stay too, with "-" in place of the concern.
forget() {
  left=$left later=$postponed concern=$concern awk -F '\t' '
    BEGIN {
      OFS = FS; count = split(ENVIRON["left"], all, "\n")
      for (n = 1; n <= count; n++) stays[all[n]] = 1
      count = split(ENVIRON["later"], all, "\n")
      for (n = 1; n <= count; n++) later[all[n]] = 1
    }
    $5 != "." { next }
    $1 == ENVIRON["concern"] && !(($2 FS $4) in later) {
      if (($2 FS $4) in stays) $1 = "-"; else next
    }
    { print }' "$MANIFEST" >"$MANIFEST.chaos-new"
  if [ -e "$REPAIRS" ]; then
    concern=$concern awk -F '\t' '$1 != ENVIRON["concern"]' "$REPAIRS" >"$REPAIRS.chaos-new"
    sync -- "$REPAIRS.chaos-new"; mv -fT -- "$REPAIRS.chaos-new" "$REPAIRS"
    [ -s "$REPAIRS" ] || rm -f -- "$REPAIRS"
  fi
  rm -f -- "$STATE_DIR/unfinished.$concern"
  sync -- "$MANIFEST.chaos-new"; mv -fT -- "$MANIFEST.chaos-new" "$MANIFEST"; sync -- "$STATE_DIR"
}

# forget_file PATH: remove a file's original, unless another concern has noted the file too.
forget_file() {
  [ -n "$(noted file "$1")" ] || rm -rf -- "$ORIGINALS$1" "$WRITTEN$1"
}
