# Head of each script that calls apt. It repairs packages that an interruption has left damaged.
#
# pyinfra's own apt operations neither wait for apt's lock nor keep needrestart from restarting
# Docker in the middle of a run. Needs the functions of prelude.sh and originals.sh.
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
# apt waits a minute for a silent server each time. By default it retries three times
retries=Acquire::Retries=1
no_changelogs='Dpkg::Options::=--path-exclude=/usr/share/doc/*/changelog*'
APT_SECONDS=300 LISTS=/var/lib/apt/lists ARCHIVES=/var/cache/apt/archives
# By default apt writes pkgcache.bin to the card each time that a package's state has changed. It can
# make the same from srcpkgcache.bin and dpkg's database
printf '%s\n' 'Dir::Cache::pkgcache "";' >"$RUN_DIR/apt.conf"
export APT_CONFIG="${APT_CONFIG-$RUN_DIR/apt.conf}"
# dpkg notes each step of each package here, and waits until the note and the folder are on the card
JOURNAL=/var/lib/dpkg/updates
# this file says when the package lists were refreshed, in seconds since boot, and what
# `lists_state` printed then
REFRESHED=$RUN_DIR/refreshed REFRESH_SECONDS=600

# apart COMMAND...: run a package tool with the umask that packages expect, and without our lock.
#
# Others can write the log share, and it may hang. So where it is mounted, the tool sees a /var/log
# in RAM instead, and apt's history goes to the system log afterwards. $in_ram has other folders that
# the tool sees in RAM, as words SIZE:FOLDER. All these mounts end with the tool.
apart() {
  (
    umask 022
    exec </dev/null 9>&-
    case $(uppermost "$LOG_SHARE") in
      fuse.* | nfs*) log=$LOG_SHARE ;;
      *) log= ;;
    esac
    [ -n "$log${in_ram-}" ] || { "$@"; exit; }
    unshare -m sh -c 'log=$1 journal=$2 folders=$3
      shift 3
      mount_ram() { mount -t tmpfs -o "size=$1,mode=755,nosuid,nodev" apart "$2"; }
      for each in $folders; do
        # what another dpkg has left in its journal, ours has to see
        [ "${each#*:}" != "$journal" ] || [ -z "$(ls -A "$journal")" ] || continue
        # without the mount, the card is written
        mount_ram "${each%%:*}" "${each#*:}" 2>/dev/null || :
      done
      [ -n "$log" ] || { "$@"; exit; }
      mount_ram 16m "$log" || exit
      mkdir "$log/apt"
      "$@" && status=0 || status=$?
      cat "$log/apt/history.log" 2>/dev/null | timeout -k 1 5 logger -t apt || :
      exit "$status"' sh "$log" "$JOURNAL" "${in_ram-}" "$@"
  )
}

# archives_in_ram: print SIZE:FOLDER for apt-get's downloads. Print nothing if RAM is short: then
# the downloads go to the card and stay there.
#
# 256 MiB stay free for dpkg, and for the services that packages start. One call of ours downloads
# some 100 MiB at most.
archives_in_ram() {
  awk '$1 == "MemAvailable:" {
    free = int($2 / 1024) - 256
    if (free >= 256) print free "m:" folder
  }' folder="$ARCHIVES" /proc/meminfo
}

# apt_get ARGUMENT...: run apt-get, which waits for dpkg's lock and never asks questions.
apt_get() {
  # shellcheck disable=SC2086 # words
  apart apt-get -y -q -o "DPkg::Lock::Timeout=$APT_SECONDS" -o Dpkg::Use-Pty=0 -o $retries \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold ${for_new-} "$@"
}

