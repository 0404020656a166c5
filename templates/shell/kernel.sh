# Print the files that have the kernel's command line of the next boot.
#
# $backup_suffix is the end of the name of a boot file's original. $drop_in is this package's file
# for GRUB.
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
return=$(printf '\r')
roles=
set --

# settings BOOT: set $prefix and $name to the last os_prefix and cmdline in BOOT/config.txt that hold
# for all models.
settings() {
  prefix='' name='' all=yes
  [ -f "$1/config.txt" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%"$return"}
    case $all$line in
      *'[all]') all=yes ;;
      yes'['* | '['*) all='' ;;
      yesos_prefix=*) prefix=${line#*=} ;;
      yescmdline=*) name=${line#*=} ;;
    esac
  done <"$1/config.txt"
}
for boot in /boot/firmware /boot; do
  settings $boot
  for path in "$boot/$prefix${name:-cmdline.txt}" $boot/current/cmdline.txt $boot/cmdline.txt; do
    case " $* " in *" $path "*) continue ;; esac
    if [ -f "$path" ]; then roles="$roles place" && set -- "$@" "$path"; fi
  done
done
if [ -f /boot/firmware/new/cmdline.txt ] && [ -f /boot/firmware/new/state ]; then
  read -r state </boot/firmware/new/state
  case $state in
    unknown | trying) roles="$roles pending" && set -- "$@" /boot/firmware/new/cmdline.txt ;;
  esac
fi
extra=/etc/default/raspi-extra-cmdline hook=/etc/kernel/postinst.d/z50-raspi-firmware
if [ -f $extra ]; then
  roles="$roles extra" && set -- "$@" $extra
elif [ -f $hook ] && grep -q raspi-extra-cmdline $hook; then
  echo "extra_missing $extra"
fi
if [ -f "$drop_in" ]; then roles="$roles drop_in" && set -- "$@" "$drop_in"; fi
if [ -f /etc/default/grub ] && PATH=$PATH:/usr/sbin:/sbin command -v update-grub >/dev/null; then
  echo 'grub yes'
fi
[ $# != 0 ] || exit 0
real=$(readlink -f -- "$@") || exit 1
set -f
IFS='
'
# shellcheck disable=SC2086 # a path a line
set -- $real
unset IFS
for role in $roles; do echo "role $role"; done
printf 'path %s\n' "$@"
stat -c 'stat %a %U %G' -- "$@" && stat -f -c 'free %a %S' -- "$@" || exit 1
for path; do
  text=$(base64 -w0 -- "$path") || exit 1
  kept=no; [ ! -e "$path$backup_suffix" ] || kept=yes
  printf 'text %s %s\n' "$kept" "$text"
done
