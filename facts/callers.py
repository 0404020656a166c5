"""Find programs that the user has added to systemd, cron, udev or init on a node."""

from __future__ import annotations

# The files of _CALLERS contain paths of programs. The files of _PROGRAMS are programs themselves,
# or udev's rules
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
"""Shell commands that find the user's own files for systemd, cron, udev and init on a node. They
set ``$@`` to the paths of these files. They set ``$scripts`` to the paths of existing programs that
the files of `_CALLERS` contain. Run the commands in a subshell, because they replace ``$@``."""
