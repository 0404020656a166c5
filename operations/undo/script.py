"""Shell functions by which a node is brought back, for `chaos_engine.operations.undo`."""

from __future__ import annotations

from chaos_engine.facts.manifest import ASIDE, DIRECTORY, KEPT, MANIFEST, ORIGINALS, WRITTEN
from chaos_engine.facts.repairs import REPAIRS
from chaos_engine.facts.share import CONFINED, MOST_BYTES, PATTERN, SECONDS, TARGET
from chaos_engine.facts.systemd import RECORDS
from chaos_engine.operations.engine.shell import QUIETLY

BACK = f"""\
left= undone_later= not_ours=
{CONFINED}
leave() {{ # KIND NAME: others need it; it is nobody's from now on
  left="$left$1	$2
"
}}
later() {{ # KIND NAME: it cannot be undone; the concern's line of it stays
  undone_later="$undone_later$1	$2
"
}}
aside() {{ # PATH: keep a version that is not ours
  kept={ASIDE}$1 new={ASIDE}$1.chaos-new
  mkdir -p -- "${{kept%/*}}"
  rm -rf -- "$new"
  case $1 in
    {TARGET}/*)
      # shellcheck disable=SC2016 # expanded by the shell that runs it
      confined {SECONDS} {TARGET} 'ulimit -f {MOST_BYTES // 512}
        cp -dp -- "$1" "$2" && {{ [ -L "$2" ] || chmod a-s -- "$2"; }}' \\
        "$1" "$new" && [ -f "$new" ] && [ ! -L "$new" ] || {{
        echo "$1 is none of ours, and no file of moderate size that could be kept; it stays there"
        rm -rf -- "$new"
        not_ours="$not_ours$1
"
        return 0
      }}
      ;;
    *) cp -a -- "$1" "$new" ;;
  esac
  [ ! -e "$kept" ] && [ ! -L "$kept" ] || {{
    kept=$kept.$({{ readlink -- "$new" || cat -- "$new"; }} | sha256sum | cut -c 1-8)
    echo "$1 is kept as $kept"
  }}
  synced "$new"; mv -fT -- "$new" "$kept"; sync -- "${{kept%/*}}"
}}
put_back() {{ # PATH: its original, by a rename
  [ -e "{ORIGINALS}$1" ] || [ -L "{ORIGINALS}$1" ] || {{
    echo "the original of $1 is not in {ORIGINALS} any more; restore it by hand" >&2; return 1
  }}
  case $1 in {TARGET}/*) put_on_share "$1"; return ;; esac
  [ -d "$(dirname -- "$1")" ] || (umask 022; mkdir -p -- "$(dirname -- "$1")")
  new=$(dirname -- "$1")/.$(basename -- "$1").chaos
  staging "$new"; rm -f -- "$new"
  case $(stat -f -c %T -- "$(dirname -- "$1")") in
    msdos | exfat) cp --preserve=timestamps -- "{ORIGINALS}$1" "$new" ;; # they have no owners
    *) cp -a -- "{ORIGINALS}$1" "$new" ;;
  esac
  synced "$new"
  mv -fT -- "$new" "$1"; sync -- "$(dirname -- "$1")"
}}
put_on_share() {{ # PATH: the same, where others write
  case $not_ours in *"$1
"*) return 0 ;; esac
  # shellcheck disable=SC2016 # expanded by the shell that runs it
  confined {SECONDS} {TARGET} 'new=${{1%/*}}/.${{1##*/}}.chaos
    umask 022 && mkdir -p -- "${{1%/*}}" && rm -f -- "$new" && cp -dp -- "$2" "$new" &&
      {{ [ -L "$new" ] || chmod a-s -- "$new"; }} &&
      [ ! -d "$1" ] && mv -fT -- "$new" "$1"' "$1" "{ORIGINALS}$1" || {{
    echo "$1 cannot be restored on the share; its original is kept in {ASIDE}$1.original"
    mkdir -p -- "{ASIDE}${{1%/*}}"
    mv -fT -- "{ORIGINALS}$1" "{ASIDE}$1.original"
  }}
}}
# A process that waits for a file system which does not answer gets no signal. Its parent does
briefly() {{ # COMMAND...
  timeout -k 1 {SECONDS} sh -c '"$@" </dev/null; exit $?' sh "$@" 9>&-
}}
there() {{ # PATH SCRIPT: run it, briefly, so that no link on the share is followed
  case $1 in
    {TARGET}/*) confined {SECONDS} {TARGET} "$2" "$1" ;;
    *) briefly sh -c "$2" sh "$1" ;;
  esac
}}
take_away() {{ # PATH: a file that was not there
  case $not_ours in *"$1
"*) return 0 ;; esac
  case $1 in
    {TARGET}/*) there "$1" 'rm -f -- "$1"' || echo "$1 cannot be removed; it stays on the share" ;;
    *) rm -f -- "$1" ;;
  esac
}}
empty_folder() {{ # PATH: one that was not there goes, if nothing is in it
  there "$1" 'rmdir -- "$1"' 2>/dev/null || :
}}
drop_folder() {{ # PATH: one that was not there; what others use is left to nobody
  there "$1" 'rmdir -- "$1" 2>/dev/null || [ ! -d "$1" ]' || leave folder "$1"
}}
wipe() {{ # PATH: a secret, overwritten before it is removed, under a name by which a later run
  # knows it: a power cut may come between, and what was overwritten looks like somebody else's
  gone=$(dirname -- "$1")/.$(basename -- "$1").chaos
  if [ -f "$1" ] && [ ! -L "$1" ]; then
    staging "$gone"
    mv -fT -- "$1" "$gone"; sync -- "$(dirname -- "$1")"
    shred -n 1 -- "$gone" 2>/dev/null || true
    rm -f -- "$gone"
  fi
  rm -f -- "$1"
}}
state() {{ # UNIT PROPERTY
  systemctl show --property="$2" --value -- "$1"
}}
rest() {{ # UNIT: stop it, if it runs
  case $(state "$1" ActiveState) in
    inactive) ;;
    failed) systemctl reset-failed -- "$1" ;;
    *) systemctl stop -- "$1" ;;
  esac
}}
end_unit() {{ # UNIT: one that was not there
  rest "$1"
  case $(state "$1" UnitFileState) in enabled*) systemctl disable -- "$1" ;; esac
}}
unit_again() {{ # UNIT ACTIVE ENABLED: as it was
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
      [ ! -e "{RECORDS}/$1" ] || how=restart
      systemctl reset-failed -- "$1" 2>/dev/null || true
      systemctl "$how" -- "$1" || {{
        echo "$1 does not start as it was: look at journalctl -u $1" >&2; return 1
      }}
      ;;
    "") [ ! -e "{RECORDS}/$1" ] || systemctl try-restart -- "$1" ;;
    *) rest "$1" ;;
  esac
  rm -f -- "{RECORDS}/$1"
}}
sysctl_again() {{ # KEY VALUE
  [ ! -e "/proc/sys/$1" ] || echo "$2" >"/proc/sys/$1"
}}
swap_again() {{ # AREA PRIORITY
  sed 1d /proc/swaps | while read -r area _; do printf '%b\\n' "$area"; done |
    grep -qxF -- "$1" && return
  if [ ! -e "$1" ]; then echo "$1 is not there; it may be made at the next boot"; return; fi
  case $2 in -*) swapon -- "$1" ;; *) swapon -p "$2" -- "$1" ;; esac
}}
docker_runs() {{
  command -v docker >/dev/null && [ "$(state docker.service ActiveState)" = active ]
}}
drop_image() {{ # IMAGE
  docker_runs || return 0
  # not docker image ls: that finds none by tag and digest together
  ! docker image inspect -- "$1" >/dev/null 2>&1 || docker image rm -- "$1" >/dev/null ||
    echo "the image $1 stays: something uses it"
}}
drop_network() {{ # NAME [COMMAND]: as it was, made by the command
  command -v docker >/dev/null || return 0
  docker_runs || {{
    echo "Docker does not run, so its network $1 cannot be removed; start it (systemctl start" \\
      "docker) and run again" >&2; return 1
  }}
  if docker network inspect -- "$1" >/dev/null 2>&1; then
    docker network rm -- "$1" >/dev/null || {{
      echo "the Docker network $1 is in use; remove its containers and run again" >&2; return 1
    }}
  fi
  [ -z "${{2-}}" ] || sh -c "$2" >/dev/null
}}
drop_link() {{ # NAME
  case $(ip -o -d link show dev "$1" 2>/dev/null) in
    *" macvlan "*) ip link delete dev "$1" ;;
  esac
}}
stop_containers() {{ # Docker goes; with live-restore they would stay
  docker_runs || return 0
  tell "stopping Docker's containers"
  docker ps -q | xargs -r docker stop -t 10 >/dev/null
}}
off_share() {{ # TARGET SOURCE: unmount the log share, and the RAM called SOURCE in its place
  for _ in 1 2 3 4; do
    case $(awk -v at="$1" '$5 == at {{ sub(/.* - /, ""); found = $1 " " $2 }}
        END {{ print found }}' /proc/self/mountinfo) in
      {PATTERN} | "tmpfs $2")
        timeout -k 1 10 umount -i -c -- "$1" 2>/dev/null 9>&- ||
          timeout -k 1 10 umount -i -c -l -- "$1" 9>&-
        ;;
      *) return 0 ;;
    esac
  done
}}
freed() {{ # PACKAGE...: let apt change them again
  for package in "$@"; do
    ! apart apt-mark showhold | grep -qxF -- "$package" ||
      apart apt-mark unhold "$package" >/dev/null
  done
}}
auto_again() {{ # PACKAGE...
  for package in "$@"; do
    [ -z "$(apart apt-mark showmanual "$package" 2>/dev/null)" ] ||
      apart apt-mark auto "$package" >/dev/null
  done
}}
status() {{ # PACKAGE: "" if dpkg does not know it
  dpkg-query -W -f '${{db:Status-Status}}' -- "$1" 2>/dev/null | sed s/not-installed// || :
}}
would_go() {{ # PACKAGE...: all that apt would remove with them; it refuses what any system needs
  if plan=$(apt_get -s -o APT::Get::AutomaticRemove=false remove -- "$@" 2>&1); then
    printf '%s\n' "$plan" | awk '$1 == "Remv" {{ print $2 }}' | cut -d : -f 1
  else
    echo the system
  fi
}}
among() {{ # NAME...: those of the standard input that are none of these
  grep -vxF -- "$(printf '%s\\n' "$@")" || :
}}
remove_packages() {{ # "HOW NAME"...: HOW is purge or remove; what others need stays
  wanted= purged=
  for one in "$@"; do
    case $(dpkg-query -W -f '${{Essential}} ${{Protected}} ${{Important}}' "${{one#* }}" \
        2>/dev/null) in
      *yes*) echo "${{one#* }} stays: no system does without it"; leave package "${{one#* }}" ;;
      *) [ -z "$(status "${{one#* }}")" ] || wanted="$wanted ${{one#* }}" ;;
    esac
  done
  [ -n "$wanted" ] || return 0
  # shellcheck disable=SC2086 # lists of names are split into words
  if [ -n "$(would_go $wanted | among $wanted)" ]; then
    going=
    for package in $wanted; do
      if [ -n "$(would_go "$package" | among $wanted)" ]; then
        echo "$package stays, for it is needed by: $(echo $(would_go "$package" | among $wanted))"
        leave package "$package"
      else
        going="$going $package"
      fi
    done
    wanted=$going
  fi
  for one in "$@"; do
    case "$one " in "purge "*) case " $wanted " in *" ${{one#* }} "*)
      purged="$purged ${{one#* }}" ;; esac ;; esac
  done
  # dpkg takes a link in place of a package's folder away with it: who made it wants it back
  linked=$(dpkg-query -L $wanted $purged 2>/dev/null | while IFS= read -r path; do
    case $path in
      /etc/* | /opt* | /srv* | /var/*) # elsewhere packages have links of their own
        if [ -L "$path" ] && [ -d "$path" ]; then echo "$path	$(readlink -- "$path")"; fi ;;
    esac
  done)
  [ -z "$wanted" ] || quietly apt_get -o APT::Get::AutomaticRemove=false remove -- $wanted
  # Debian's docker.io would remove all of Docker's data with its configuration
  rm -f /var/lib/docker/nuke-graph-directory.sh
  for package in $purged; do
    dpkg-query -W -f '${{Conffiles}}\\n' -- "$package" 2>/dev/null | while read -r path sum _; do
      [ ! -f "$path" ] || [ "$(md5sum <"$path")" = "$sum  -" ] || aside "$path"
    done
  done
  [ -z "$purged" ] || patiently dpkg --purge $purged || {{ printf '%s\\n' "$log" >&2; return 1; }}
  printf '%s\\n' "$linked" | while IFS='	' read -r path target; do
    [ -z "$path" ] || [ -e "$path" ] || [ -L "$path" ] || ln -s -- "$target" "$path"
  done
  # dpkg takes it for a folder of the last package that has something in it
  [ -d /opt ] || mkdir -m 755 /opt
}}
{QUIETLY}
forget() {{ # the concern's lines, but for what is left to nobody or to the next run
  left=$left later=$undone_later concern=$concern awk -F '\\t' '
    BEGIN {{
      OFS = FS; count = split(ENVIRON["left"], all, "\\n")
      for (n = 1; n <= count; n++) stays[all[n]] = 1
      count = split(ENVIRON["later"], all, "\\n")
      for (n = 1; n <= count; n++) later[all[n]] = 1
    }}
    $5 != "." {{ next }}
    $1 == ENVIRON["concern"] && !(($2 FS $4) in later) {{
      if (($2 FS $4) in stays) $1 = "-"; else next
    }}
    {{ print }}' {MANIFEST} >{MANIFEST}.chaos-new
  if [ -e {REPAIRS} ]; then
    concern=$concern awk -F '\\t' '$1 != ENVIRON["concern"]' {REPAIRS} >{REPAIRS}.chaos-new
    sync -- {REPAIRS}.chaos-new; mv -fT -- {REPAIRS}.chaos-new {REPAIRS}
    [ -s {REPAIRS} ] || rm -f -- {REPAIRS}
  fi
  rm -f -- {DIRECTORY}/unfinished."$concern"
  sync -- {MANIFEST}.chaos-new; mv -fT -- {MANIFEST}.chaos-new {MANIFEST}; sync -- {DIRECTORY}
}}
forget_file() {{ # PATH: its original, unless another concern has it
  [ -n "$(noted file "$1")" ] || rm -rf -- "{ORIGINALS}$1" "{WRITTEN}$1"
}}
"""
"""They need those of `chaos_engine.operations.originals.KEEP`; those for packages need those of
`chaos_engine.operations.apt.APT`, which begins with the former."""

