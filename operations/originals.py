"""Originals of what this package replaces, kept on the node so that it can be undone."""

DIRECTORY = "/var/lib/chaos-engine"
"""``originals/`` holds a copy of each file replaced or removed, under its own path, as it was
before the first change; ``created`` lists the files that were not there."""

KEEP = f"""\
keep() {{ # PATH: keep its original, once, or note that there was none
  kept={DIRECTORY}/originals$1
  if [ -e "$kept" ] || [ -L "$kept" ] || grep -qxFs -- "$1" {DIRECTORY}/created; then return 0; fi
  if [ -e "$1" ] || [ -L "$1" ]; then
    (umask 077; mkdir -p -- "$(dirname -- "$kept")"; cp -a -- "$1" "$kept.new")
    sync -- "$kept.new" 2>/dev/null || sync
    mv -fT -- "$kept.new" "$kept"
  else
    (umask 077; mkdir -p {DIRECTORY}; printf '%s\\n' "$1" >> {DIRECTORY}/created)
    sync -- {DIRECTORY}/created
  fi
}}
"""
"""Shell function for the scripts of operations, to be called before a file is changed."""
