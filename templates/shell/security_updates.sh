# Print the security updates of the node, as apt would install them, without changing packages.
#
# Needs the functions of lists_in_ram.sh. Lines are KEY VALUE:
# - "said TEXT": a problem of apt when it fetched the lists; "error TEXT": apt cannot read them
# - "pocket PLACE": a source of security updates, as `apt-cache policy` prints it
# - "security NAME OLD NEW": a package that has a security update, and "held ..." or "pinned ..." if
#   a hold or a pin keeps it from being updated
# - "left NAME WHY": a package of these that cannot be updated
# - "Inst ...": what apt-get would do
# - "size DOWNLOAD GROWTH LARGEST" and "free SIZE": KiB that the updates need, and that / has
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
install_options="-q -y --no-install-recommends -o APT::Get::AutomaticRemove=false"

# installed: print NAME and WANTED of each installed package. The name has an architecture if it is
# not the node's own.
installed() {
  dpkg-query -W -f '${binary:Package} ${db:Status-Want} ${db:Status-Status}\n' |
    own=:$(dpkg --print-architecture) awk '
      $3 != "not-installed" && $3 != "config-files" && $3 != "half-installed" {
        end = length($1) - length(ENVIRON["own"])
        if (substr($1, end + 1) == ENVIRON["own"]) $1 = substr($1, 1, end)
        print $1, $2
      }'
}

# search: print the lines "pocket", "security", "held" and "pinned".
#
# The newest version of a security pocket that is newer than the installed one counts, even if another
# source has a newer one: that one has the fix too, but nobody says so. A version above apt's
# candidate is one that a pin excludes.
# shellcheck disable=SC2046,SC2086 # options and names are words
search() {
  packages=$(installed)
  {
    printf '%s\n' "== packages" "$packages" "== sources"
    apt-cache $ram_lists policy
    echo "== versions"
    apt-cache $ram_lists policy $(printf '%s\n' "$packages" | cut -d' ' -f1)
  } | awk '
    function finish(package) {
      if (running != "" && (best != "" || over != ""))
        print (want[package] == "hold" ? "held" : best == "" ? "pinned" : "security"), package,
          running, (best == "" ? over : best)
      name = running = best = over = candidate = ""; reached = 0
    }
    function is_security(release) {
      return index(release, ",o=Debian,") && index(release, ",l=Debian-Security,") ||
        release ~ /,o=Ubuntu(ESM|ESMApps)?,/ && release ~ /,a=[a-z-]*-security,/
    }
    /^== / { part = $2; next }
    part == "packages" { want[$1] = $2; next }
    part == "sources" && $1 ~ /^-?[0-9]+$/ { place = $0; sub(/^ *-?[0-9]+ /, "", place) }
    part == "sources" && $1 == "release" {
      release = $0; sub(/^ *release /, ",", release)
      if (is_security(release ",")) { pocket[place]; print "pocket", place }
    }
    part != "versions" { next }
    /^[^ ].*:$/ { finish(name); name = substr($0, 1, length($0) - 1) }
    $1 == "Candidate:" { candidate = $2 }
    /^( \*\*\*|    ) [^ ]/ {
      version = $1 == "***" ? $2 : $1
      if ($1 == "***") running = version
      if (version == candidate) reached = 1
    }
    /^       / && $1 ~ /^-?[0-9]+$/ && running == "" {
      place = $0; sub(/^ *-?[0-9]+ /, "", place)
      if (!(place in pocket)) next
      if (reached && $1 >= 0) { if (best == "") best = version }
      else if (over == "") over = version
    }
    END { finish(name) }'
}

# simulate OPTION... NAME=VERSION...: have apt-get simulate an installation. $out has its output.
# shellcheck disable=SC2086 # options are words
simulate() {
  out=$(apt-get $ram_lists $install_options -s install "$@" 2>&1 </dev/null)
}

# choose NAME=VERSION...: add packages to $chosen if apt can update them all without a removal. If it
# cannot, find out which ones it cannot update, and print them.
# shellcheck disable=SC2046,SC2086 # options and names are words
choose() {
  [ $# -gt 0 ] || return 0
  if simulate --no-remove $chosen "$@"; then
    chosen="$chosen $*" plan=$(printf '%s\n' "$out" | grep '^Inst ')
  elif [ $# = 1 ]; then
    why=$(printf '%s\n' "$out" | awk '
      /^ [^ ].* : / && why == "" { why = $0; sub(/^ +/, "", why); gsub(/  +/, " ", why) }
      /^E: / && error == "" { error = substr($0, 4) }
      END { print why == "" ? error : why }')
    if simulate $chosen "$1"; then
      why="it would remove $(printf '%s\n' "$out" | awk '
        $1 == "Remv" { list = list separator $2; separator = ", " } END { print list }')"
    fi
    echo "left ${1%%=*} $why"
  else
    half=$(($# / 2))
    set -- "$(echo "$@" | cut -d' ' -f"1-$half")" "$(echo "$@" | cut -d' ' -f"$((half + 1))-")"
    choose $1
    choose $2
  fi
}

# sizes: print the lines "size" and "free".
# shellcheck disable=SC2046,SC2086 # options and names are words
sizes() {
  new=$(printf '%s\n' "$plan" | awk '{
    version = $3 ~ /^\[/ ? $4 : $3; sub(/^\(/, "", version); print $2 "=" version }')
  {
    dpkg-query -W -f '${Package} ${Installed-Size}\n'
    echo '=='
    apt-cache $ram_lists show $new
  } | awk '
    $1 == "==" { shown = 1; next }
    !shown { old[$1] = $2; next }
    $1 == "Package:" { name = $2 }
    $1 == "Installed-Size:" {
      growth += $2 - old[name]
      if ($2 > largest) largest = $2
    }
    $1 == "Size:" { download += $2 / 1024 }
    END { printf "size %d %d %d\n", download, growth, largest }'
  df -Pk / | awk 'NR == 2 { print "free", $4 }'
}

# security_updates: print all lines.
# shellcheck disable=SC2046,SC2086 # options and names are words
security_updates() {
  fetch_lists
  problem=$(apt-cache $ram_lists policy 2>&1 >/dev/null | sed -n 's/^E: //p' | head -n 1)
  if [ -n "$problem" ]; then echo "error $problem"; return; fi
  found=$(search)
  [ -z "$found" ] || printf '%s\n' "$found"
  chosen='' plan=''
  choose $(printf '%s\n' "$found" | awk '$1 == "security" { print $2 "=" $4 }')
  [ -n "$plan" ] || return 0
  printf '%s\n' "$plan"
  sizes
}
