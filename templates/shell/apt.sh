# Head of each script that calls apt. It repairs packages that an interruption has left damaged.
#
# pyinfra's own apt operations neither wait for apt's lock nor keep needrestart from restarting
# Docker in the middle of a run. Needs the functions of prelude.sh and originals.sh.
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
# apt waits a minute for a silent server each time. By default it retries three times
retries=Acquire::Retries=1
APT_SECONDS=300 LISTS=/var/lib/apt/lists

# apart COMMAND...: run a package tool with the umask that packages expect, and without our lock.
#
# Others can write the log share, and it may hang. So where it is mounted, the tool sees a /var/log
# in RAM instead, and apt's history goes to the system log afterwards.
apart() {
  (
    umask 022
    exec </dev/null 9>&-
    case $(at=$LOG_SHARE awk '$5 == ENVIRON["at"] { sub(/.* - /, ""); on = $1 } END { print on }' \
      /proc/self/mountinfo) in
      fuse.* | nfs*)
        unshare -m sh -c 'log=$1
          shift
          mount -t tmpfs -o size=16m,mode=755,nosuid,nodev apart "$log" || exit
          mkdir "$log/apt"
          "$@" && status=0 || status=$?
          cat "$log/apt/history.log" 2>/dev/null | timeout -k 1 5 logger -t apt || :
          exit "$status"' sh "$LOG_SHARE" "$@"
        ;;
      *) "$@" ;;
    esac
  )
}

# apt_get ARGUMENT...: run apt-get, which waits for dpkg's lock and never asks questions.
apt_get() {
  # shellcheck disable=SC2086 # a word
  apart apt-get -y -q -o "DPkg::Lock::Timeout=$APT_SECONDS" -o Dpkg::Use-Pty=0 -o $retries \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# apt ARGUMENT...: run apt-get. What it will change is noted for undo before. Afterwards wait until
# all is on the card.
apt() {
  foresee "$@"
  apt_get "$@" || {
    ended=$?
    # once dpkg's own notes are on the card, the next run finds in them what is left to do
    finished
    echo "apt-get failed: fix what it says, on the node or on its way to the archives, and run" \
      "again" >&2
    return $ended
  }
  finished
}

# foresee ARGUMENT...: note for undo which packages apt-get would install or remove.
#
# A simulation prints lines such as "Inst NAME [OLD] (NEW ..." and "Remv NAME [OLD]".
foresee() {
  plan=$(apart apt-get -s -q -y "$@" 2>/dev/null | grep -E '^(Inst|Remv) ') || plan=
  configured=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' |
    sed -n 's/^config-files //p')
  case $plan in *Remv*) auto=$(apart apt-mark showauto) ;; esac
  while read -r what package old _; do
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
  begun $(printf '%s\n' "$plan" | awk '$2 { print $2 }' | cut -d : -f 1)
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

# begun PACKAGE...: note that apt is about to change packages. The note stays until `finished`.
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

# refresh: fetch the package lists. If some cannot be fetched, print a warning and succeed, because
# the next packages may not need them. For the lock of the lists apt-get itself does not wait.
refresh() {
  drop_torn_lists
  tell "refreshing the package lists"
  # shellcheck disable=SC2086 # a word
  patiently apt-get -q -o $retries update || {
    if locked "$log"; then printf '%s\n' "$log" >&2; return 1; fi
    {
      echo "warning: not all package lists could be refreshed:"
      printf '%s\n' "$log" | grep -E '^[EW]: ' || printf '%s\n' "$log"
    } >&2
  }
  # apt does not synchronise them, and would take an empty list for current after a power cut
  sync -f "$LISTS"
}

# drop_torn_lists: remove each package list whose length differs from the one in its release file.
# The release file is removed too: otherwise apt finds it unchanged, and fetches no list.
drop_torn_lists() (
  for release in "$LISTS"/*_InRelease "$LISTS"/*_Release; do
    [ -e "$release" ] || continue
    source=${release%_*}_
    for list in "$source"*Packages*; do
      [ -e "$list" ] || continue
      name=${list#"$source"}
      case $name in
        *Packages) size=$(stat -c %s -- "$list") ;;
        *) size=$(/usr/lib/apt/apt-helper cat-file "$list" 2>/dev/null | wc -c) ;;
      esac
      awk -v name="${name%Packages*}Packages" -v size="$size" '
        NF == 3 && length($1) >= 32 {
          gsub("/", "_", $3)
          if ($3 == name) { known = 1; if ($2 == size) good = 1 }
        }
        END { exit !(good || (!known && size > 0)) }' "$release" ||
        rm -f -- "$list" "$release"
      [ -e "$release" ] || break
    done
    [ -s "$release" ] || rm -f -- "$release"
  done
)

# damaged: print the packages that an interruption has left damaged: those that dpkg wants installed
# again, and those that apt was changing, which may have empty files.
damaged() {
  # shellcheck disable=SC2046 # no word at all where nothing was changing
  dpkg-query -W -f '${Package} ${Status}\n' | awk '
    FILENAME != "-" { changing[$1]; next }
    $2 == "deinstall" || $2 == "purge" || $4 == "not-installed" || $4 == "config-files" { next }
    $3 == "reinstreq" || $4 == "half-installed" || $1 in changing { print $1 }
  ' $([ ! -e "$CHANGING" ] || echo "$CHANGING") -
}

# conffiles PACKAGE...: print the packages' configuration files.
conffiles() {
  dpkg-query -W -f '${Conffiles}\n' -- "$@" | awk 'NF > 1 && $NF != "obsolete" { print $1 }'
}

# repair: install damaged packages again, at their version if that is available, and check them.
#
# The names of packages and configuration files are words.
# shellcheck disable=SC2046,SC2086,SC2030,SC2031 # so lists are split; all variables are its own
repair() (
  torn=$(damaged)
  [ -n "$torn" ] || { finished; exit; }
  echo "an interruption has left these packages in pieces, so they are installed again:" $torn
  begun $torn
  refresh
  exact="" names=""
  for name in $torn; do
    version=$(dpkg-query -W -f '${Version}' -- "$name")
    if apart apt-cache madison "$name" | cut -d '|' -f 2 | tr -d ' ' | grep -qxF -- "$version"; then
      exact="$exact $name=$version"
    else
      exact="$exact $name"
    fi
    names="$names $name"
  done
  # dpkg would not replace an empty configuration file. Those that do not exist, somebody may have
  # removed: they are removed again
  removed=
  for file in $(conffiles $names); do
    if [ -f "$file" ] && [ ! -s "$file" ]; then rm -f -- "$file"
    elif [ ! -e "$file" ]; then removed="$removed $file"; fi
  done
  apt_get --reinstall --no-install-recommends --allow-downgrades --allow-change-held-packages \
    -o Dpkg::Options::=--force-confmiss install -- $exact || {
    echo "these packages are in pieces, and cannot be installed again:$names; fix what apt-get" \
      "says, and run again" >&2
    exit 1
  }
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
