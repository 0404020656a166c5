# Run commands with long output, as `docker pull`.

# quietly COMMAND...: run a command, and print only the lines that show its progress. If the command
# fails, print its last lines too. The whole output is in $said afterwards.
quietly() {
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
}
