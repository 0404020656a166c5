"""Stand in for a mount namespace where a script runs in a temporary folder."""

from __future__ import annotations

from pathlib import Path

_PROGRAMS = {
    # unshare --mount --propagation slave PROGRAM...
    "unshare": 'shift 3\nexec "$@"',
    # It only adds the mount of `confined` to the list
    "mount": """\
for last; do :; done
echo "1 1 0:1 / $last rw,nosymfollow - t s rw" >>FOLDER/mountinfo""",
}


def stand_in(programs: Path) -> None:
    """Write these programs into a folder in the PATH of scripts.

    The list of mounts is ``mountinfo`` there.
    """
    for name, body in _PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body.replace('FOLDER', str(programs))}\n")
        (programs / name).chmod(0o755)
