# Bring a node back to what it was, thing by thing, for operations/undo.
#
# Needs the functions of prelude.sh and originals.sh, `confined` (facts/share.py) and `quietly`
# (operations/engine/shell.py); what concerns packages needs those of apt.sh. $SHARE_SECONDS and
# $SHARE_BLOCKS bound what is done on the log share.
left="" undone_later="" not_ours=""

# leave KIND NAME: others need this thing, so it belongs to no concern from now on.
leave() {
  left="$left$1	$2
"
}

# later KIND NAME: this cannot be undone now. The concern's line of it stays.
later() {
  undone_later="$undone_later$1	$2
"
}

# aside PATH: keep a version of a file that is not this package's.
aside() {
  kept=$ASIDE$1 new=$ASIDE$1.chaos-new
  mkdir -p -- "${kept%/*}"
  rm -rf -- "$new"
  case $1 in
    "$LOG_SHARE"/*)
      confined "$SHARE_SECONDS" "$LOG_SHARE" 'ulimit -f "$3"
        cp -dp -- "$1" "$2" && { [ -L "$2" ] || chmod a-s -- "$2"; }' \
        "$1" "$new" "$SHARE_BLOCKS" && [ -f "$new" ] && [ ! -L "$new" ] || {
        echo "$1 is none of ours, and no file of moderate size that could be kept; it stays there"
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
    # they have no owners
    msdos | exfat) cp --preserve=timestamps -- "$ORIGINALS$1" "$new" ;;
    *) cp -a -- "$ORIGINALS$1" "$new" ;;
  esac
  synced "$new"
  mv -fT -- "$new" "$1"; sync -- "$(dirname -- "$1")"
}

# put_on_share PATH: the same, where others write.
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
# A process that waits for a file system which does not answer gets no signal. Its parent does.
briefly() {
  timeout -k 1 "$SHARE_SECONDS" sh -c '"$@" </dev/null; exit $?' sh "$@" 9>&-
}

# there PATH SCRIPT: run a script on a path, briefly, so that no link on the share is followed.
there() {
  case $1 in
    "$LOG_SHARE"/*) confined "$SHARE_SECONDS" "$LOG_SHARE" "$2" "$1" ;;
    *) briefly sh -c "$2" sh "$1" ;;
  esac
}

# take_away PATH: remove a file that was not there.
take_away() {
  case $not_ours in *"$1
"*) return 0 ;; esac
  case $1 in
    "$LOG_SHARE"/*)
      there "$1" 'rm -f -- "$1"' || echo "$1 cannot be removed; it stays on the share" ;;
    *) rm -f -- "$1" ;;
  esac
}

# empty_folder PATH: remove a folder that was not there, if nothing is in it.
empty_folder() {
  there "$1" 'rmdir -- "$1"' 2>/dev/null || :
}

# drop_folder PATH: the same; one that others use belongs to no concern from now on.
drop_folder() {
  there "$1" 'rmdir -- "$1" 2>/dev/null || [ ! -d "$1" ]' || leave folder "$1"
}

# wipe PATH: overwrite a secret, then remove it.
#
# It gets a name by which a later run knows it: a power cut may come between, and what was
# overwritten looks like somebody else's file.
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

# state UNIT PROPERTY: print what systemd says of a unit.
state() {
  systemctl show --property="$2" --value -- "$1"
}

# rest UNIT: stop a unit, if it runs.
rest() {
  case $(state "$1" ActiveState) in
    inactive) ;;
    failed) systemctl reset-failed -- "$1" ;;
    *) systemctl stop -- "$1" ;;
  esac
}

# end_unit UNIT: stop and disable a unit that was not there.
end_unit() {
  rest "$1"
  case $(state "$1" UnitFileState) in enabled*) systemctl disable -- "$1" ;; esac
}

# unit_again UNIT ACTIVE ENABLED: make a unit as it was.
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
    *) rest "$1" ;;
  esac
  rm -f -- "$RUN_DIR/$1"
}

# sysctl_again KEY VALUE: set a kernel parameter back. KEY is a path below /proc/sys.
sysctl_again() {
  [ ! -e "/proc/sys/$1" ] || echo "$2" >"/proc/sys/$1"
}

# swap_again AREA PRIORITY: turn swap on again.
swap_again() {
  sed 1d /proc/swaps | while read -r area _; do printf '%b\n' "$area"; done |
    grep -qxF -- "$1" && return
  if [ ! -e "$1" ]; then echo "$1 is not there; it may be made at the next boot"; return; fi
  case $2 in -*) swapon -- "$1" ;; *) swapon -p "$2" -- "$1" ;; esac
}

# docker_runs: whether Docker is there and runs.
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

# drop_network NAME STATE: remove Docker's network. Unless STATE is "created", it is the command that
# creates the network as it was.
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

# off_share TARGET SOURCE: unmount the log share, and the RAM called SOURCE in its place.
#
# How a share is told from other mounts is said in facts/share.py too (PATTERN).
off_share() {
  for _ in 1 2 3 4; do
    case $(awk -v at="$1" '$5 == at { sub(/.* - /, ""); found = $1 " " $2 }
        END { print found }' /proc/self/mountinfo) in
      "fuse.glusterfs "* | "nfs4 var-log@"* | "tmpfs $2")
        timeout -k 1 10 umount -i -c -- "$1" 2>/dev/null 9>&- ||
          timeout -k 1 10 umount -i -c -l -- "$1" 9>&-
        ;;
      *) return 0 ;;
    esac
  done
}

# unhold PACKAGE...: let apt change packages again.
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

# status PACKAGE: print a package's state, nothing if dpkg does not know it.
status() {
  dpkg-query -W -f '${db:Status-Status}' -- "$1" 2>/dev/null | sed s/not-installed// || :
}

# would_go PACKAGE...: print all that apt would remove with packages. It refuses what any system
# needs: then "the system".
would_go() {
  if plan=$(apt_get -s -o APT::Get::AutomaticRemove=false remove -- "$@" 2>&1); then
    printf '%s\n' "$plan" | awk '$1 == "Remv" { print $2 }' | cut -d : -f 1
  else
    echo the system
  fi
}

# other_than NAME...: print the lines of the standard input that are none of these.
other_than() {
  grep -vxF -- "$(printf '%s\n' "$@")" || :
}

# remove_packages "HOW NAME"...: remove packages; what others need stays. HOW is purge or remove.
# shellcheck disable=SC2086,SC2046,SC2116,SC2005,SC2154 # names are words of lists; apt.sh sets log
remove_packages() {
  wanted="" purged=""
  for one in "$@"; do
    case $(dpkg-query -W -f '${Essential} ${Protected} ${Important}' "${one#* }" \
        2>/dev/null) in
      *yes*) echo "${one#* } stays: no system does without it"; leave package "${one#* }" ;;
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
        leave package "$package"
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
  # dpkg takes a link in place of a package's folder away with it: who made it wants it back
  linked=$(dpkg-query -L $wanted $purged 2>/dev/null | while IFS= read -r path; do
    case $path in
      # elsewhere packages have links of their own
      /etc/* | /opt* | /srv* | /var/*)
        if [ -L "$path" ] && [ -d "$path" ]; then echo "$path	$(readlink -- "$path")"; fi ;;
    esac
  done)
  [ -z "$wanted" ] || quietly apt_get -o APT::Get::AutomaticRemove=false remove -- $wanted
  # Debian's docker.io would remove all of Docker's data with its configuration
  rm -f /var/lib/docker/nuke-graph-directory.sh
  for package in $purged; do
    dpkg-query -W -f '${Conffiles}\n' -- "$package" 2>/dev/null | while read -r path sum _; do
      [ ! -f "$path" ] || [ "$(md5sum <"$path")" = "$sum  -" ] || aside "$path"
    done
  done
  [ -z "$purged" ] || patiently dpkg --purge $purged || { printf '%s\n' "$log" >&2; return 1; }
  printf '%s\n' "$linked" | while IFS='	' read -r path target; do
    [ -z "$path" ] || [ -e "$path" ] || [ -L "$path" ] || ln -s -- "$target" "$path"
  done
  # dpkg takes it for a folder of the last package that has something in it
  [ -d /opt ] || mkdir -m 755 /opt
}

# forget: remove the concern's lines from the manifest, but for what is left to nobody or to the
# next run.
forget() {
  left=$left later=$undone_later concern=$concern awk -F '\t' '
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
