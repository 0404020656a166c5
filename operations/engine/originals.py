"""What a node remembers of each change, so that it can be undone: originals and a manifest."""

from __future__ import annotations

from chaos_engine.facts.manifest import DIRECTORY, MANIFEST, ORIGINALS, WRITTEN
from chaos_engine.facts.observe.host import concern_at_work
from chaos_engine.facts.repairs import REPAIRS
from chaos_engine.operations.engine.shell import quote

OTHERS = "other"
"""Whose changes are those of operations that are called outside of any concern."""

KEEP = f"""\
concern=${{concern:-{OTHERS}}}
note() {{ # KIND STATE NAME: a thing that the concern will change, as it is; settle writes it down
  case $3 in *"
"* | *"\t"*) echo "a name with a tab or a line break: $3" >&2; return 1 ;; esac
  to_settle="${{to_settle-}}$1\t${{2:--}}\t$3
"
}}
settle() {{ # all that was noted is in the manifest, once a thing of the concern's, and on the disk:
  # to be called before the change itself
  [ -n "${{to_settle-}}" ] || {{ [ ! -e {MANIFEST} ] || sync -- {MANIFEST}; return; }}
  if [ ! -e {MANIFEST} ]; then
    mkdir -p {DIRECTORY}; : >>{MANIFEST}; sync -- {DIRECTORY}
  fi
  # what another concern has changed already was in the state that it found
  lines=$(printf %s "$to_settle" | by=$concern awk -F '\\t' -v OFS='\\t' '
    ! given && $5 != "." {{ next }}
    ! given && ! (($2, $4) in before) {{ before[$2, $4] = $3 }}
    ! given && $1 == ENVIRON["by"] {{ own[$2, $4] }}
    ! given || (($1, $3) in own) {{ next }}
    {{ own[$1, $3]; if (($1, $3) in before) $2 = before[$1, $3] }}
    {{ print ENVIRON["by"], $1, $2, $3, "." }}' {MANIFEST} given=1 -) || return
  to_settle=
  [ -n "$lines" ] || {{ sync -- {MANIFEST}; return; }}
  # what a power cut left of a line is no line: it lacks the dot
  [ -z "$(tail -c 1 {MANIFEST})" ] || echo >>{MANIFEST}
  printf '%s\\n' "$lines" >>{MANIFEST} || {{
    echo "cannot write {MANIFEST}: No space left on device, or read-only" >&2; return 1
  }}
  sync -- {MANIFEST}
}}
noted() {{ # KIND NAME [CONCERN]: the state that is noted of it, by any concern if none is given
  kind=$1 name=$2 by=${{3-}} awk -F '\\t' '
    $5 == "." && $2 == ENVIRON["kind"] && $4 == ENVIRON["name"] &&
    (ENVIRON["by"] == "" || $1 == ENVIRON["by"]) {{ print $3; exit }}' {MANIFEST} 2>/dev/null || :
}}
old() {{ # whether it was deployed before there was a manifest: what was kept then stays
  [ -e {DIRECTORY}/created ] || [ -e {DIRECTORY}/packages-removed ]
}}
fixes() {{ # LINE...: what will be set: thing, wanted, the kind and name of the line in the manifest
  # that is there if an earlier run has set it, and the name of a line wrote by which what was found
  # is of this package too; to be called before these lines are settled
  unfinished={DIRECTORY}/unfinished.$concern repair=1
  [ ! -e "$unfinished" ] || repair=0 # what a run that was cut short has left is nobody's doing
  to_fix=$(printf '%s\n' "$@" | by=$concern awk -F '\t' -v OFS='\t' -v repair=$repair '
    ! given {{ if ($5 == "." && $1 == ENVIRON["by"]) had[$2, $4]; next }}
    {{ changed = $5 != "" && $5 != $4 && ("wrote", $5) in had }}
    {{ print $1, $2, repair && (($3, $4) in had) && ! changed }}
  ' $([ ! -e {MANIFEST} ] || echo {MANIFEST}) given=1 -)
  {{ mkdir -p {DIRECTORY} && true >"$unfinished"; }} 2>/dev/null || true
}}
fixed() {{ # what was set, is: note what of that was a repair. It is no reason to fail
  [ -z "${{unfinished-}}" ] || rm -f -- "$unfinished"
  case ${{to_fix-}} in "") return 0 ;; *"	1" | *"	1
"*) ;; *) [ -e {REPAIRS} ] || return 0 ;; esac
  printf '%s\n' "$to_fix" | by=$concern now=$(date '+%Y-%m-%d %H:%M') awk -F '\t' -v OFS='\t' '
    function key(thing) {{ return ENVIRON["by"] FS thing }}
    ! given {{ if ($7 == ".") {{ lines[$1 FS $2] = $0; order[++n] = $1 FS $2 }} next }}
    {{ split(lines[key($1)], was, FS); again = lines[key($1)] != "" && was[3] == $2 }}
    lines[key($1)] == "" {{ order[++n] = key($1) }}
    ! $3 {{ lines[key($1)] = "" }}
    $3 {{
      lines[key($1)] = key($1) FS $2 FS (again ? was[4] + 1 : 1) FS \
        (again ? was[5] : ENVIRON["now"]) FS ENVIRON["now"] FS "."
    }}
    END {{ for (i = 1; i <= n; i++) if (lines[order[i]] != "") {{
      print lines[order[i]]; lines[order[i]] = ""
    }} }}
  ' $([ ! -e {REPAIRS} ] || echo {REPAIRS}) given=1 - >{REPAIRS}.chaos-new &&
    if cmp -s {REPAIRS}.chaos-new {REPAIRS}; then rm -f -- {REPAIRS}.chaos-new
    else
      sync -- {REPAIRS}.chaos-new && mv -fT -- {REPAIRS}.chaos-new {REPAIRS} && sync -- {DIRECTORY}
    fi || :
}}
not_fixed() {{ # THING: it is not as wanted yet
  to_fix=$(printf '%s\n' "$to_fix" | thing=$1 awk -F '\t' '$1 != ENVIRON["thing"]')
}}
keep() {{ # PATH...: keep the originals of files, once, or note that there were none; settle before
  # the change itself
  known=$(awk -F '\\t' '$5 == "." && $2 == "file" {{ print $4 }}' {MANIFEST} 2>/dev/null) || :
  for each in "$@"; do
    if among "$each" "$known"; then state=-
    elif old && [ -n "$(find "{ORIGINALS}$each" -maxdepth 0 2>/dev/null)" ]; then state=original
    elif old && grep -qxFs -- "$each" {DIRECTORY}/created; then state=created
    elif [ -e "$each" ] || [ -L "$each" ]; then
      kept={ORIGINALS}$each state=original
      mkdir -p -- "${{kept%/*}}"; cp -a -- "$each" "$kept.chaos-new"
      synced "$kept.chaos-new"
      mv -fT -- "$kept.chaos-new" "$kept"
      sync -- "${{kept%/*}}"
    else
      state=created
    fi
    note file "$state" "$each"
  done
}}
synced() {{ # PATH: a link that leads nowhere cannot be synchronised by itself
  sync -- "$1" 2>/dev/null || durable
}}
folders() {{ # PATH: note the folders above it that are not there
  above=${{1%/*}}
  until [ -d "${{above:-/}}" ]; do note folder created "$above"; above=${{above%/*}}; done
}}
wrote() {{ # SHA256 PATH: what the concern puts there, to be told from what others do
  note wrote - "$1 $2"
}}
keep_written() {{ # PATH NEW: keep also what is written, as one that has the node's own content
  note merged - "$1"
  copy={WRITTEN}$1
  mkdir -p -- "${{copy%/*}}"; cp -- "$2" "$copy.chaos-new"
  sync -- "$copy.chaos-new"; mv -fT -- "$copy.chaos-new" "$copy"; sync -- "${{copy%/*}}"
}}
unit_was() {{ # UNIT: note what it was
  [ -n "$(noted unit "$1" "$concern")" ] || note unit \\
    "$(echo $(systemctl show --property=ActiveState,UnitFileState --value -- "$1"))" "$1"
}}
sysctl_was() {{ # KEY, as a path below /proc/sys: note its value
  [ ! -e "/proc/sys/$1" ] || note sysctl "$(tr '\\t' ' ' <"/proc/sys/$1")" "$1"
}}
among() {{ # LINE TEXT: whether the text has the line
  case "
$2
" in *"
$1
"*) ;; *) false ;; esac
}}
"""
"""Shell functions for the scripts of operations, see `recorded`. What is noted of a concern is how
things were before its first change: later calls of the same leave that."""


def recorded(script: str) -> str:
    """A shell script that calls functions of `KEEP`, told for which concern it works.

    A concern is known by the name of its deploy (`chaos_engine.deploys.concern`).

    **Example:** ``recorded(f"{KEEP}keep /etc/hosts")``
    """
    return f"concern={quote(concern_at_work())}\n{script}"
