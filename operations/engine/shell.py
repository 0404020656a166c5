"""Quote values for the shell scripts that operations compose."""

from __future__ import annotations

from pyinfra.api.command import QuoteString, StringCommand


def quote(*words: str) -> str:
    """Return words quoted for a shell, with spaces between them.

    **Example:** ``quote("rm", "a b")`` gives ``rm 'a b'``.
    """
    return StringCommand(*(QuoteString(word) for word in words)).get_raw_value()


NEEDS_DOCKER = """\
command -v docker >/dev/null || {
  echo 'Docker is not installed; deploy chaos_engine.deploys.docker first' >&2; exit 1
}
"""
"""Shell commands that end a script on a node without Docker."""

QUIETLY = r"""quietly() { # COMMAND: run it; print what tells of its progress, and the
  # end if it fails; all is in $said
  {
    said=$({
      "$@" 2>&1 3>&- && ended=0 || ended=$?
      printf '\n%s\n' "$ended"
    } | while IFS= read -r line; do
      case $line in
        "Unpacking "* | "Setting up "* | "Removing "* | *": Download complete" | *": Pull complete")
          printf '%s\n' "$line" >&3
          ;;
      esac
      printf '%s\n' "$line"
    done)
  } 3>&1
  ended=${said##*"
"}
  said=${said%"
"*}
  [ "$ended" = 0 ] || { printf '%s\n' "$said" | sed '/^$/d' | tail -n 5 >&2; return "$ended"; }
}"""
"""Shell function ``quietly``, for commands with long output, as ``docker pull``."""
