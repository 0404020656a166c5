"""Find the programs that a node's owner has set up to run: by systemd, cron, udev or init."""

from __future__ import annotations

# Files that name the programs to run, and files that are the programs
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
"""Shell commands that find the files of the node's owner for systemd, cron, udev and init. They set
``$@`` to these files, and ``$scripts`` to the files that are named in them. A caller puts the
commands into a subshell, because they replace its ``$@``."""
