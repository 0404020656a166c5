# Remove package lists that a power cut has torn. $LISTS is the folder with apt's lists.

# drop_torn_lists: remove each package list whose length differs from the one in its release file.
# The release file is removed too: otherwise apt finds it unchanged, and fetches no list.
drop_torn_lists() (
  for release in "$LISTS"/*_InRelease "$LISTS"/*_Release; do
    [ -e "$release" ] || continue
    source=${release%_*}_
    for list in "$source"*Packages*; do
      [ -e "$list" ] || continue
      name=${list#"$source"}
      case $name in
        *Packages) size=$(stat -L -c %s -- "$list") ;;
        *) size=$(/usr/lib/apt/apt-helper cat-file "$list" 2>/dev/null | wc -c) ;;
      esac
      awk -v name="${name%Packages*}Packages" -v size="$size" '
        NF == 3 && length($1) >= 32 {
          gsub("/", "_", $3)
          if ($3 == name) { known = 1; if ($2 == size) good = 1 }
        }
        END { exit !(good || (!known && size > 0)) }' "$release" ||
        rm -f -- "$list" "$release"
      [ -e "$release" ] || break
    done
    [ -s "$release" ] || rm -f -- "$release"
  done
)
