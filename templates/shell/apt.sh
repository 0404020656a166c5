# Head of each script that calls apt.
#
# pyinfra's own apt operations neither wait for the lock nor keep needrestart from restarting Docker
# in the middle of a run. Needs the functions of prelude.sh and originals.sh.
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
# a silent server is waited for a minute each time. apt's own number is 3
retries=Acquire::Retries=1
APT_SECONDS=300 LISTS=/var/lib/apt/lists

# apart COMMAND...: run a package tool with the umask that packages expect, and without our lock.
#
# Others can write the log share, or it hangs: the tool gets a /var/log in RAM in its place, and
# what apt writes there goes to the log server.
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

# apt_get ARGUMENT...: apt-get, which waits for dpkg's lock and never asks.
apt_get() {
  # shellcheck disable=SC2086 # a word
  apart apt-get -y -q -o "DPkg::Lock::Timeout=$APT_SECONDS" -o Dpkg::Use-Pty=0 -o $retries \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# apt ARGUMENT...: apt-get. What it will change is noted before, and is on the card afterwards.
apt() {
  foresee "$@"
  apt_get "$@" || {
    ended=$?
    # dpkg's own notes are on the card then, and tell what is left to do
    finished
    echo "apt-get failed: fix what it says, on the node or on its way to the archives, and run" \
      "again" >&2
    return $ended
  }
  finished
}

# foresee ARGUMENT...: note what apt-get says that it would do.
#
# It prints "Inst NAME [OLD] (NEW ...", "Remv NAME [OLD]".
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

# begun PACKAGE...: note that apt is changing packages, until that is on the card.
begun() {
  [ $# -gt 0 ] || return 0
  jot "$CHANGING" "$@"
}

# finished: wait until what apt was changing is on the card.
finished() {
  [ -e "$CHANGING" ] || return 0
  durable
  rm -f -- "$CHANGING"; sync -- "$STATE_DIR"
}

# locked TEXT: whether the text says that another program holds a lock.
locked() {
  case $1 in *"Could not get lock"* | *" locked by "*) ;; *) false ;; esac
}

# holder TEXT: print who holds the lock, by what apt-get or dpkg says of it.
holder() {
  number=$(printf '%s\n' "$1" | sed -nE 's/.* (process|pid) ([0-9]+).*/\2/p' | head -n 1)
  name=$(cat "/proc/${number:-none}/comm" 2>/dev/null) || name="another program"
  echo "$name${number:+ (process $number)}"
}

# patiently COMMAND...: run a command, again and again while another program holds the lock that it
# wants. What it said is in $log.
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

# refresh: fetch the package lists anew, those that can be had. One bad source is no reason to stop:
# what is installed next may not need it. apt-get waits for dpkg's lock only, not for theirs.
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
  # apt does not, and takes an empty list for current when it sees it again
  sync -f "$LISTS"
}

# drop_torn_lists: remove package lists of another length than their release file says, with that
# file, because apt asks a server only whether it has changed.
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

# damaged: print the packages that an interruption has left damaged. dpkg wants some installed
# again, and those that apt was changing may have empty files.
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

# repair: install damaged packages once more, at their version, and look whether they are whole.
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
  # dpkg leaves a configuration file alone that is there, be it empty, or that somebody has removed
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
  # Removal takes the x bit from init scripts; preinst gives it back if dpkg tells it of an old
  # version, which it does not after an interruption (cloud-init's postrm and preinst in Debian 12)
  for file in $(conffiles $names | grep '^/etc/init\.d/'); do
    [ ! -f "$file" ] || chmod a+x -- "$file"
  done
  configure || { printf '%s\n' "$log" >&2; exit 1; }
  wrong=$(dpkg --verify $names | awk '/^..5/ && $2 != "c"')
  [ -z "$wrong" ] || { echo "still damaged after that:" "$wrong" >&2; exit 1; }
  finished
)

# configure: configure what was unpacked and not configured.
configure() {
  patiently dpkg --configure -a --force-confdef --force-confold
}

# what a power cut in the middle of an installation left; nothing otherwise
configure || [ -n "$(damaged)" ] || { printf '%s\n' "$log" >&2; exit 1; }
repair