# apt ARGUMENT...: run apt-get. What it will change is noted for undo before. Afterwards wait until
# all is on the card.
#
# By default dpkg waits for the card after each file and after each note in its $JOURNAL. If it does
# not wait and the power fails, files may be empty, and dpkg does not know what it has unpacked. For
# packages that were not there before this does no harm: they are noted as changing, and the next
# run installs them again. An upgrade, though, could leave an empty file in place of a library, and
# the node would not boot. So dpkg waits where it upgrades or removes a package.
#
# New packages come without changelogs. Debian 13's packages of Gluster alone have seven copies of
# one, 21 MiB in all; Ubuntu's archive cuts changelogs short. `apt-get changelog` fetches one.
apt() {
  foresee "$@"
  carry_out "$@"
}

# carry_out ARGUMENT...: run apt-get, and wait until all is on the card. $plan has what apt-get will
# do, and $new_only is as `foresee` sets it.
carry_out() {
  # without the file auto-update in this folder, man-db builds no index; its daily timer does that
  in_ram=1m:/var/lib/man-db
  case $plan in *Inst*) in_ram="$in_ram $(archives_in_ram)" ;; esac
  [ -z "$new_only" ] || {
    for_new="-o Dpkg::Options::=--force-unsafe-io -o $no_changelogs" in_ram="$in_ram 16m:$JOURNAL"
  }
  ended=0
  apt_get "$@" || ended=$?
  for_new='' in_ram=''
  # also after a failure: once dpkg's own notes are on the card, the next run finds in them what is
  # left to do
  finished
  [ "$ended" = 0 ] || {
    rm -f -- "$REFRESHED"
    echo "apt-get failed: fix what it says, on the node or on its way to the archives, and run" \
      "again" >&2
    return "$ended"
  }
}

# foresee ARGUMENT...: note for undo which packages apt-get would install or remove. It sets $plan.
# It sets $new_only if all of them are to be installed, and none of them is installed yet.
foresee() {
  simulate "$@"
  # `refresh` skipped lists that are a few minutes old, and they may lack a package that is newer
  [ -n "$plan" ] || [ -z "${skipped-}" ] || { rm -f -- "$REFRESHED"; refresh; simulate "$@"; }
  configured=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' |
    sed -n 's/^config-files //p')
  case $plan in *Remv*) auto=$(apart apt-mark showauto) ;; esac
  new_only=yes
  while read -r what package old _; do
    case $what$old in Inst"("*) ;; *) new_only='' ;; esac
    case $old in "["*) old=${old#[}; old=${old%%]*} ;; *) old=absent ;; esac
    case $what in
      Inst)
        if among "${package%%:*}" "$configured"; then old=config; fi
        note package "$old" "$package"
        ;;
      Remv)
        if among "$package" "$auto"; then mark=auto; else mark=manual; fi
        note removed "$old $mark -" "$package"
        ;;
    esac
  done <<PLAN
$plan
PLAN
  settle
  # shellcheck disable=SC2046 # names are words
  begun $(printf '%s\n' "$plan" | new=$new_only awk '
    { sub(/:.*/, "", $2) }
    $2 { print ENVIRON["new"] ? "+" $2 "=" substr($3, 2) : $2 }')
}

# simulate ARGUMENT...: set $plan to what apt-get would do, lines such as "Inst NAME [OLD] (NEW ..."
# and "Remv NAME [OLD]".
simulate() {
  plan=$(apart apt-get -s -q -y "$@" 2>/dev/null | grep -E '^(Inst|Remv) ') || plan=
}

# hold PACKAGE...: have apt leave packages at their version.
hold() {
  held=$(apart apt-mark showhold)
  for package in "$@"; do
    among "$package" "$held" || note hold set "$package"
  done
  settle
  apart apt-mark hold "$@" >/dev/null
}

# begun PACKAGE...: note that apt is about to change packages. The note stays until `finished`. A
# package may be +NAME=VERSION: a new one, of which dpkg may know nothing after a power cut.
begun() {
  [ $# -gt 0 ] || return 0
  jot "$CHANGING" "$@"
}

# finished: wait until the changes of apt are on the card, and remove the note of `begun`.
finished() {
  [ -e "$CHANGING" ] || return 0
  durable
  rm -f -- "$CHANGING"; sync -- "$STATE_DIR"
}

# locked TEXT: succeed if a message of apt or dpkg says that another program holds a lock.
locked() {
  case $1 in *"Could not get lock"* | *" locked by "*) ;; *) false ;; esac
}

