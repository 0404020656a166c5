"""Programs that stand in for a mount namespace where a script is run below a directory."""

from __future__ import annotations

from pathlib import Path

_PROGRAMS = {
    # unshare --mount --propagation slave PROGRAM...
    "unshare": 'shift 3\nexec "$@"',
    # what confined mounts is in the list; no more is done
    "mount": """\
for last; do :; done
echo "1 1 0:1 / $last rw,nosymfollow - t s rw" >>FOLDER/mountinfo""",
}


def stand_in(programs: Path) -> None:
    """Have scripts find these programs in a folder that is in their PATH, and the list of what is
    mounted as ``mountinfo`` there."""
    for name, body in _PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body.replace('FOLDER', str(programs))}\n")
        (programs / name).chmod(0o755)
