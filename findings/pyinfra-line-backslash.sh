#!/bin/sh
# pyinfra's files.line writes a line with a backslash as the host's sh echoes it, again in each run.
#
# Version:   pyinfra 3.10.0, with dash as sh (Debian, Ubuntu) and with bash
# Input:     a file with one line, and files.line with pattern=a\tb\nc, whose regular expression is
#            escaped by escape_regex_characters=True, in two runs
# Expected:  the line as given, once
# Seen:      the operation appends with echo. That of dash reads \t and \n, so the file gets a tab and a
#            line more; the second run does not find the line, and appends it again. With bash it is as
#            given. files.block writes the same text as given with both
# So:        this package writes whole files, whose content travels by standard input
# Needs:     Python 3.10 or newer with venv, PyPI; dash, bash
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install pyinfra==3.10.0
cat >"$work/deploy.py" <<'END'
from pyinfra.operations import files

for shell in ("dash", "bash"):
    files.line(
        name=f"Add a line by {shell}",
        path=shell,
        line=r"pattern=a\tb\nc",
        escape_regex_characters=True,
        _shell_executable=shell,
    )
END
cd "$work"
for shell in dash bash; do echo first >"$shell"; done
for _ in 1 2; do venv/bin/pyinfra @local deploy.py -y >log 2>&1 || { cat log; exit 1; }; done
for shell in dash bash; do sed "s/	/TAB/g; s/^/$shell: /" "$shell"; done | tee seen
cat >expected <<'END'
dash: first
dash: pattern=aTABb
dash: c
dash: pattern=aTABb
dash: c
bash: first
bash: pattern=a\tb\nc
END
cmp -s seen expected || { echo "that has changed" >&2; exit 1; }