REINSTALL = f"""\
choose() {{ # NAME VERSION: what to ask apt for
  offered=$(apart apt-cache madison "$1" | cut -d '|' -f 2 | tr -d ' ')
  if printf '%s\\n' "$offered" | grep -qxF -- "$2"; then exact="$exact $1=$2" names="$names $1"
  elif [ -e "{KEPT}/$1.deb" ]; then
    exact="$exact {KEPT}/$1.deb" names="$names {KEPT}/$1.deb"
  elif [ -n "$offered" ]; then exact="$exact $1" names="$names $1"
  else
    echo "$1 $2 was removed and cannot be had again: no archive offers it" >&2
    later removed "$1"
  fi
}}
mark_again() {{ # MARK NAME...: auto or hold
  mark=$1; shift
  for package in "$@"; do
    [ "$(status "$package")" != installed ] || apart apt-mark "$mark" "$package" >/dev/null
  done
}}
reinstall() {{ # "NAME VERSION"...: all that can be had; nothing is changed before they are here
  exact= names= absent=
  for one in "$@"; do [ "$(status "${{one% *}}")" = installed ] || absent=yes; done
  [ -n "$absent" ] || return 0
  # the node's pins but for the one that keeps these out, without touching that before all is here
  rm -rf -- {RECORDS}/pins.*; pinned=$(mktemp -d {RECORDS}/pins.XXXXXX)
  trap 'rm -rf -- "$pinned"' EXIT
  for file in /etc/apt/preferences.d/*; do
    [ ! -f "$file" ] || [ "$file" = "$pin" ] || cp -- "$file" "$pinned"
  done
  pins="-o Dir::Etc::PreferencesParts=$pinned"
  refresh
  for one in "$@"; do
    [ "$(status "${{one% *}}")" = installed ] || choose "${{one% *}}" "${{one#* }}"
  done
  [ -n "$names" ] || return 0
  # a version that was recorded may not fit what is installed by now
  get="apt_get $pins -o APT::Get::AutomaticRemove=false --no-install-recommends"
  $get -s install -- $exact >/dev/null 2>&1 || exact=$names
  tell "fetching$names"
  log=$($get --download-only install -- $exact 2>&1) || {{
    printf '%s\\n' "$log" | grep '^E: ' | tail -n 3 >&2
    echo "$(echo $names) cannot be fetched; mend the node's network or its apt sources, and run" \\
      "again. Nothing of it was undone" >&2
    return 1
  }}
  begun $($get -s install -- $exact | awk '$1 == "Inst" {{ print $2 }}' | cut -d : -f 1)
  quietly $get install -- $exact
  finished
}}
"""
"""Shell function ``reinstall``, for a script that begins with `BACK`; ``pin`` is the file that
keeps the packages out."""
