# Print the kernel's command line of the present boot, and the files that have the next one's.
#
# $backup_suffix is the end of the name of a boot file's original. $drop_in is this package's file
# for GRUB. $record is the file that notes the causes of reboots.
#
# Files with the command line may be in these places. A file in one place takes precedence over the
# files in the places below it:
# - Ubuntu 25.10 and later: /boot/firmware/current, which os_prefix in config.txt names; new/
#   becomes current/ once it has booted, unless its state is "bad" (Ubuntu's documentation for
#   boards, "A/B boot on Ubuntu for Raspberry Pi")
# - older Ubuntu, Raspberry Pi OS 12 and later, Debian: /boot/firmware
# - older Raspberry Pi OS: /boot, where later versions have only a notice
#
# A line of config.txt is property=value without blanks, and of several lines the last one counts. A
# [filter] holds until the next one, and [all] ends it
# (raspberrypi.com/documentation/computers/config_txt.html, "Conditional filters"). Lines below
# other filters, and included files, are not read here. The places above are looked at in any case,
# after the one that config.txt names.
shown=

# show ROLE PATH: print rights, file system and text of a file, once for each role.
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

# setting KEY BOOT: print the last value of a key in BOOT/config.txt that holds for all models.
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