# holder TEXT: print the program that holds the lock, as named in a message of apt or dpkg.
holder() {
  number=$(printf '%s\n' "$1" | sed -nE 's/.* (process|pid) ([0-9]+).*/\2/p' | head -n 1)
  name=$(cat "/proc/${number:-none}/comm" 2>/dev/null) || name="another program"
  echo "$name${number:+ (process $number)}"
}

# patiently COMMAND...: run a command, and repeat it while another program holds the lock that it
# needs, for at most $APT_SECONDS. Its output is in $log afterwards.
patiently() {
  deadline=$(($(cut -d. -f1 /proc/uptime) + APT_SECONDS))
  told=
  until log=$(apart "$@" 2>&1); do
    if locked "$log" && [ "$(cut -d. -f1 /proc/uptime)" -lt "$deadline" ]; then
      held=$(holder "$log")
      [ "$held" = "$told" ] ||
        tell "waiting for apt's lock, held by $held, at most $APT_SECONDS s"
      told=$held
      sleep 2
      continue
    fi
    ! locked "$log" || log="$log
that lasted for $APT_SECONDS s: wait for its end, or end it, and run again"
    return 1
  done
}

# lists_state: print a checksum of apt's sources, and of the lists' names, sizes and times.
lists_state() {
  # a file or folder that is not there is no error
  { ls -l --full-time "$LISTS" || :; cat /etc/apt/sources.list /etc/apt/sources.list.d/* || :; } \
    2>/dev/null | cksum
}

# are_fresh: succeed if `refresh` has fetched all lists in the last ten minutes, and if lists and
# sources are unchanged since then.
are_fresh() {
  [ -e "$REFRESHED" ] || return 1
  read -r fetched state <"$REFRESHED"
  [ $(($(cut -d. -f1 /proc/uptime) - fetched)) -lt "$REFRESH_SECONDS" ] &&
    [ "$state" = "$(lists_state)" ]
}

# refresh: fetch the package lists if they are not fresh. If some cannot be fetched, print a warning
# and succeed, because the next packages may not need them. apt-get itself does not wait for the
# lock of the lists.
refresh() {
  skipped=yes
  ! are_fresh || return 0
  skipped=''
  rm -f -- "$REFRESHED"
  drop_torn_lists
  tell "refreshing the package lists"
  # shellcheck disable=SC2086 # a word
  if patiently apt-get -q -o $retries update; then
    # if apt cannot fetch a new list, it takes the old one, prints a warning, and succeeds
    printf '%s\n' "$log" | grep -q '^W: ' ||
      echo "$(cut -d. -f1 /proc/uptime) $(lists_state)" >"$REFRESHED"
  else
    if locked "$log"; then printf '%s\n' "$log" >&2; return 1; fi
    {
      echo "warning: not all package lists could be refreshed:"
      printf '%s\n' "$log" | grep -E '^[EW]: ' || printf '%s\n' "$log"
    } >&2
  fi
  # apt does not synchronise them, and would take an empty list for current after a power cut
  sync -f "$LISTS"
}

# damaged: print the packages that an interruption has left damaged: those that dpkg wants installed
# again, and those that apt was changing, which may have empty files. A new one that dpkg does not
# know is printed as `begun` has noted it.
damaged() {
  # shellcheck disable=SC2046 # no word at all where nothing was changing
  dpkg-query -W -f '${Package} ${Status}\n' | awk '
    FILENAME != "-" {
      word = $1
      if (sub(/^[+]/, "", $1)) { sub(/=.*/, "", $1); unknown[$1] = word }
      changing[$1]
      next
    }
    $4 == "not-installed" || $4 == "config-files" { next }
    { delete unknown[$1] }
    $2 == "deinstall" || $2 == "purge" { next }
    $3 == "reinstreq" || $4 == "half-installed" || $1 in changing { print $1 }
    END { for (name in unknown) print unknown[name] }
  ' $([ ! -e "$CHANGING" ] || echo "$CHANGING") -
}

