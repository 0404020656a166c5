# Note each thing that a concern will change, as it was before, so that undo can bring it back.
#
# The notes are lines of $MANIFEST. A concern's first note of a thing is the one that counts: later
# calls of the same leave it. Needs the functions of prelude.sh.

# Which concern the script works for. "other" stands for operations outside of any concern.
concern=${concern:-other}

# note KIND STATE NAME: remember a thing that the concern will change, as it is. `settle` writes it
# down.
note() {
  # the second of these has a tab
  case $3 in *"
"* | *"	"*) echo "a name with a tab or a line break: $3" >&2; return 1 ;; esac
  to_settle="${to_settle-}$1	${2:--}	$3
"
}

# settle: write all notes into the manifest, each thing of the concern once, and wait until they are
# on the disk. Call it before the change itself.
settle() {
  [ -n "${to_settle-}" ] || { [ ! -e "$MANIFEST" ] || sync -- "$MANIFEST"; return; }
  if [ ! -e "$MANIFEST" ]; then
    mkdir -p "$STATE_DIR"; : >>"$MANIFEST"; sync -- "$STATE_DIR"
  fi
  # what another concern has changed already was in the state that it found
  lines=$(printf %s "$to_settle" | by=$concern awk -F '\t' -v OFS='\t' '
    ! given && $5 != "." { next }
    ! given && ! (($2, $4) in before) { before[$2, $4] = $3 }
    ! given && $1 == ENVIRON["by"] { own[$2, $4] }
    ! given || (($1, $3) in own) { next }
    { own[$1, $3]; if (($1, $3) in before) $2 = before[$1, $3] }
    { print ENVIRON["by"], $1, $2, $3, "." }' "$MANIFEST" given=1 -) || return
  to_settle=
  [ -n "$lines" ] || { sync -- "$MANIFEST"; return; }
  # what a power cut left of a line is no line: it lacks the dot
  [ -z "$(tail -c 1 "$MANIFEST")" ] || echo >>"$MANIFEST"
  printf '%s\n' "$lines" >>"$MANIFEST" || {
    echo "cannot write $MANIFEST: No space left on device, or read-only" >&2; return 1
  }
  sync -- "$MANIFEST"
}

# noted KIND NAME [CONCERN]: print the state that is noted of a thing, by any concern if none is
# given.
noted() {
  kind=$1 name=$2 by=${3-} awk -F '\t' '
    $5 == "." && $2 == ENVIRON["kind"] && $4 == ENVIRON["name"] &&
    (ENVIRON["by"] == "" || $1 == ENVIRON["by"]) { print $3; exit }' "$MANIFEST" 2>/dev/null || :
}

# fixes LINE...: remember what will be set. Call it before these lines are settled.
#
# The words of a line are separated by tabs: the thing, what is wanted, the kind and name of the
# line in the manifest that is there if an earlier run has set it, and the name of a line `wrote` by
# which what was found is of this package too.
fixes() {
  unfinished=$STATE_DIR/unfinished.$concern repair=1
  # what an interrupted run has left was changed by nobody else
  [ ! -e "$unfinished" ] || repair=0
  # shellcheck disable=SC2046 # no word at all where there is no manifest
  to_fix=$(printf '%s\n' "$@" | by=$concern awk -F '\t' -v OFS='\t' -v "repair=$repair" '
    ! given { if ($5 == "." && $1 == ENVIRON["by"]) had[$2, $4]; next }
    { changed = $5 != "" && $5 != $4 && ("wrote", $5) in had }
    { print $1, $2, repair && (($3, $4) in had) && ! changed }
  ' $([ ! -e "$MANIFEST" ] || echo "$MANIFEST") given=1 -)
  { mkdir -p "$STATE_DIR" && true >"$unfinished"; } 2>/dev/null || true
}

# fixed: what was remembered by `fixes` is set; note which of it was a repair, in $REPAIRS. Where
# that cannot be noted nothing fails.
fixed() {
  [ -z "${unfinished-}" ] || rm -f -- "$unfinished"
  # the white space before each 1 is a tab
  case ${to_fix-} in "") return 0 ;; *"	1" | *"	1
"*) ;; *) [ -e "$REPAIRS" ] || return 0 ;; esac
  # shellcheck disable=SC2046 # no word at all where there are no repairs
  printf '%s\n' "$to_fix" | by=$concern now=$(date '+%Y-%m-%d %H:%M') awk -F '\t' -v OFS='\t' '
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

# not_fixed THING: it is not as wanted yet.
not_fixed() {
  to_fix=$(printf '%s\n' "$to_fix" | thing=$1 awk -F '\t' '$1 != ENVIRON["thing"]')
}

# keep PATH...: keep the originals of files, once, or note that there were none. Call `settle`
# before the change itself.
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

# synced PATH: synchronise a file. A link that leads nowhere cannot be synchronised by itself.
synced() {
  sync -- "$1" 2>/dev/null || durable
}

# folders PATH...: note the folders above some paths that are not there.
folders() {
  for each in "$@"; do
    above=${each%/*}
    until [ -d "${above:-/}" ]; do note folder created "$above"; above=${above%/*}; done
  done
}

# wrote SHA256 PATH: note what the concern puts there, to be told from what others write.
wrote() {
  note wrote - "$1 $2"
}

# keep_written PATH NEW: note that a file has content of the node's owner too, and keep a copy of
# what is written.
keep_written() {
  note merged - "$1"
  copy=$WRITTEN$1
  mkdir -p -- "${copy%/*}"; cp -- "$2" "$copy.chaos-new"
  sync -- "$copy.chaos-new"; mv -fT -- "$copy.chaos-new" "$copy"; sync -- "${copy%/*}"
}

# unit_was UNIT: note whether a unit runs and is enabled.
unit_was() {
  # shellcheck disable=SC2005,SC2046 # the lines become words of one line
  [ -n "$(noted unit "$1" "$concern")" ] || note unit \
    "$(echo $(systemctl show --property=ActiveState,UnitFileState --value -- "$1"))" "$1"
}

# sysctl_was KEY: note the value of a kernel parameter. KEY is a path below /proc/sys.
sysctl_was() {
  [ ! -e "/proc/sys/$1" ] || note sysctl "$(tr '\t' ' ' <"/proc/sys/$1")" "$1"
}

# among LINE TEXT: whether the text has the line.
among() {
  case "
$2
" in *"
$1
"*) ;; *) false ;; esac
}
