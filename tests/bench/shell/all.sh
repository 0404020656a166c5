# Runs a script on each host over one ssh connection, all at once: all.sh FOLDER SCRIPT [REBOOT] HOST...
#
# FOLDER has SCRIPT-HOST.sh for each host. With REBOOT each node reboots after its script. Then this
# waits until the start has finished, as the deploy does, and looks for the memory controller.
set -u
folder=$1 script=$2 reboot=
shift 2
[ "$1" != REBOOT ] || { reboot=yes; shift; }
ssh="ssh -o BatchMode=yes -o ConnectTimeout=5 -o LogLevel=ERROR"

one() {
  $ssh "$1" sudo sh -s <"$folder/$script-$1.sh" || return
  [ -n "$reboot" ] || return 0
  before=$($ssh "$1" 'cat /proc/sys/kernel/random/boot_id; sudo systemctl reboot') || true
  before=${before%%
*}
  until now=$($ssh "$1" cat /proc/sys/kernel/random/boot_id 2>/dev/null) &&
    [ "$now" != "$before" ]
  do sleep 0.3; done
  $ssh "$1" 'systemctl is-system-running --wait >/dev/null
    grep -qw memory /sys/fs/cgroup/cgroup.controllers && echo as-wanted'
}

status=0 waiting=
for host; do
  one "$host" &
  waiting="$waiting $!"
done
for each in $waiting; do wait "$each" || status=1; done
exit $status
