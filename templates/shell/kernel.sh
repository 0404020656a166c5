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
newline='
'
return=$(printf '\r')
found=

# note ROLE PATH: add a role and a file's real path to $found, once.
note() {
  [ -f "$2" ] || return 0
  cd -P -- "${2%/*}" && real=$PWD/${2##*/} || exit 1
  if [ -h "$real" ]; then real=$(readlink -f -- "$real") || exit 1; fi
  case $newline$found in *"$newline$1 $real$newline"*) return 0 ;; esac
  found=$found$1\ $real$newline
}

# settings BOOT: set $prefix and $name to the last os_prefix and cmdline in BOOT/config.txt that hold
# for all models.
settings() {
  prefix='' name='' filter='[all]'
  [ -f "$1/config.txt" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%"$return"}
    case $line in '['*) filter=$line ;; esac
    [ "$filter" = '[all]' ] || continue
    case $line in
      os_prefix=*) prefix=${line#*=} ;;
      cmdline=*) name=${line#*=} ;;
    esac
  done <"$1/config.txt"
}
for boot in /boot/firmware /boot; do
  settings $boot
  note place "$boot/$prefix${name:-cmdline.txt}"
  note place $boot/current/cmdline.txt
  note place $boot/cmdline.txt
done
if [ -f /boot/firmware/new/state ]; then
  read -r state </boot/firmware/new/state
  case $state in unknown | trying) note pending /boot/firmware/new/cmdline.txt ;; esac
fi
note extra "$extra"
note drop_in "$drop_in"
if [ -f /etc/default/grub ] && PATH=$PATH:/usr/sbin:/sbin command -v update-grub >/dev/null; then
  echo 'grub yes'
fi
[ -n "$found" ] || exit 0
set -f
IFS=$newline
set --
for file in $found; do
  printf 'file %s\n' "$file"
  set -- "$@" "${file#* }"
done
stat -c 'stat %a %U %G' -- "$@" && stat -f -c 'free %a %S' -- "$@" || exit 1
for path; do
  text=$(base64 -w0 -- "$path") || exit 1
  kept=no; [ ! -e "$path$backup_suffix" ] || kept=yes
  printf 'text %s %s\n' "$kept" "$text"
done
