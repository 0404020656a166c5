# Look for programs on the node that keep changing a thing, so that runs have to set it again and
# again.
#
# Needs the commands of facts/callers.py before it. They set the positional parameters to the files
# that the user wrote and that systemd, cron, udev and init read, and $scripts to the scripts that these
# files name. $MANIFEST and $REPAIRS are paths. Lists are split at line breaks, and no name is taken
# as a pattern.
for file in /etc/NetworkManager/dispatcher.d/* /etc/NetworkManager/system-connections/* \
    /etc/networkd-dispatcher/*/* /etc/netplan/*.yaml /etc/systemd/network/* \
    /etc/network/interfaces /etc/network/interfaces.d/* /etc/network/if-*.d/* \
    /etc/apt/apt.conf.d/* /etc/systemd/system-preset/*.preset /etc/ufw/*.conf \
    /etc/tuned/*/tuned.conf /run/systemd/transient/*.service; do
  [ ! -f "$file" ] || set -- "$@" "$file"
done
if command -v cloud-init >/dev/null && [ ! -e /etc/cloud/cloud-init.disabled ]; then
  for file in /etc/cloud/cloud.cfg /etc/cloud/cloud.cfg.d/*.cfg /boot/firmware/user-data \
      /var/lib/cloud/instance/cloud-config.txt /var/lib/cloud/scripts/per-boot/*; do
    [ ! -f "$file" ] || set -- "$@" "$file"
  done
fi
set -f
callers=$([ $# = 0 ] || printf '%s\n' "$@")
# shellcheck disable=SC2086 # a list of words becomes a list of lines
scripts=$([ -z "$scripts" ] || printf '%s\n' $scripts)
IFS='
'
own=$(
  awk -F '\t' '$2 == "wrote" && $5 == "." { sub(/^[^ ]* /, "", $4); print $4 }' \
    "$MANIFEST" 2>/dev/null | sort -u
)

# acts FILE: succeed if a file has an effect: its unit is enabled, or rc.local is executable. Set
# $timer to the timer that starts the file's unit, "" if there is none.
acts() {
  unit=${1%.d/*.conf} unit=${unit##*/} timer=
  case $1 in
    */systemd/*.service | */systemd/*.service.d/*)
      if systemctl is-enabled --quiet -- "${unit%.service}.timer" 2>/dev/null; then
        timer=${unit%.service}.timer
      else
        systemctl is-enabled --quiet -- "$unit" 2>/dev/null
      fi ;;
    */rc.local) [ -x "$1" ] ;;
  esac
}

# say FILE SCRIPT: print a file as a suspect if it has an effect. SCRIPT is the file with the line
# that was found: the file itself, or a script that it calls.
say() {
  ! acts "$1" || printf 'file\t%s\t%s\t%s\n' "$1" "$2" "$timer"
}

# mentions PATTERN EXCEPT: print the suspects with a line that matches PATTERN and not EXCEPT.
mentions() {
  for one in $(printf '%s\n' "$callers" "$scripts" | sort -u |
    xargs -r -d '\n' grep -IlsE -e "$1" --); do
    among "$one" "$own" && continue
    grep -hsE -e "$1" -- "$one" | grep -qvE -e "$2" || continue
    if among "$one" "$callers"; then
      say "$one" "$one"
    else
      for caller in $(printf '%s\n' "$callers" | xargs -r -d '\n' grep -IlsF -e "$one" --); do
        among "$caller" "$own" || say "$caller" "$one"
      done
    fi
  done
}

# managers: print the programs that manage the whole node, now or from time to time.
managers() {
  systemctl show --property=Id,ActiveState -- \
    puppet.service chef-client.service salt-minion.service cfengine3.service \
    rudder-agent.service ansible-pull.service ansible-pull.timer 2>/dev/null |
    awk -F= '$1 == "Id" { id = $2 } $0 == "ActiveState=active" { print "manager\t" id }'
  for one in $(printf '%s\n' "$callers" | xargs -r -d '\n' grep -IlsE \
    -e 'ansible-pull|puppet +(agent|apply)|chef-client|salt-call|cf-agent' --); do
    ! acts "$one" || printf 'manager\t%s\n' "$one"
  done
  set +f
  for one in /root/.ansible/tmp /home/*/.ansible/tmp; do
    # used since the last repair
    [ ! "$one" -nt "$REPAIRS" ] || printf 'ansible\t%s\n' "$one"
  done
  set -f
}

# packages PATH: print the packages that contain a file, or write it by their postinst script, and
# were installed since the last repair.
packages() {
  {
    dpkg-query -S -- "$1" 2>/dev/null | sed 's/: .*//; s/, /\n/g'
    set +f
    grep -lsF -e "$1" -- /var/lib/dpkg/info/*.postinst | sed 's|.*/||; s|[.]postinst$||'
    set -f
  } | sort -u | while read -r name; do
    case $name in diversion*) continue ;; esac
    [ ! "/var/lib/dpkg/info/$name.list" -nt "$REPAIRS" ] || printf 'package\t%s\n' "$name"
  done
}

# link NAME: print the program that manages a network interface.
link() {
  read -r index <"/sys/class/net/$1/ifindex" || return 0
  state=/run/systemd/netif/links/$index
  if grep -qs '^ADMIN_STATE=configur' "$state"; then
    printf 'networkd\t%s\n' "$(sed -n 's/^NETWORK_FILE=//p' "$state")"
  fi
  ! grep -qs '^managed=true' "/run/NetworkManager/devices/$index" || printf 'networkmanager\t\n'
} 2>/dev/null
