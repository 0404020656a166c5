"""Work of root below ``/var/log``, where other machines write too.

Each node mounts a Gluster volume or an NFS export there, which storage servers and, unless they see
to it, every other node can write.
So nothing there is what it was a moment ago: a folder is a link to ``/etc``, a file is a FIFO that
nobody ever writes. Whatever this package does there goes through `CONFINED`.
"""

from __future__ import annotations

TARGET = "/var/log"
"""Where a node's log share is mounted."""

SECONDS = 5
"""How long one visit to the share may take."""

MOST_BYTES = 1 << 20
"""What is larger is none of our files, and is not copied from the share."""

FLAGS = ("nosuid", "nodev", "noexec")
"""How the share is mounted for all: a program on it is none. Links are followed, kubelet has some
there."""

NFS = "var-log@"
"""Begins the source of an NFS share that is ours; no host's name can. What others mount by NFS is
not touched."""

PATTERN = f'"fuse.glusterfs "* | "nfs4 {NFS}"*'
"""A log share, in sh's ``case`` of type and source."""

UNCONFINED = 96
"""Status of `confined` where the kernel cannot be told. It is none that ``timeout`` has: what has
taken too long gives 124 or 137, and with uutils before 0.6, as in Ubuntu 25.10, 125."""


def confined(mounts: str = "/proc/self/mountinfo") -> str:
    """The shell function by which a script works on a share, for ``set -eu`` too.

    + mounts: the list of what is mounted
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
"""`confined`, on a node."""


def is_share(fstype: str, source: str) -> bool:
    """Whether a mount of this type and source is a log share, of whatever server and node."""
    return fstype == "fuse.glusterfs" or (fstype == "nfs4" and source.startswith(NFS))


def on_share(path: str) -> bool:
    """Whether a path is below the log share's place."""
    return path.startswith(f"{TARGET}/")
