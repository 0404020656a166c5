# Install updates of packages from the package lists in RAM.
#
# Needs the functions of apt.sh and lists_in_ram.sh.

# install_updates NAME=VERSION...: install packages at these versions. Nothing is removed, and the
# packages stay marked as automatically installed.
#
# Nothing is noted for undo, because nobody wants the old versions back.
install_updates() {
  systemctl stop "$RAM_TIMER.timer" 2>/dev/null || :
  trap forget_lists_later EXIT
  tell "fetching the package lists"
  fetch_lists
  # shellcheck disable=SC2086 # options are words
  set -- $ram_lists --no-remove --no-install-recommends -o APT::Get::AutomaticRemove=false \
    install -- "$@"
  tell "simulating the updates"
  log=$(apart apt-get -s -q -y "$@" 2>&1) || {
    printf '%s\n' "$log" >&2
    echo "apt cannot install these updates any more, perhaps because newer ones are there; run again" >&2
    return 1
  }
  # shellcheck disable=SC2034 # carry_out uses them
  plan=$(printf '%s\n' "$log" | grep '^Inst ') new_only=''
  auto=$(apart apt-mark showauto)
  # shellcheck disable=SC2046 # names are words
  begun $(printf '%s\n' "$plan" | awk '{ sub(/:.*/, "", $2); print $2 }')
  carry_out "$@"
  mark_auto
}

# mark_auto: mark packages as automatically installed that were, and that apt has marked as manual.
# shellcheck disable=SC2046,SC2086 # names are words
mark_auto() {
  manual=$(apart apt-mark showmanual)
  set --
  for name in $auto; do
    ! among "$name" "$manual" || set -- "$@" "$name"
  done
  [ $# -eq 0 ] || apart apt-mark auto "$@" >/dev/null
}

# ask_for_reboot PACKAGE: ask for a reboot, as packages do.
ask_for_reboot() {
  (umask 022; : >>/run/reboot-required; echo "$1" >>/run/reboot-required.pkgs)
}
