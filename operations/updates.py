"""Install the distribution's security updates, and reboot the node if they need it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pyinfra.api.command import FunctionCommand
from pyinfra.connectors.local import LocalConnector

from chaos_engine.facts.apt import Interrupted
from chaos_engine.facts.kernel import Cmdline, KernelCmdline
from chaos_engine.facts.observe import (
    NodeError,
    NodeFact,
    Read,
    current,
    forget,
    note_change,
    observe,
    warn,
)
from chaos_engine.facts.text import setting
from chaos_engine.facts.updates import (
    RebootNeed,
    RebootNeedState,
    SecurityUpdates,
    Update,
    Updates,
)
from chaos_engine.operations.apt import APT
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.shell import NOTES, PRELUDE, for_concern, quote, shell_command
from chaos_engine.operations.reboot.boot_cycle import reboot_and_wait, remove_note
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.turns import READ, node_standing, perform, take_turn
from chaos_engine.templates import shell_script

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

T = TypeVar("T")

SPARE_MIB = 50
"""MiB that have to stay free on the root file system, for what packages make when they are
configured, such as an initramfs."""

HEAD = f"{PRELUDE}{NOTES}{APT}"
"""The head of a script that calls apt. It finishes an interrupted installation."""

_KERNEL = re.compile(r"linux-image-(?:unsigned-)?([0-9].*)")

_REQUIRED = "reboot-required"
_OTHER_KERNEL = (
    "find out why the node boots another kernel: look at kernel= and os_prefix= in config.txt, or "
    "at GRUB's default"
)


@converge(
    reads=lambda *args, **kwargs: [
        READ,
        Read.of(SecurityUpdates),
        Read.of(RebootNeed),
        Read.of(KernelCmdline),
        Read.of(Interrupted),
    ]
)
def install_security_updates(
    rolling: Rolling | None = None, force: bool = False, seconds: int = 600
) -> Commands:
    """Install the distribution's security updates, and reboot the node if they need it.

    + rolling: how a node that has joined a cluster is drained, and which nodes may be down at the
      same time
    + force: whether to reboot a node of a cluster without draining if `rolling.kubectl` is ``None``
    + seconds: how long a node may take to come back from a reboot

    Installation and reboot are in the same turn, so the node is drained once. apt removes no
    package, and leaves packages on hold at their version. It installs new packages on which the
    updates depend, such as those of a new kernel. The node needs a reboot if a package asks for it,
    or if a newer kernel is installed than the one that runs. If the kernel is still the old one
    after a reboot, no run reboots the node for this kernel again.

    Nodes that have not joined a cluster are updated at the same time. If the turn of a cluster's
    node fails, no other node of the cluster has a turn in this run. Raises `NodeError` if the
    updates are not known, or do not fit on the node's disk.

    **Example:** ``install_security_updates(name="Install security updates")``
    """
    host = current()[1]
    rolling = rolling or Rolling()
    standing = node_standing(rolling)
    damaged = observe(Interrupted)
    found = observe(SecurityUpdates)
    check_updates(found, damaged=bool(damaged))
    for message in warnings(found, damaged=bool(damaged)):
        warn(message)
    need, cmdline = observe(RebootNeed), observe(KernelCmdline)
    reasons = causes(need)
    if still_old := in_vain(reasons, cmdline):
        warn(f"{'; '.join(still_old.values())}, even after a reboot; {_OTHER_KERNEL}")
    due = {cause: why for cause, why in reasons.items() if cause not in still_old}
    may_reboot = _why_no_reboot(host, standing.joined, rolling, force)
    if due and may_reboot:
        warn(f"a reboot is pending: {'; '.join(due.values())}. {may_reboot}")
        due = {}
    if not (damaged or found.updates or due):
        host.noop("no security updates")
        return
    because(*listed("finish the interrupted installation of", damaged))
    because(*(f"update {one.name} {one.old} -> {one.new}" for one in found.updates))
    because(*map(_also, found.others))
    if due:
        because(*(f"reboot: {why}" for why in due.values()))
    elif kernels := new_kernels(found, need):
        because(*listed("reboot, for the new kernel", [] if may_reboot else kernels))
        if may_reboot:
            warn(f"a reboot will be pending, for {', '.join(kernels)}. {may_reboot}")
    if standing.joined and rolling.kubectl is None:
        warn(
            f"{setting('kubeconfig')} is not set, so nodes that have joined a cluster are not "
            "drained; they are updated one after the other",
            of_node=False,
        )
    head = for_concern(HEAD)
    work = partial(_update, found, head, bool(damaged), may_reboot, seconds)
    yield FunctionCommand(take_turn, (rolling, standing, "updated", work), {})


def check_updates(found: Updates, damaged: bool = False) -> None:
    """Raise `NodeError` if the updates are not known, or do not fit on the node's disk.

    + damaged: whether an installation was interrupted. If so, apt may be unable to simulate now

    This is a pure function.
    """
    if found.error:
        raise NodeError(
            f"apt cannot read its sources and package lists: {found.error}. Fix what apt says on "
            "the node, and run again"
        )
    failed = [message for message in found.said if _matters(message, found)]
    if failed:
        raise NodeError(
            f"the node's security updates are not known, because apt says: "
            f"{'; '.join(failed).rstrip('.')}. "
            "Fix the node's network, its clock or its apt sources, and run again"
        )
    if not found.pockets:
        raise NodeError(
            "none of apt's sources has security updates of Debian or Ubuntu. Add the "
            "distribution's security source to the files in /etc/apt, for Debian: deb "
            "http://deb.debian.org/debian-security CODENAME-security main"
        )
    if found.updates and not damaged and found.needs + SPARE_MIB > found.free:
        raise NodeError(
            f"the security updates need {found.needs + SPARE_MIB} MiB on /, but only {found.free} "
            "MiB are free. Make room (apt-get clean; apt-get autoremove removes old kernels), and "
            "run again"
        )


def warnings(found: Updates, damaged: bool = False) -> Iterator[str]:
    """Yield warnings about packages that are not updated. This is a pure function.

    + damaged: whether an installation was interrupted. If so, the reasons may be gone soon
    """
    if found.said:
        yield f"not all package lists could be fetched: {'; '.join(found.said)}"
    if found.held:
        yield (
            f"these packages are on hold, so they are not updated: {_versions(found.held)}. To "
            "update one, run apt-mark unhold NAME on the node, and run again"
        )
    if found.pinned:
        yield f"a pin in /etc/apt keeps these packages at their version: {_versions(found.pinned)}"
    if not damaged:
        for name, why in found.left_out.items():
            yield f"{name} is not updated: {why}; update it yourself: apt-get install {name}"


def causes(need: RebootNeedState) -> dict[str, str]:
    """Return why the node needs a reboot: a text for each cause, by the cause's name.

    This is a pure function.
    """
    reasons = {}
    if need.required:
        who = ", ".join(need.packages) or "/run/reboot-required"
        reasons[_REQUIRED] = f"{who} asks for it"
    if need.newer_kernel:
        reasons[f"kernel-{need.newer_kernel}"] = (
            f"the kernel {need.newer_kernel} is installed, but {need.running} runs"
        )
    return reasons


def in_vain(reasons: Mapping[str, str], cmdline: Cmdline) -> dict[str, str]:
    """Return the reasons that remain although the node was rebooted for them.

    This is a pure function.

    + reasons: the present reasons for a reboot, by the cause's name (`causes`)
    """
    return {
        cause: why
        for cause, why in reasons.items()
        if cause != _REQUIRED and cmdline.rebooted.get(cause, cmdline.boot_id) != cmdline.boot_id
    }


def new_kernels(found: Updates, need: RebootNeedState) -> list[str]:
    """Return the packages of the updates that replace the running kernel. A pure function."""
    return [
        one.name
        for one in (*found.updates, *found.others)
        if (kernel := _KERNEL.fullmatch(one.name))
        and (kernel[1] == need.running or need.is_newer(kernel[1]))
    ]


def compose(found: Updates, head: str, running: str) -> str:
    """Return the shell script that installs the updates. This is a pure function.

    + head: the script's head, which defines the functions of `APT`
    + running: the release of the running kernel
    """
    words = quote(*(f"{one.name}={one.new}" for one in found.updates))
    # Debian's file for that comes with unattended-upgrades, which is not there
    replaced = any(one.name == f"linux-image-{running}" for one in found.updates)
    ask = f"ask_for_reboot {quote(f'linux-image-{running}')}\n" if replaced else ""
    functions = f"{shell_script('lists_in_ram')}{shell_script('install_updates')}"
    return f"{head}{functions}install_updates {words}\n{ask}"


def _update(
    found: Updates,
    head: str,
    damaged: bool,
    no_reboot: str,
    seconds: int,
    state: State,
    host: Host,
) -> str:
    """Install the updates, and reboot the node if they need it. Return the problem, "" for none.

    + damaged: whether an interrupted installation has to be finished first
    + no_reboot: why this run does not reboot the node, "" if it may
    """
    if damaged:
        if problem := perform(shell_command(head), state, host):
            return problem
        found = _again(SecurityUpdates)
        check_updates(found)
        for message in warnings(found):
            warn(message)
    if found.updates:
        running = _again(RebootNeed).running
        if problem := perform(shell_command(compose(found, head, running)), state, host):
            return problem
    cmdline = _again(KernelCmdline)
    reasons = causes(_again(RebootNeed))
    due = {cause: why for cause, why in reasons.items() if cause not in in_vain(reasons, cmdline)}
    why = "; ".join(due.values())
    if not due:
        return ""
    if no_reboot:
        warn(f"a reboot is pending: {why}. {no_reboot}")
        return ""
    host.log(f"Rebooting, because {why}")
    rebooted = {**cmdline.rebooted, **dict.fromkeys(due, cmdline.boot_id)}
    return reboot_and_wait(host, cmdline, rebooted, seconds) or _still_old(due) or remove_note(host)


def _still_old(before: Mapping[str, str]) -> str:
    """Return the problem if the kernel is the old one after a reboot, "" for none."""
    remaining = causes(_again(RebootNeed))
    old = [why for cause, why in remaining.items() if cause in before and cause != _REQUIRED]
    return f"{'; '.join(old)}, even after the reboot; {_OTHER_KERNEL}" if old else ""


def _again(fact: type[NodeFact[T]]) -> T:
    """Read a fact now. The node has changed since the operation has decided."""
    forget()
    note_change()  # `observe` then reads only this fact, not all that the run has declared
    return observe(fact)


def _why_no_reboot(host: Host, joined: bool, rolling: Rolling, force: bool) -> str:
    """Return why this run does not reboot the node, and what to do then; "" if it may."""
    if isinstance(host.connector, LocalConnector):
        return "pyinfra itself runs on the node, so reboot it yourself"
    if joined and rolling.kubectl is None and not force:
        return (
            "The node has joined a cluster, so it has to be drained first. Set "
            f"{setting('kubeconfig')}, or drain and reboot the node yourself. To reboot it without "
            f"draining, set {setting('reboot_force')}"
        )
    return ""


def _matters(message: str, found: Updates) -> bool:
    """Tell whether apt's message may be about a source of security updates, or about all sources.

    + message: why apt could not fetch package lists
    """
    if not found.pockets:
        return True
    if "://" not in message:
        return not message.startswith("Some index files failed to download")
    return any(
        f"{uri}/dists/{suite}/" in message or f"{uri} {suite} " in message
        for uri, suite in found.pockets
    )


def _versions(updates: Iterable[Update]) -> str:
    """Return the names and versions of packages, in words."""
    return ", ".join(f"{one.name} {one.old} -> {one.new}" for one in updates)


def _also(update: Update) -> str:
    """Return the reason to install or update a package on which the updates depend."""
    if update.old:
        return f"update {update.name} {update.old} -> {update.new}, which the updates need"
    return f"install {update.name} {update.new}, which the updates need"
