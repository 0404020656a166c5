"""Mount the node's Gluster volume, its NFS export, or RAM on ``/var/log``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pyinfra.api.command import StringCommand

from chaos_engine.facts.log_mount import LogShare, LogShares
from chaos_engine.facts.mounts import Answer, Answers, Mount, Mounts, mounted_at
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.share import FLAGS, PATTERN, TARGET, is_share
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import MemorySizeOrNone, ShareNameOrNone, memory_bytes
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, of_unit
from chaos_engine.operations.engine.summary import fall_short
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.undo import Undo

IN_RAM = "var-log-in-ram"
"""Name of the mount's source if ``/var/log`` is in RAM."""
CHECKED = "checked@"
"""Prefix of the mount's source if Gluster's client runs with a graph that the node has checked.

A graph is the client's configuration, which the client usually gets from a server. No host name has
this prefix.
"""

HELPER = "/usr/local/sbin/var-log-mount"
SERVICE = "/etc/systemd/system/var-log.service"

# Not required: storage that is down must not fail the run. The timer retries later
SHARE = Unit("var-log.service", required=False)
CHECK = Unit("var-log-check.timer")


def reads(volume: str, wanted: Iterable[File], ram_size: str = "") -> list[Read]:
    """Return the facts that `mount_log_share` reads when called with these arguments."""
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
    """Mount a Gluster volume, an NFS export or RAM on ``/var/log``, now and at each boot.

    + volume: name of a Gluster volume, such as ``"pi1"``, or path of an NFS export, such as
      ``"/srv/log/pi1"``; "" for a file system in RAM
    + wanted: files to write: a mount script, the units that call the script, and the files that
      both read
    + ram_size: size of the file system in RAM, such as ``"16M"``; "" for any size. If there is a
      volume or an export, RAM is mounted only while the servers are away, and this size is not
      checked

    If the mount fails, the operation warns with the reason. The run continues, but its exit code is
    not 0. The node retries the mount by itself, and the next run retries it too. Raises `NodeError`
    if something else is mounted on ``/var/log``, or will be mounted there at the next boot.

    If the mount lacks one of the mount options in `FLAGS`, a remount adds it. The operation does
    not unmount for this, because programs write to the mount. If Gluster's client runs with a
    configuration that the node has not checked (`CHECKED`), the operation only warns. The next boot
    mounts the volume with a checked configuration.

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
            f"{TARGET} was mounted by an older version of this package, which did not check the "
            "Gluster client's configuration; the next boot mounts it with a checked configuration: "
            "reboot the node when it suits"
        )
    if not todo and not harden:
        current()[1].noop(f"{TARGET}: on {share or 'RAM'}")
        return
    if problem:
        verb = f"mount {share}" if share else f"put {TARGET} into RAM"
        because(f"{verb}: {problem}")
        todo = replace(todo, repairs=repairs(todo, volume, ram_size))
    if harden:
        because(f"add mount flags to {TARGET}: {', '.join(missing_flags(_mounted()))}")
    check = f'sh -n "$stage"{HELPER}' if HELPER in {file.path for file in todo.write} else ""
    yield from files.transaction(todo, check, harden, noop=TARGET, force=bool(harden))
    if _observed_problem(volume, ram_size):
        # The helper's first attempt has a short time limit, because a boot may wait for it. So one
        # silent server makes the attempt fail. Now RAM is mounted, and a second attempt may take
        # longer
        yield StringCommand("systemctl start", SHARE.name, "|| true")
    problem = _observed_problem(volume, ram_size)
    if problem:
        reason = observe(LogShares).reason
        away = f"{problem}{': ' + reason if reason else ''}"
        warn(
            f"{away}; {'fix the storage servers: the' if share else 'the'} node keeps retrying "
            "the mount by itself (see journalctl -u var-log)"
        )
        # Not a NodeError: a host that fails gets no further operations
        fall_short(away)
    elif missing := missing_flags(_mounted()):
        warn(
            f"{TARGET} is mounted without {', '.join(missing)}, which a remount could not add; "
            "reboot the node and run again"
        )


def repairs(todo: Plan, volume: str, ram_size: str) -> tuple[Repair, ...]:
    """Return the plan's `Repair` objects, and a `Repair` for the mount on ``/var/log``.

    + todo: the plan, which starts or restarts the unit that mounts ``/var/log``
    + volume, ram_size: as `mount_log_share` takes them

    If the plan also writes files, the mount is renewed because of changed settings. In this case
    the result has no `Repair` for the mount. This is a pure function.
    """
    others = tuple(one for one in todo.repairs if one.thing != SHARE.name)
    if todo.write:
        return others
    usual = of_unit(SHARE.name, f"mounted {volume} {ram_size}")
    umount = rf"umount[[:space:]].*{TARGET}([^a-zA-Z0-9._/-]|$)"
    search = usual.search._replace(pattern=f"{usual.search.pattern}|{umount}")
    away = ("storage servers that went away (see journalctl -u var-log)",) if volume else ()
    return (*others, replace(usual, search=search, suspects=away))


def missing_flags(mounted: Mount | None) -> tuple[str, ...]:
    """Return the flags in `FLAGS` that a mount on ``/var/log`` lacks, () if there is no mount.

    This is a pure function.

    + mounted: the mount on ``/var/log``, ``None`` if there is none
    """
    return tuple(flag for flag in FLAGS if mounted and flag not in mounted.options)


def has_unchecked_graph(mounted: Mount | None) -> bool:
    """Tell whether a mount is a Gluster volume with an unchecked configuration (`CHECKED`)."""
    return (
        mounted is not None
        and mounted.fstype == "fuse.glusterfs"
        and not mounted.source.startswith(CHECKED)
    )


def mount_conflict(mounted: Mount | None, share: LogShare) -> str:
    """Return what prevents a mount on ``/var/log``, and what the user has to do.

    This is a pure function.

    + mounted: the present mount on ``/var/log``, ``None`` if there is none
    + share: the state of ``/var/log``: a symbolic link there, and what mounts something else there
      at boot

    Returns "" if nothing prevents the mount.
    """
    if share.link:
        # the kernel would mount on the folder that the link points to
        return (
            f"{TARGET} is a symbolic link to {share.link}, but must be a folder; replace the link "
            "by a folder with mode 755, reboot the node and run again"
        )
    if share.claims:
        return (
            f"{' and '.join(share.claims)} would mount something else on {TARGET}; remove "
            "this mount, reboot the node and run again"
        )
    ours = mounted is None or is_share(mounted.fstype, mounted.source) or mounted.source == IN_RAM
    if mounted and not ours:
        return (
            f"{mounted.source} ({mounted.fstype}) is mounted on {TARGET}; unmount it, make sure "
            "that the next boot does not mount it, and run again"
        )
    return ""


def share_problem(mounted: Mount | None, answer: Answer, volume: str, ram_size: str = "") -> str:
    """Return what is wrong with the mount on ``/var/log``, "" if nothing is.

    + mounted: the mount on ``/var/log``, ``None`` if there is none
    + answer: whether the mounted file system "answers", "fails" or "hangs"
    + volume, ram_size: as `mount_log_share` takes them
    """
    share = _share_title(volume)
    if not share:
        if mounted is None or mounted.source != IN_RAM:
            return f"{TARGET} is not in RAM"
        size = f"size={kibibytes(ram_size)}k" if ram_size else ""
        found = next((o for o in mounted.super_options if o.startswith("size=")), "")
        now = found or "no size"
        return f"{TARGET} is in RAM with {now}, not {size}" if size and found != size else ""
    if mounted is None or mounted.source == IN_RAM:
        return f"{TARGET} is not on {share}"
    found = mounted.source.partition(":")[2]
    name = found if mounted.fstype == "nfs4" else found.lstrip("/")
    if name != volume:
        return f"{TARGET} is on {mounted.source}, not on {share}"
    if answer != "answers":
        found = "cannot be read" if answer == "fails" else answer
        return f"{share} is mounted on {TARGET}, but {found}"
    return ""


def _share_title(volume: str) -> str:
    """Return the name of a share for messages, such as "the Gluster volume pi1"; "" for RAM."""
    kind = "NFS export" if volume.startswith("/") else "Gluster volume"
    return f"the {kind} {volume}" if volume else ""


def kibibytes(size: str) -> int:
    """Convert a size to KiB, rounded up to whole pages of 4 KiB, as tmpfs does.

    **Example:** ``kibibytes("16M") == 16384``
    """
    return -(-memory_bytes(size) // 4096) * 4


def with_remount(todo: Plan, problem: str) -> Plan:
    """Return a plan that restarts the share's unit only if the mount has a problem.

    + todo: the plan to change
    + problem: what is wrong with the mount, as `share_problem` returns it

    If the mount has a problem, the unit is restarted, even if systemd shows it as active. If the
    mount has no problem, the unit keeps running even if its files change, because programs write to
    the mount.
    """
    others = tuple(unit for unit in todo.restart if unit != SHARE)
    again = (SHARE,) if problem and SHARE not in todo.start else ()
    return replace(todo, restart=(*again, *others))


def _observed_problem(volume: str, ram_size: str) -> str:
    """Return what is wrong with ``/var/log`` on the current host, see `share_problem`."""
    return share_problem(_mounted(), observe(Answers, path=TARGET), volume, ram_size)


def _mounted() -> Mount | None:
    """Return the mount on ``/var/log`` of the current host, ``None`` if there is none."""
    mounts = observe(Mounts, path=TARGET)
    return mounted_at(mounts, TARGET)


UNDO = Undo(
    needed_when_joined=True,
    note="logs on a Gluster volume or an NFS export stay there; logs in RAM are lost",
    first="for one in var-log-check.timer var-log-check.service; do stop_unit $one; done",
    stopped=f"""\
# off_share PATH: unmount the log share from a path, and the RAM that stands in for it
off_share() {{
  for _ in 1 2 3 4; do
    case $(uppermost "$1") in
      {PATTERN} | "tmpfs {IN_RAM}")
        timeout -k 1 10 umount -i -c -- "$1" 2>/dev/null 9>&- ||
          timeout -k 1 10 umount -i -c -l -- "$1" 9>&-
        ;;
      *) return 0 ;;
    esac
  done
}}
off_share "$RUN_DIR/var-log"
off_share {TARGET}
rm -rf -- "$RUN_DIR"/var-log "$RUN_DIR"/var-log.*""",
)
