"""Mount the node's Gluster volume, its NFS export, or RAM on ``/var/log``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pyinfra.api.command import StringCommand

from chaos_engine.facts.log_mount import LogShare, LogShares
from chaos_engine.facts.mounts import Answer, Answers, Mount, Mounts, mounted_at
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.share import FLAGS, TARGET, is_share
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import MemorySizeOrNone, ShareNameOrNone, memory_bytes
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, of_unit
from chaos_engine.operations.engine.summary import fall_short
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.undo import Undo

IN_RAM = "var-log-in-ram"
"""Source of the mount when RAM is mounted."""
CHECKED = "checked@"
"""Prefix of the mount's source if Gluster's client runs with a graph that the node has checked.

A graph is the client's configuration, which it usually takes from a server. The prefix is not part
of any host name.
"""

HELPER = "/usr/local/sbin/var-log-mount"
SERVICE = "/etc/systemd/system/var-log.service"

# Not required, since storage that is down must not fail the run. The timer tries again later
SHARE = Unit("var-log.service", required=False)
CHECK = Unit("var-log-check.timer")


def reads(volume: str, wanted: Iterable[File], ram_size: str = "") -> list[Read]:
    """Return what `mount_log_share` will observe for the same arguments."""
    return [
        Read.of(Mounts, path=TARGET),
        Read.of(Answers, path=TARGET),
        Read.of(LogShares),
        *files.reads(wanted, units=[SHARE, CHECK]),
    ]


@converge(reads=reads)
def mount_log_share(
    volume: ShareNameOrNone, wanted: Iterable[File], ram_size: MemorySizeOrNone = ""
) -> Commands:
    """Have a log share mounted on ``/var/log``, now, at each boot, and whenever it comes back.

    + volume: name of a Gluster volume, as ``"pi1"``, or path of an NFS export, as
      ``"/srv/log/pi1"``; "" to have a file system in RAM there instead
    + wanted: the helper script, the units that call it, and the files that these read
    + ram_size: size of the file system in RAM, as ``"16M"``, "" for any size. With a share, RAM is
      mounted only while the share is away, and the size of that RAM is not checked

    If the share cannot be mounted now, the operation warns with the reason, and the run's exit code
    is not 0. The run goes on with the node's other concerns. The node tries again by itself, as
    does the next run. Raises `NodeError` if something else is mounted on ``/var/log``, or will be
    at the next boot.

    A mounted share that lacks a mount flag (`FLAGS`) gets it without an unmount, so that programs
    can go on writing there. A share whose Gluster client runs with an unchecked graph stays mounted
    until the next boot, with a warning.

    **Example:** ``mount_log_share(name="Mount the log share", volume="pi1", wanted=[File(...)])``
    """
    wanted = tuple(wanted)
    share = _share_title(volume)
    if conflict := mount_conflict(_mounted(), observe(LogShares)):
        raise NodeError(conflict)
    problem = _observed_problem(volume, ram_size)
    todo = with_remount(files.decide(wanted, units=[SHARE, CHECK]), problem)
    harden = f"{HELPER} check" if missing_flags(_mounted()) and not problem else ""
    if volume and has_unchecked_graph(_mounted()) and not problem:
        warn(
            f"{TARGET} was mounted by an older version, with any graph that a storage server "
            "sends; the next boot mounts it with a checked one: reboot the node when it suits"
        )
    if not todo and not harden:
        current()[1].noop(f"{TARGET}: on {share or 'RAM'}")
        return
    if problem:
        verb = f"mount {share}" if share else f"put {TARGET} into RAM"
        because(f"{verb}: {problem}")
        todo = replace(todo, repairs=repairs(todo, volume, ram_size))
    if harden:
        because(f"give {TARGET} the flags {', '.join(missing_flags(_mounted()))}")
    check = f'sh -n "$stage"{HELPER}' if HELPER in {file.path for file in todo.write} else ""
    yield from files.transaction(todo, check, harden, noop=TARGET, force=bool(harden))
    if _observed_problem(volume, ram_size):
        # The helper's first attempt is short, since it may hold up the boot: one silent server
        # among several makes it fail. By now RAM is mounted, so a second attempt may take longer.
        yield StringCommand("systemctl start", SHARE.name, "|| true")
    problem = _observed_problem(volume, ram_size)
    if problem:
        reason = observe(LogShares).reason
        away = f"{problem}{': ' + reason if reason else ''}"
        warn(
            f"{away}; {'fix the storage servers, the' if share else 'the'} node goes on trying "
            "and mounts it by itself (journalctl -u var-log)"
        )
        # Not a NodeError: a host that fails gets no further operations
        fall_short(away)
    elif missing := missing_flags(_mounted()):
        warn(
            f"{TARGET} is mounted without {', '.join(missing)}, and cannot be given it; reboot the "
            "node and run again"
        )


def repairs(todo: Plan, volume: str, ram_size: str) -> tuple[Repair, ...]:
    """Return the repairs of a plan that mounts ``/var/log`` again: a pure function.

    + todo: the plan
    + volume, ram_size: as `mount_log_share` takes them

    If files change too, the settings have changed, and the mount is no repair.
    """
    others = tuple(one for one in todo.repairs if one.thing != SHARE.name)
    if todo.write:
        return others
    usual = of_unit(SHARE.name, f"mounted {volume} {ram_size}")
    umount = rf"umount[[:space:]].*{TARGET}([^a-zA-Z0-9._/-]|$)"
    search = usual.search._replace(pattern=f"{usual.search.pattern}|{umount}")
    away = ("storage servers that go away (journalctl -u var-log tells)",) if volume else ()
    return (*others, replace(usual, search=search, suspects=away))


def missing_flags(mounted: Mount | None) -> tuple[str, ...]:
    """Return the mount flags that ``/var/log`` lacks, none if nothing is mounted: a pure function.

    + mounted: what is mounted there, ``None`` for nothing
    """
    return tuple(flag for flag in FLAGS if mounted and flag not in mounted.options)


def has_unchecked_graph(mounted: Mount | None) -> bool:
    """Tell whether ``/var/log`` is on Gluster with an unchecked graph, see `CHECKED`."""
    return (
        mounted is not None
        and mounted.fstype == "fuse.glusterfs"
        and not mounted.source.startswith(CHECKED)
    )


def mount_conflict(mounted: Mount | None, share: LogShare) -> str:
    """Say what is in the way of a mount on ``/var/log``, "" if nothing is: a pure function.

    + mounted: what is mounted there, ``None`` for nothing
    + share: what the node has for ``/var/log`` besides: a link, units, lines in fstab
    """
    if share.link:
        # the kernel would mount on the folder that the link points to
        return (
            f"{TARGET} is a symbolic link to {share.link}; the log share takes its place: remove "
            f"the link, make {TARGET} a folder (mode 755), reboot the node and run again"
        )
    if share.claims:
        return (
            f"{TARGET} is claimed by {', '.join(share.claims)}; remove that, reboot the node and "
            "run again"
        )
    ours = mounted is None or is_share(mounted.fstype, mounted.source) or mounted.source == IN_RAM
    if mounted and not ours:
        return (
            f"{mounted.source} ({mounted.fstype}) is mounted on {TARGET}; unmount it, also for the "
            "next boot, and run again"
        )
    return ""


def share_problem(mounted: Mount | None, answer: Answer, volume: str, ram_size: str = "") -> str:
    """Say what is wrong with ``/var/log``, "" if it is mounted as wanted and answers.

    + mounted: what is mounted there, ``None`` for nothing
    + answer: whether the mount answers: "answers", "fails" or "hangs"
    + volume, ram_size: as `mount_log_share` takes them
    """
    share = _share_title(volume)
    if not share:
        if mounted is None or mounted.source != IN_RAM:
            return f"{TARGET} is not in RAM"
        size = f"size={kibibytes(ram_size)}k" if ram_size else ""
        found = next((o for o in mounted.super_options if o.startswith("size=")), "")
        return f"{TARGET} in RAM has {found}, not {ram_size}" if size and found != size else ""
    if mounted is None or mounted.source == IN_RAM:
        return f"{TARGET} is not on {share}"
    found = mounted.source.partition(":")[2]
    name = found if mounted.fstype == "nfs4" else found.lstrip("/")
    if name != volume:
        return f"{TARGET} is on {mounted.source}, not on {share}"
    if answer != "answers":
        return f"{share} is mounted on {TARGET}, but {answer}"
    return ""


def _share_title(volume: str) -> str:
    """Return the words for a share in a sentence, as "the Gluster volume pi1"; "" for RAM."""
    kind = "NFS export" if volume.startswith("/") else "Gluster volume"
    return f"the {kind} {volume}" if volume else ""


def kibibytes(size: str) -> int:
    """Return a size in KiB, rounded up to pages of 4 KiB as tmpfs does.

    **Example:** ``kibibytes("16M") == 16384``
    """
    return -(-memory_bytes(size) // 4096) * 4


def with_remount(todo: Plan, problem: str) -> Plan:
    """Return the plan with a restart of the share's unit if the mount has a problem, else without.

    + problem: what `share_problem` returns

    systemd may show the unit as active although the mount has a problem. Without a problem the unit
    is not restarted, even if its files change, since programs write to the mount.
    """
    others = tuple(unit for unit in todo.restart if unit != SHARE)
    again = (SHARE,) if problem and SHARE not in todo.start else ()
    return replace(todo, restart=(*again, *others))


def _observed_problem(volume: str, ram_size: str) -> str:
    """Say what is wrong with ``/var/log`` of the current host, as `share_problem` does."""
    return share_problem(_mounted(), observe(Answers, path=TARGET), volume, ram_size)


def _mounted() -> Mount | None:
    """Return what is mounted on ``/var/log`` of the current host, ``None`` for nothing."""
    mounts = observe(Mounts, path=TARGET)
    return mounted_at(mounts, TARGET)


UNDO = Undo(
    needed_when_joined=True,
    note="logs on a Gluster volume or an NFS export stay there; those in RAM are gone",
    first="for one in var-log-check.timer var-log-check.service; do stop_unit $one; done",
    stopped=f"""\
off_share "$RUN_DIR/var-log" {IN_RAM}
off_share {TARGET} {IN_RAM}
rm -rf -- "$RUN_DIR"/var-log "$RUN_DIR"/var-log.*""",
)