# conffiles PACKAGE...: print the packages' configuration files, as far as dpkg knows the packages.
conffiles() {
  dpkg-query -W -f '${Conffiles}\n' -- "$@" 2>/dev/null |
    awk 'NF > 1 && $NF != "obsolete" { print $1 }'
}

# drop_empty PACKAGE...: remove empty configuration files of packages, because dpkg would not
# replace them. Succeed if there was one.
drop_empty() {
  dropped=1
  [ $# = 0 ] || for file in $(conffiles "$@"); do
    [ ! -f "$file" ] || [ -s "$file" ] || { rm -f -- "$file"; dropped=0; }
  done
  return "$dropped"
}

# install_again PACKAGE...: install packages again, with their configuration files.
install_again() {
  apt_get --reinstall --no-install-recommends --allow-downgrades --allow-change-held-packages \
    -o Dpkg::Options::=--force-confmiss install -- "$@" || {
    echo "these packages are in pieces, and cannot be installed again: $names; fix what apt-get says," \
      "and run again" >&2
    exit 1
  }
}

# repair: install damaged packages again, at their version if that is available, and check them.
#
# The names of packages and configuration files are words.
# shellcheck disable=SC2046,SC2086,SC2030,SC2031 # so lists are split; all variables are its own
repair() (
  torn=$(damaged)
  [ -n "$torn" ] || { finished; exit; }
  names=$(printf '%s\n' $torn | sed 's/^+//; s/=.*//' | paste -sd ' ' -)
  echo "an interruption has left these packages in pieces, so they are installed again: $names"
  begun $torn
  refresh
  exact="" new=""
  for word in $torn; do
    name=${word#+}; name=${name%%=*}
    case $word in
      +*) version=${word#*=} new="$new $name" ;;
      *) version=$(dpkg-query -W -f '${Version}' -- "$name") ;;
    esac
    if apart apt-cache madison "$name" | cut -d '|' -f 2 | tr -d ' ' | grep -qxF -- "$version"; then
      exact="$exact $name=$version"
    else
      exact="$exact $name"
    fi
  done
  # Configuration files that do not exist, somebody may have removed: they are removed again
  removed=
  for file in $(conffiles $names); do [ -e "$file" ] || removed="$removed $file"; done
  drop_empty $names || :
  install_again $exact
  # those of new packages are known only now
  ! drop_empty $new || install_again $exact
  # apt marks as manual what it was told to install. An operation that wants a package names it again
  [ -z "$new" ] || apart apt-mark auto $new >/dev/null
  for file in $removed; do rm -f -- "$file"; done
  # Removal takes the x bit from init scripts. preinst restores it, but only if dpkg tells it the
  # old version, and after an interruption dpkg does not (cloud-init's postrm and preinst in Debian
  # 12)
  for file in $(conffiles $names | grep '^/etc/init\.d/'); do
    [ ! -f "$file" ] || chmod a+x -- "$file"
  done
  configure || { printf '%s\n' "$log" >&2; exit 1; }
  wrong=$(dpkg --verify $names | awk '/^..5/ && $2 != "c"')
  [ -z "$wrong" ] || { echo "still damaged after that:" "$wrong" >&2; exit 1; }
  finished
)

# configure: configure the packages that were unpacked and not configured.
configure() {
  patiently dpkg --configure -a --force-confdef --force-confold
}

# finish an installation that a power cut has interrupted, if there is one
configure || [ -n "$(damaged)" ] || { printf '%s\n' "$log" >&2; exit 1; }
repair
