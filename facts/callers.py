"""Find the programs that a node's owner has configured systemd, cron, udev or init to run."""

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
"""Shell commands that find the files that a node's owner has made for systemd, cron, udev and init.
The commands set ``$@`` to these files. They set ``$scripts`` to each existing file whose path is in
a file of `_CALLERS`. A caller runs the commands in a subshell, because they replace ``$@``."""
