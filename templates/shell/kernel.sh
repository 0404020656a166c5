# Print the kernel's command line as it was given at boot, and the files that the next one comes
# from.
#
# $backup_suffix ends the name of a boot file's original, $drop_in is this package's file for GRUB,
# $record the note of what reboots were made for.
#
# The places, in the order in which they are believed:
# - Ubuntu 25.10 and later: /boot/firmware/current, the firmware being told so by os_prefix in
#   config.txt; new/ becomes current/ once it has booted, unless its state is "bad" (Ubuntu's
#   documentation for boards, "A/B boot on Ubuntu for Raspberry Pi")
# - Ubuntu before that, Raspberry Pi OS 12 and later, Debian: /boot/firmware
# - Raspberry Pi OS before that: /boot, where later ones have a notice only
#
# Of config.txt (raspberrypi.com/documentation/computers/config_txt.html, "Conditional filters") a
# line is property=value without blanks, the last one counts, and a [filter] holds until the next
# one; [all] takes all filters back. What stands below another filter, or in a file that it
# includes, is not read here: the known places below are looked at after what it names.
shown=

# show ROLE PATH: print what is known of a file, and its text, each file once.
show() {
  [ -e "$2" ] && p=$(readlink -f -- "$2") && [ -f "$p" ] || return 0
  case $shown in *" $1 $p "*) return 0 ;; esac
  shown="$shown $1 $p "
  kept=no; [ ! -e "$p$backup_suffix" ] || kept=yes
  t=$(stat -c '%a %U %G' -- "$p") &&
  m=$(findmnt -nro FSTYPE,OPTIONS -T "$p" | tail -n 1) &&
  s=$(stat -f -c '%a %S' -- "$p") &&
  b=$(base64 -w0 -- "$p") || exit 1
  printf 'file %s %s %s %s %s %s\n' "$1" "$t" "$m" "$s" "$kept" "$p"
  printf 'text %s\n' "$b"
}

# setting KEY BOOT: print a key's last value in config.txt that holds for every model.
setting() {
  [ -e "$2/config.txt" ] || return 0
  awk -F= -v "key=$1" '
    BEGIN { all = 1 }
    { sub(/\r$/, "") }
    /^\[/ { all = $0 == "[all]" }
    all && $1 == key { value = substr($0, length(key) + 2) }
    END { print value }
  ' "$2/config.txt" 2>/dev/null
}
echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
echo "cmdline $(base64 -w0 </proc/cmdline)"
echo "cgroup $(findmnt -nro FSTYPE -M /sys/fs/cgroup | tail -n 1)"
echo "controllers $(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null)"
echo "memory_v1 $(awk '$1 == "memory" { print $4 }' /proc/cgroups 2>/dev/null)"
for boot in /boot/firmware /boot; do
  name=$(setting cmdline $boot)
  show place "$boot/$(setting os_prefix $boot)${name:-cmdline.txt}"
  show place $boot/current/cmdline.txt
  show place $boot/cmdline.txt
done
case $(cat /boot/firmware/new/state 2>/dev/null) in
  unknown|trying) show pending /boot/firmware/new/cmdline.txt ;;
esac
extra=/etc/default/raspi-extra-cmdline
if [ -f $extra ]; then
  show extra $extra
elif grep -qs raspi-extra-cmdline /etc/kernel/postinst.d/z50-raspi-firmware; then
  echo "extra_missing $extra"
fi
if [ -f /etc/default/grub ] && PATH=$PATH:/usr/sbin:/sbin command -v update-grub >/dev/null; then
  echo 'grub yes'
fi
show drop_in "$drop_in"
sed 's/^/rebooted /' "$record" 2>/dev/null
true
