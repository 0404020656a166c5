"""Let root work safely below ``/var/log``, where other machines write too.

Each node mounts a log share on ``/var/log``: a Gluster volume or an NFS export. The storage servers
can write to the share. So can all other nodes if the servers allow it. A file on the share may
change at any moment: a folder may become a link to ``/etc``, or a file may become a FIFO that
nobody writes to. So this package's scripts work on the share only through the shell function
``confined`` (`CONFINED`).
"""

from __future__ import annotations

TARGET = "/var/log"
"""The folder where a node's log share is mounted."""

SECONDS = 5
"""The time limit, in seconds, of one call of the shell function ``confined``."""

MOST_BYTES = 1 << 20
"""The largest size, in bytes, of this package's own files on the log share. Larger files belong to
somebody else and are not read."""

FLAGS = ("nosuid", "nodev", "noexec")
"""The mount options of the log share. No program on the share can be run. ``nosymfollow``
is not used, because kubelet needs its symbolic links on the share."""

NFS = "var-log@"
"""The source of this package's NFS mount begins with this text. No host name begins with it, so
other NFS mounts do not match."""

PATTERN = f'"fuse.glusterfs "* | "nfs4 {NFS}"*'
"""A pattern for sh's ``case`` that matches the text ``TYPE SOURCE`` of a log share's mount."""

UNCONFINED = 96
"""The exit status of ``confined`` if the kernel cannot mount the share safely. For a script that
takes too long, ``timeout`` gives another status: 124 or 137, or 125 with uutils before 0.6, as in
Ubuntu 25.10."""


def confined(mounts: str = "/proc/self/mountinfo") -> str:
    """Return the shell function ``confined``, which runs a script safely on a log share.

    + mounts: path of the kernel's list of mounts

    The function mounts the share a second time, visible only to the script. On this mount the
    kernel follows no symbolic link and opens no device. So other machines cannot lead the script
    away from the share.

    A script may hang if the share's server is gone, or if the script reads a FIFO. So a second
    shell starts the script, collects its output, and prints this output after the script has ended.
    If this takes too long, ``timeout`` kills the second shell. The hanging script does not have the
    caller's output open, so the caller does not wait for it.

    The function also works in a shell with ``set -eu``.
    """
    return f"""\
# confined SECONDS FOLDER SCRIPT [ARGUMENT...]: run a script of sh. For the script, the kernel
# follows no link in FOLDER and opens no device there, because other machines write FOLDER too.
# Status {UNCONFINED}: the kernel does not support this, and the script has not run
confined() {{
  limit=$1
  shift
  timeout -k 1 "$limit" unshare --mount --propagation slave sh -c '
    at=$1
    shift
    cd /
    {{ mount --bind "$at" "$at" && mount --make-private "$at" &&
      mount -i -o remount,bind,nosymfollow,{",".join(FLAGS)} "$at"; }} >/dev/null 2>&1 ||
      exit {UNCONFINED}
    # awk, because sh reads byte by byte, and users may have made this list long
    flags=$(awk -v "at=$at" "\\$5 == at {{ flags = \\$6 }} END {{ print flags }}" {mounts})
    case ,$flags, in *,nosymfollow,*) ;; *) exit {UNCONFINED} ;; esac
    script=$1
    shift
    said=$(sh -c "$script" sh "$@" 2>/dev/null)
    status=$?
    [ -z "$said" ] || printf "%s\\n" "$said"
    exit "$status"' sh "$@" </dev/null 9>&-
}}
"""


CONFINED = confined()
"""The text of the shell function ``confined``, to put into scripts."""


def uppermost(mounts: str = "/proc/self/mountinfo") -> str:
    """Return the shell function ``uppermost``, which tells what is mounted at a path.

    + mounts: path of the kernel's list of mounts

    The function prints the text ``TYPE SOURCE`` of the mount that covers all others at this path,
    an empty line if nothing is mounted there. `PATTERN` matches the text of a log share.
    """
    return f"""\
# uppermost PATH: print type and source of the uppermost mount exactly there
uppermost() {{
  # awk, because sh reads byte by byte, and users may have made this list long
  awk -v "at=$1" '$5 == at {{ sub(/^.* - /, ""); found = $1 " " $2 }}
    END {{ print found }}' {mounts}
}}
"""


UPPERMOST = uppermost()
"""The text of the shell function ``uppermost``, to put into scripts."""


def is_share(fstype: str, source: str) -> bool:
    """Tell whether a mount is a log share, of any server and for any node.

    + fstype, source: the mount's file system type and source
    """
    return fstype == "fuse.glusterfs" or (fstype == "nfs4" and source.startswith(NFS))


def on_share(path: str) -> bool:
    """Tell whether a path is below ``/var/log``, where a node's log share is mounted."""
    return path.startswith(f"{TARGET}/")
