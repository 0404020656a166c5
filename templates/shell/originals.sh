# Note how each thing was before a concern changes it, so that undo can restore it.
#
# The notes are lines of $MANIFEST: concern, kind, state before, name and a dot, with tabs between
# them. A concern notes a thing once; later notes of the same thing are ignored. Needs the functions
# of prelude.sh.

# The concern that the script works for. "other" stands for operations that no concern has called.
concern=${concern:-other}

# note KIND STATE NAME: remember the state of a thing that the concern will change. `settle` writes
# it into the manifest.
note() {
  # the second of these has a tab
  case $3 in *"
"* | *"	"*) echo "a name with a tab or a line break: $3" >&2; return 1 ;; esac
  to_settle="${to_settle-}$1	${2:--}	$3
"
}

# settle: write the remembered notes into the manifest, and wait until they are on the card. Call it
# before the changes. The notes of a script that was killed may not be there yet, so the first call
# waits even if there is nothing to write.
settle() {
  if [ -z "${to_settle-}" ]; then
    [ -n "${settled-}" ] || [ ! -e "$MANIFEST" ] || sync -- "$MANIFEST"
    settled=yes
    return
  fi
  if [ ! -e "$MANIFEST" ]; then
    mkdir -p "$STATE_DIR"; : >>"$MANIFEST"; sync -- "$STATE_DIR"
  fi
  # if another concern has changed a thing already, the state before its change is noted here too
  lines=$(printf %s "$to_settle" | by=$concern awk -F '\t' -v OFS='\t' '
    ! given && $5 != "." { next }
    ! given && ! (($2, $4) in before) { before[$2, $4] = $3 }
    ! given && $1 == ENVIRON["by"] { own[$2, $4] }
    ! given || (($1, $3) in own) { next }
    { own[$1, $3]; if (($1, $3) in before) $2 = before[$1, $3] }
    { print ENVIRON["by"], $1, $2, $3, "." }' "$MANIFEST" given=1 -) || return
  to_settle=
  if [ -z "$lines" ]; then settle; return; fi
  # a power cut may have cut the last line short
  [ -z "$(tail -c 1 "$MANIFEST")" ] || echo >>"$MANIFEST"
  earlier=${earlier-$(wc -l <"$MANIFEST")} # the number of lines that earlier scripts have written
  printf '%s\n' "$lines" >>"$MANIFEST" || {
    echo "cannot write $MANIFEST: No space left on device, or read-only" >&2; return 1
  }
  sync -- "$MANIFEST"
  settled=yes
}

# noted KIND NAME [CONCERN]: print the state that a concern has noted of a thing; without CONCERN,
# the state that any concern has noted.
noted() {
  kind=$1 name=$2 by=${3-} awk -F '\t' '
    $5 == "." && $2 == ENVIRON["kind"] && $4 == ENVIRON["name"] &&
    (ENVIRON["by"] == "" || $1 == ENVIRON["by"]) { print $3; exit }' "$MANIFEST" 2>/dev/null || :
}

# will_set LINE...: remember the things that the script will set, and which of these are repairs.
# Call it before `settle`.
#
# A line has five fields with tabs between them: the thing; the wanted value; kind and name of the
# manifest's line that shows that an earlier run has set the thing; and, for a file, the name of the
# line `wrote` that shows that this package wrote the present content. A thing is repaired if an
# earlier run has set it and somebody else has changed it.
will_set() {
  unfinished=$STATE_DIR/unfinished.$concern repair=1
  # after an interrupted run things differ although nobody else has changed them
  [ ! -e "$unfinished" ] || repair=0
  # shellcheck disable=SC2046 # no word at all where there is no manifest
  to_set=$(printf '%s\n' "$@" | by=$concern earlier=${earlier-} awk -F '\t' -v OFS='\t' -v "repair=$repair" '
    # what this script has noted before is no trace of an earlier run
    ! given && ENVIRON["earlier"] != "" && NR > ENVIRON["earlier"] + 0 { next }
    ! given { if ($5 == "." && $1 == ENVIRON["by"]) had[$2, $4]; next }
    { changed = $5 != "" && $5 != $4 && ("wrote", $5) in had }
    { print $1, $2, repair && (($3, $4) in had) && ! changed }
  ' $([ ! -e "$MANIFEST" ] || echo "$MANIFEST") given=1 -)
  { mkdir -p "$STATE_DIR" && true >"$unfinished"; } 2>/dev/null || true
}

# were_set: note in $REPAIRS which of the things of `will_set` were repaired, now that all are set.
# If it cannot be noted, nothing fails.
were_set() {
  [ -z "${unfinished-}" ] || rm -f -- "$unfinished"
  # the white space before each 1 is a tab
  case ${to_set-} in "") return 0 ;; *"	1" | *"	1
"*) ;; *) [ -e "$REPAIRS" ] || return 0 ;; esac
  # shellcheck disable=SC2046 # no word at all where there are no repairs
  printf '%s\n' "$to_set" | by=$concern now=$(date '+%Y-%m-%d %H:%M') awk -F '\t' -v OFS='\t' '
    function key(thing) { return ENVIRON["by"] FS thing }
    ! given { if ($7 == ".") { lines[$1 FS $2] = $0; order[++n] = $1 FS $2 } next }
    { split(lines[key($1)], was, FS); again = lines[key($1)] != "" && was[3] == $2 }
    lines[key($1)] == "" { order[++n] = key($1) }
    ! $3 { lines[key($1)] = "" }
    $3 {
      lines[key($1)] = key($1) FS $2 FS (again ? was[4] + 1 : 1) FS \
        (again ? was[5] : ENVIRON["now"]) FS ENVIRON["now"] FS "."
    }
    END { for (i = 1; i <= n; i++) if (lines[order[i]] != "") {
      print lines[order[i]]; lines[order[i]] = ""
    } }
  ' $([ ! -e "$REPAIRS" ] || echo "$REPAIRS") given=1 - >"$REPAIRS.chaos-new" &&
    if cmp -s "$REPAIRS.chaos-new" "$REPAIRS"; then rm -f -- "$REPAIRS.chaos-new"
    else
      sync -- "$REPAIRS.chaos-new" && mv -fT -- "$REPAIRS.chaos-new" "$REPAIRS" &&
        sync -- "$STATE_DIR"
    fi || :
}

# not_set THING: let `were_set` skip a thing that could not be set.
not_set() {
  to_set=$(printf '%s\n' "$to_set" | thing=$1 awk -F '\t' '$1 != ENVIRON["thing"]')
}

# keep PATH...: copy the originals of files into $ORIGINALS, or note that there were none. A file
# that any concern has noted already is not copied again. Call `settle` before the changes.
keep() {
  known=$(awk -F '\t' '$5 == "." && $2 == "file" { print $4 }' "$MANIFEST" 2>/dev/null) || :
  for each in "$@"; do
    if among "$each" "$known"; then state=-
    elif [ -e "$each" ] || [ -L "$each" ]; then
      kept=$ORIGINALS$each state=original
      mkdir -p -- "${kept%/*}"; cp -a -- "$each" "$kept.chaos-new"
      synced "$kept.chaos-new"
      mv -fT -- "$kept.chaos-new" "$kept"
      sync -- "${kept%/*}"
    else
      state=created
    fi
    note file "$state" "$each"
  done
}

# synced PATH: wait until a file is on the card. If sync cannot open it, as a link that leads
# nowhere, wait for everything instead.
synced() {
  sync -- "$1" 2>/dev/null || durable
}

# folders PATH...: note the folders above the paths that do not exist yet.
folders() {
  for each in "$@"; do
    above=${each%/*}
    until [ -d "${above:-/}" ]; do note folder created "$above"; above=${above%/*}; done
  done
}

# wrote SHA256 PATH: note the checksum of the content that the concern writes. By it undo knows
# later whether somebody else has changed the file.
wrote() {
  note wrote - "$1 $2"
}

# keep_written PATH NEW: note that a file is merged, and keep a copy of its new content, NEW.
keep_written() {
  note merged - "$1"
  copy=$WRITTEN$1
  mkdir -p -- "${copy%/*}"; cp -- "$2" "$copy.chaos-new"
  sync -- "$copy.chaos-new"; mv -fT -- "$copy.chaos-new" "$copy"; sync -- "${copy%/*}"
}

# unit_was UNIT: note whether a unit runs, and whether it is enabled.
unit_was() {
  # shellcheck disable=SC2005,SC2046 # the lines become words of one line
  [ -n "$(noted unit "$1" "$concern")" ] || note unit \
    "$(echo $(systemctl show --property=ActiveState,UnitFileState --value -- "$1"))" "$1"
}

# sysctl_was KEY: note the value of a kernel parameter. KEY is a path below /proc/sys.
sysctl_was() {
  [ ! -e "/proc/sys/$1" ] || note sysctl "$(tr '\t' ' ' <"/proc/sys/$1")" "$1"
}
