"""Let root work safely below ``/var/log``, where other machines write too.

Each node mounts a log share there: a Gluster volume or an NFS export. The storage servers can write
the share. Every other node can too, unless the servers prevent it. So anything there may change at
any moment: a folder may become a link to ``/etc``, and a file may become a FIFO that nobody writes
to. Scripts of this package work there only through the shell function in `CONFINED`.
"""

from __future__ import annotations

TARGET = "/var/log"
"""The folder where a node's log share is mounted."""

SECONDS = 5
"""How long one call of `confined` may take."""

MOST_BYTES = 1 << 20
"""The largest size of this package's files. A larger file is somebody else's and is not read."""

FLAGS = ("nosuid", "nodev", "noexec")
"""The mount options of the share: no program on it can be run. ``nosymfollow`` is not among them,
because kubelet needs its links there."""

NFS = "var-log@"
"""The beginning of the source of this package's NFS mount. No host's name can begin with it, so
other NFS mounts are not touched."""

PATTERN = f'"fuse.glusterfs "* | "nfs4 {NFS}"*'
"""A pattern of sh's ``case`` that matches type and source of a log share."""

UNCONFINED = 96
"""The exit status of `confined` if the kernel does not support it. ``timeout`` has other statuses
for a script that takes too long: 124 or 137, and 125 with uutils before 0.6, as in Ubuntu 25.10."""


def confined(mounts: str = "/proc/self/mountinfo") -> str:
    """Return the shell function ``confined``, which runs a script that works on a log share.

    + mounts: path of the kernel's list of mounts

    The function mounts the share once more, in a way that only the script sees: the kernel follows
    no link on this mount and opens no device. So nothing that other machines put there leads the
    script elsewhere.

    A process that waits for a dead share, or reads a FIFO, may not end. So ``timeout`` kills a
    shell that has started the script. This shell prints the script's output after the script has
    ended, so that a script that hangs does not keep the output open.

    The caller may have ``set -eu``.
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
"""The shell function that `confined` returns."""


def is_share(fstype: str, source: str) -> bool:
    """Tell whether a mount of this type and source is a log share, whatever its server or node."""
    return fstype == "fuse.glusterfs" or (fstype == "nfs4" and source.startswith(NFS))


def on_share(path: str) -> bool:
    """Tell whether a path is below the folder of the log share."""
    return path.startswith(f"{TARGET}/")
