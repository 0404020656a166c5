# Fetch apt's package lists into RAM, so that the search for updates does not write to the card.
#
# The lists begin as links to the lists on the card, so apt fetches only what has changed since. A
# timer removes them. Needs the functions of torn_lists.sh.
RAM_DIR=/run/chaos-engine-lists RAM_SECONDS=600 RAM_TIMER=chaos-engine-lists
# What apt makes of the lists, some 45 MiB. If that file has no room, apt makes it in memory each time
ram_cache=$RAM_DIR/srcpkgcache.bin
[ -e "$ram_cache" ] || [ "$(df -Pk /run | awk 'NR == 2 { print $4 }')" -gt 131072 ] || ram_cache=
# Options with which apt reads these lists. Others can read them, because apt fetches as user _apt
ram_lists="-o Dir::State::Lists=$RAM_DIR/lists/ -o Dir::Cache::pkgcache= \
-o Dir::Cache::srcpkgcache=$ram_cache -o Dir::Log::Planner=/dev/null"
# What apt need not fetch, how it stores the rest, and how soon it gives up
fetch_options="-o Acquire::Languages=none -o Acquire::GzipIndexes=true \
-o Acquire::IndexTargets::deb-src::Sources::DefaultEnabled=false \
-o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 \
-o APT::Update::Error-Mode=any"

# sources_state: print a checksum of apt's sources.
sources_state() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | cksum
}

# ram_lists_are_fresh: succeed if all lists were fetched in the last ten minutes, and the sources are
# unchanged since then.
ram_lists_are_fresh() {
  [ -e "$RAM_DIR/fetched" ] || return 1
  read -r at state <"$RAM_DIR/fetched"
  [ $(($(cut -d. -f1 /proc/uptime) - at)) -lt "$RAM_SECONDS" ] && [ "$state" = "$(sources_state)" ]
}

# link_lists: give apt the lists on the card as the first lists in RAM.
link_lists() {
  [ ! -d "$RAM_DIR/lists" ] || return 0
  mkdir -p "$RAM_DIR/lists"
  for list in /var/lib/apt/lists/*_*; do
    [ ! -f "$list" ] || ln -s "$list" "$RAM_DIR/lists/"
  done
  (LISTS=$RAM_DIR/lists; drop_torn_lists)
}

# fetch_lists: fetch the lists if they are not fresh. Print a line "said TEXT" for each problem.
fetch_lists() {
  (umask 022; mkdir -p "$RAM_DIR")
  (
    umask 022
    flock -w 300 8 || {
      echo "said another run fetches package lists for longer than 300 s"
      exit 0
    }
    ! ram_lists_are_fresh || exit 0
    rm -f "$RAM_DIR/fetched" "$RAM_DIR"/srcpkgcache.bin*
    link_lists
    # shellcheck disable=SC2086 # options are words
    if log=$(LC_ALL=C apt-get -q $ram_lists $fetch_options update 2>&1 </dev/null 8>&-); then
      echo "$(cut -d. -f1 /proc/uptime) $(sources_state)" >"$RAM_DIR/fetched"
    else
      # addresses may have a password
      printf '%s\n' "$log" | sed -n 's|//[^/@ ]*@|//|g; s/^E: /said /p'
    fi
    forget_lists_later
  ) 8>>"$RAM_DIR/lock"
}

# forget_lists_later: remove the lists after some time.
forget_lists_later() {
  systemctl stop "$RAM_TIMER.timer" 2>/dev/null || :
  systemd-run --quiet --collect --unit="$RAM_TIMER" --on-active="$((RAM_SECONDS + 300))" \
    rm -rf "$RAM_DIR" 2>/dev/null 8>&- || :
}
