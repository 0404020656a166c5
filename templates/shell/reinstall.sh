# Install Debian packages again that a deploy has removed, for operations/undo.
#
# Needs the functions of undo.sh and apt.sh. $pin is the file by which apt keeps the packages out.

# choose NAME VERSION: add a package to the two lists from which apt installs: to $exact in the
# version that it had, to $names in any version.
# shellcheck disable=SC2031 # `repair` of apt.sh sets variables of these names in a subshell
choose() {
  offered=$(apart apt-cache madison "$1" | cut -d '|' -f 2 | tr -d ' ')
  if printf '%s\n' "$offered" | grep -qxF -- "$2"; then exact="$exact $1=$2" names="$names $1"
  elif [ -e "$REPACKED/$1.deb" ]; then
    exact="$exact $REPACKED/$1.deb" names="$names $REPACKED/$1.deb"
  elif [ -n "$offered" ]; then exact="$exact $1" names="$names $1"
  else
    echo "$1 $2 was removed and cannot be had again: no archive offers it" >&2
    postpone removed "$1"
  fi
}

# mark_again MARK NAME...: mark packages as they were marked before. MARK is auto or hold.
mark_again() {
  mark=$1; shift
  for package in "$@"; do
    [ "$(status "$package")" != installed ] || apart apt-mark "$mark" "$package" >/dev/null
  done
}

# reinstall "NAME VERSION"...: install all packages that are available. Nothing is changed before
# all of them are downloaded.
# shellcheck disable=SC2086,SC2046,SC2116 # lists are split into words
# shellcheck disable=SC2154 # the script sets $pin, see above
reinstall() {
  exact="" names="" absent=""
  for one in "$@"; do [ "$(status "${one% *}")" = installed ] || absent=yes; done
  [ -n "$absent" ] || return 0
  # apt gets a copy of the node's pins without the file that keeps these packages out
  rm -rf -- "$RUN_DIR"/pins.*; pinned=$(mktemp -d "$RUN_DIR/pins.XXXXXX")
  trap 'rm -rf -- "$pinned"' EXIT
  for file in /etc/apt/preferences.d/*; do
    [ ! -f "$file" ] || [ "$file" = "$pin" ] || cp -- "$file" "$pinned"
  done
  pins="-o Dir::Etc::PreferencesParts=$pinned"
  refresh
  for one in "$@"; do
    [ "$(status "${one% *}")" = installed ] || choose "${one% *}" "${one#* }"
  done
  [ -n "$names" ] || return 0
  # the versions in $exact may not fit the packages that are installed by now
  get="apt_get $pins -o APT::Get::AutomaticRemove=false --no-install-recommends"
  $get -s install -- $exact >/dev/null 2>&1 || exact=$names
  tell "fetching$names"
  log=$($get --download-only install -- $exact 2>&1) || {
    printf '%s\n' "$log" | grep '^E: ' | tail -n 3 >&2
    echo "$(echo $names) cannot be fetched; fix the node's network or its apt sources, and run" \
      "again. Nothing of it was undone" >&2
    return 1
  }
  begun $($get -s install -- $exact | awk '$1 == "Inst" { print $2 }' | cut -d : -f 1)
  quietly $get install -- $exact
  finished
}
