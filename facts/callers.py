"""Find programs that the owner of a node has added to systemd, cron, udev or init."""

from __future__ import annotations

# _CALLERS: files with the paths of programs. _PROGRAMS: files that are programs, and udev's rules
_CALLERS = """/etc/systemd/system/*.service /etc/systemd/system/*.service.d/*.conf \\
    /usr/local/lib/systemd/system/*.service /etc/rc.local /etc/crontab /etc/cron.d/* \\
    /var/spool/cron/crontabs/*"""
_PROGRAMS = """/etc/cron.hourly/* /etc/cron.daily/* /etc/cron.weekly/* /etc/cron.monthly/* \\
    /etc/init.d/* /etc/udev/rules.d/*.rules"""

COLLECT = rf"""  set --
  scripts=
  for file in {_CALLERS}; do [ ! -f "$file" ] || set -- "$@" "$file"; done
  set -f
  for word in $([ $# = 0 ] || cat -- "$@"); do
    case $word in
      /dev/* | /proc/* | /sys/*) ;;
      */*)
        word=/${{word#*/}} word=${{word%;}} word=${{word%[!a-zA-Z0-9._-]}}
        [ ! -f "$word" ] || scripts="$scripts $word"
        ;;
    esac
  done
  set +f
  for file in {_PROGRAMS}; do [ ! -f "$file" ] || set -- "$@" "$file"; done
"""
"""Shell commands that find the owner's own files for systemd, cron, udev and init on a node. They
set ``$@`` to these files. The files of `_CALLERS` contain paths of programs. The commands set
``$scripts`` to those of these programs that exist. Run the commands in a subshell, because they
replace ``$@``."""
