"""Reboot a node if a change needs a reboot, and check that the change has taken effect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pyinfra.api.command import FunctionCommand
from pyinfra.connectors.local import LocalConnector

from chaos_engine.facts.kernel import Cmdline, KernelCmdline
from chaos_engine.facts.observe import NodeError, Read, current, forget, note_change, observe, warn
from chaos_engine.facts.swap import Swaps, SwapState
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.arguments import KernelWord
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.kernel import next_boot_has, pending
from chaos_engine.operations.reboot.boot_cycle import reboot_and_wait, remove_note
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.turns import READ, node_standing, take_turn
from chaos_engine.operations.swap import stays_until_boot

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State


@converge(reads=lambda *args, **kwargs: [READ, Read.of(KernelCmdline), Read.of(Swaps)])
def reboot_node(
    wanted: Iterable[KernelWord],
    rolling: Rolling | None = None,
    force: bool = False,
    seconds: int = 600,
) -> Commands:
    """Reboot the node if a change needs a reboot, and check that the change has taken effect.

    + wanted: words that ``/proc/cmdline`` shall have
    + rolling: how a node that has joined a cluster is drained, and which nodes may be down at the
      same time
    + force: whether to reboot a node of a cluster without draining if `rolling.kubectl` is ``None``
    + seconds: how long a node may take to come back

    The node needs a reboot if ``/proc/cmdline`` lacks a wanted word, or if swap could not be turned
    off. Before the reboot, the operation stores the cause and the ID of the current boot in a note
    on the node. If the cause is gone after the reboot, the operation removes the note. If the cause
    remains, no run reboots the node for this cause again.

    Nodes that have not joined a cluster reboot at the same time. If the reboot of a cluster's node
    fails, no other node of the cluster is rebooted in this run. Raises `NodeError` in these cases:

    - an earlier reboot did not remove its cause
    - no file for the next boot has the wanted words
    - the kernel was started with the wanted words, but has no memory controller

    **Example:** ``reboot_node(name="Reboot node", wanted=["cgroup_enable=memory"])``
    """
    wanted = tuple(wanted)
    state, host = current()
    rolling = rolling or Rolling()
    standing = node_standing(rolling)
    found, swaps = observe(KernelCmdline), observe(Swaps)
    reasons = causes(found, swaps, wanted, state.is_executing)
    # In a preview, the run's earlier operations have not been executed. `remaining` leaves out the
    # causes that they would remove
    remaining = causes(found, swaps, wanted, last=True)
    problems = in_vain(found, remaining, wanted) + without_memory(found, wanted)
    if problems:
        raise NodeError("; ".join(problems))
    why = "; ".join(reasons.values())
    if not reasons:
        host.noop("no reboot is needed")
    elif isinstance(host.connector, LocalConnector):
        warn(
            f"a reboot is pending: {why}. This run does not reboot the node, because pyinfra "
            "itself runs on the node. Reboot the node yourself"
        )
    elif standing.joined and rolling.kubectl is None and not force:
        warn(
            f"a reboot is pending: {why}. The node has joined a cluster, so it has to be drained "
            f"first. Set {setting('kubeconfig')}, or drain and reboot the node yourself. To reboot "
            f"it without draining, set {setting('reboot_force')}"
        )
    elif state.is_executing and pending(found, wanted) and not next_boot_has(found, wanted):
        raise NodeError(
            f"{why}. No boot file has these kernel words; run chaos_engine.deploys.kernel first"
        )
    else:
        because(why)
        work = partial(_reboot, found, swaps, reasons, wanted, seconds)
        yield FunctionCommand(take_turn, (rolling, standing, "rebooted", work), {})


def causes(found: Cmdline, swaps: SwapState, wanted: Iterable[str], last: bool) -> dict[str, str]:
    """Return why the node needs a reboot: a text for each cause, by the cause's name.

    + last: whether to assume that the run's earlier operations were executed

    If kernel words are missing, the cause's name contains a digest of the wanted words and of the
    boot file. So a change of the file makes a new cause, and the node is rebooted again. This is a
    pure function.

    **Example:** ``{"swap": "swap (/swap.img) is in use and does not fit into RAM"}``
    """
    reasons, wanted = {}, tuple(wanted)
    if lost := pending(found, wanted):
        source = found.file or found.drop_in
        text = "\n".join([*wanted, source.text if source else ""])
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        reasons[f"cmdline-{digest[:16]}"] = f"the kernel was started without {' '.join(lost)}"
    if stays_until_boot(swaps, configured=last):
        reasons["swap"] = f"{_areas(swaps)} is in use and does not fit into RAM"
    return reasons


def in_vain(found: Cmdline, reasons: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """Return a problem for each cause that remains although the node was rebooted for it.

    + reasons: the present reasons for a reboot, by the cause's name (`causes`)

    Missing kernel words are a problem only if the file for the next boot has all wanted words. If
    the file lacks a word, a reboot could not have added it. This is a pure function.
    """
    ready = next_boot_has(found, tuple(wanted))
    return [
        f"{why}, even after a reboot; {_NO_SWAP if cause == 'swap' else _other_file(found)}"
        for cause, why in reasons.items()
        if found.rebooted.get(cause, found.boot_id) != found.boot_id and (cause == "swap" or ready)
    ]


def without_memory(found: Cmdline, wanted: Iterable[str]) -> list[str]:
    """Return a list with one problem if ``cgroup_enable=memory`` had no effect, else an empty list.

    This kernel word turns the memory controller on.
    """
    wanted = tuple(wanted)
    has_words = "cgroup_enable=memory" in wanted and not pending(found, wanted)
    if found.memory or not has_words:
        return []
    return [
        "the kernel has no memory controller, although cgroup_enable=memory is on its command "
        "line. The device tree turns the controller off. cgroup_enable=memory turns the controller "
        "on again, but only Raspberry Pi's own kernels know cgroup_enable= "
        "(https://github.com/raspberrypi/linux/issues/6980). Install the distribution's kernel for "
        "the Raspberry Pi"
    ]


def _reboot(
    found: Cmdline,
    swaps: SwapState,
    reasons: dict[str, str],
    wanted: tuple[str, ...],
    seconds: int,
    state: State,
    host: Host,
) -> str:
    """Reboot the node, and check that the reasons for the reboot are gone.

    Returns the problem, "" for none.
    """
    host.log(f"Rebooting, because {'; '.join(reasons.values())}")
    rebooted = {**found.rebooted, **dict.fromkeys(reasons, found.boot_id)}
    return (
        reboot_and_wait(host, found, rebooted, seconds)
        or _check_outcome(swaps, wanted)
        or remove_note(host)
    )


def _check_outcome(before: SwapState, wanted: tuple[str, ...]) -> str:
    """Return the problems that the node has after the reboot, "" for none.

    + before: the node's swap before the reboot
    """
    forget()
    note_change()  # `observe` then reads only these facts, not all that the run has declared
    found, swaps = observe(KernelCmdline), observe(Swaps)
    reasons = causes(found, swaps, wanted, last=True)
    problems = in_vain(found, reasons, wanted) + without_memory(found, wanted)
    if reasons and not problems:
        problems = [f"{why}, even after the reboot; run again" for why in reasons.values()]
    if swaps.areas and not before.areas:
        problems.append(f"{_areas(swaps)} is in use again after the reboot; {_NO_SWAP}")
    return "; ".join(problems)


def _other_file(found: Cmdline) -> str:
    """Return advice if the kernel was started without the words that the boot file has."""
    if found.file is None:
        return "look at the kernel command line in /boot/grub/grub.cfg"
    return (
        f"{found.file.path} has these words, so the firmware reads another file. Look at cmdline= "
        "and os_prefix= in config.txt, and check from which medium the node boots. Fix the problem "
        "and reboot the node"
    )


_NO_SWAP = "find out what turns swap on (systemctl list-units --type=swap, zramctl) and disable it"


def _areas(swaps: SwapState) -> str:
    """Return the swap areas in use, in words: ``swap (/swap.img)``."""
    return f"swap ({', '.join(area.name for area in swaps.areas)})"
