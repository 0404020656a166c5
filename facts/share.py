"""Let root work safely below ``/var/log``, where other machines write too.

Each node mounts a log share there: a Gluster volume or an NFS export. Storage servers can write it
and, unless they prevent that, so can every other node. So anything there may change at any moment:
a folder may become a link to ``/etc``, a file may become a FIFO that nobody writes to. All that
this package does there goes through `CONFINED`.
"""

from __future__ import annotations

TARGET = "/var/log"
"""The folder where a node's log share is mounted."""

SECONDS = 5
"""How long one call of `confined` may take."""

MOST_BYTES = 1 << 20
"""The largest size of this package's files. A larger file is not ours, and is not copied."""

FLAGS = ("nosuid", "nodev", "noexec")
"""The mount options of the share, so that no program on it can be run. Links are followed, because
kubelet has some there."""

NFS = "var-log@"
"""The beginning of the source of this package's NFS mount. No host's name can begin with it, so
other NFS mounts are not touched."""

PATTERN = f'"fuse.glusterfs "* | "nfs4 {NFS}"*'
"""A pattern of sh's ``case`` that matches type and source of a log share."""

UNCONFINED = 96
"""The exit status of `confined` if the kernel does not support it. ``timeout`` has other ones: 124
or 137 for a command that took too long, and 125 with uutils before 0.6, as in Ubuntu 25.10."""


def confined(mounts: str = "/proc/self/mountinfo") -> str:
    """Return the shell function ``confined``, by which a script works on a share.

    + mounts: the kernel's list of mounts

    The script may have ``set -eu``. The function's script gets ``$1`` and following ones.
    """
    return f"""\
# Others write the share: the kernel is told, for what works there alone, to follow no link on it
# and to open no device. So it does not matter what is exchanged for what meanwhile, nor where a
# link leads. A shell is killed where what waits for a dead share, or reads a FIFO, is not, and it
# prints what that says once it has ended. Status {UNCONFINED}: it cannot be had, nothing was done
confined() {{ # SECONDS FOLDER SCRIPT [ARGUMENT...]: run it, where FOLDER is the share
  limit=$1
  shift
  timeout -k 1 "$limit" unshare --mount --propagation slave sh -c '
    at=$1
    shift
    cd /
    {{ mount --bind "$at" "$at" && mount --make-private "$at" &&
      mount -i -o remount,bind,nosymfollow,{",".join(FLAGS)} "$at"; }} >/dev/null 2>&1 ||
      exit {UNCONFINED}
    # not the shell itself: users may have made that list long, and it reads it byte by byte
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
"""The function of `confined`, for scripts on a node."""


def is_share(fstype: str, source: str) -> bool:
    """Tell whether a mount of this type and source is a log share, of any server and node."""
    return fstype == "fuse.glusterfs" or (fstype == "nfs4" and source.startswith(NFS))


def on_share(path: str) -> bool:
    """Tell whether a path is below the folder of the log share."""
    return path.startswith(f"{TARGET}/")
