"""Reboot nodes that need it, and check that the reboot has brought what it was made for."""

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
    """Reboot the node if something is due that only a reboot brings, and check that it did.

    + wanted: words that the kernel shall have been started with
    + rolling: how a node that has joined a cluster is drained, and which others may be down with it
    + force: whether to reboot a joined node with all its pods if `rolling` has no way to drain it
    + seconds: how long a node may take to come back

    A reboot is due where ``/proc/cmdline`` lacks a wanted word, and where swap could not be turned
    off. Its cause, and the boot that it ended, are noted on the node, so that a reboot that did not
    help is not repeated. A reboot that helped removes the note. Nodes that have not joined a
    cluster reboot all at once. After one node of a cluster has failed, no further one is rebooted.
    Raises `NodeError` if an earlier reboot did not help, or if the words are in no file that the
    next boot reads.

    **Example:** ``reboot_node(name="Reboot node", wanted=["cgroup_enable=memory"])``
    """
    wanted = tuple(wanted)
    state, host = current()
    rolling = rolling or Rolling()
    standing = node_standing(rolling)
    found, swaps = observe(KernelCmdline), observe(Swaps)
    due = causes(found, swaps, wanted, state.is_executing)
    # operations before this one may still remove a cause: only those that would remain count here
    lasting = causes(found, swaps, wanted, last=True)
    problems = in_vain(found, lasting, wanted) + without_memory(found, wanted)
    if problems:
        raise NodeError("; ".join(problems))
    why = "; ".join(due.values())
    if not due:
        host.noop("no reboot is due")
    elif isinstance(host.connector, LocalConnector):
        warn(f"a reboot is due: {why}. This computer runs the deploy: reboot it yourself")
    elif standing.joined and rolling.kubectl is None and not force:
        warn(
            f"a reboot is pending: {why}. The node has joined a cluster: set "
            f"{setting('kubeconfig')}, so that it can be drained, or drain and reboot it yourself, "
            f"or set {setting('reboot_force')}"
        )
    elif state.is_executing and pending(found, wanted) and not next_boot_has(found, wanted):
        raise NodeError(f"{why}, and no file for the next boot has them; deploy kernel first")
    else:
        because(why)
        work = partial(_reboot, found, swaps, due, wanted, seconds)
        yield FunctionCommand(take_turn, (rolling, standing, "rebooted", work), {})


def causes(found: Cmdline, swaps: SwapState, wanted: Iterable[str], last: bool) -> dict[str, str]:
    """Return the causes for which a reboot is due, each with a sentence: a pure function.

    + last: whether all operations before the reboot have been done; not so in a preview

    The key of a cause changes with the wanted words and with the file that has them: with another
    file a reboot may help although an earlier one did not.
    """
    due = {}
    wanted = tuple(wanted)
    lost = pending(found, wanted)
    if lost:
        source = found.file or found.drop_in
        text = "\n".join([*wanted, source.text if source else ""])
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        due[f"cmdline-{digest[:16]}"] = f"the kernel was started without {' '.join(lost)}"
    if stays_until_boot(swaps, configured=last):
        due["swap"] = f"{_areas(swaps)} in use, and what is swapped out does not fit into RAM"
    return due


def in_vain(found: Cmdline, due: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """Say which causes were left after a reboot, and what to do: a pure function.

    + due: causes, as `causes` returns them

    Words that are in no file for the next boot do not count: no reboot could have brought them.
    """
    ready = next_boot_has(found, tuple(wanted))
    return [
        f"{why}, also after a reboot; {_NO_SWAP if cause == 'swap' else _other_file(found)}"
        for cause, why in due.items()
        if found.rebooted.get(cause, found.boot_id) != found.boot_id and (cause == "swap" or ready)
    ]


def without_memory(found: Cmdline, wanted: Iterable[str]) -> list[str]:
    """Say what to do if the memory controller is off although the kernel has the words for it."""
    wanted = tuple(wanted)
    asked = "cgroup_enable=memory" in wanted and not pending(found, wanted)
    if found.memory or not asked:
        return []
    return [
        "the kernel has the words and yet no memory controller: it does not know cgroup_enable=, "
        "which only Raspberry Pi's own kernels do, while the device tree turns the controller off "
        "(https://github.com/raspberrypi/linux/issues/6980); install the distribution's kernel "
        "for the Raspberry Pi"
    ]


def _reboot(
    found: Cmdline,
    swaps: SwapState,
    due: dict[str, str],
    wanted: tuple[str, ...],
    seconds: int,
    state: State,
    host: Host,
) -> str:
    """Reboot the node and check that this helped; return what went wrong, "" if nothing did."""
    host.log(f"Rebooting, because {'; '.join(due.values())}")
    rebooted = {**found.rebooted, **dict.fromkeys(due, found.boot_id)}
    return (
        reboot_and_wait(state, host, found, rebooted, seconds)
        or _check_outcome(swaps, wanted)
        or remove_note(state, host)
    )


def _check_outcome(before: SwapState, wanted: tuple[str, ...]) -> str:
    """Return what the reboot should have brought and did not, "" if it brought all."""
    forget()
    note_change()  # so that only these facts are read, not all that the run has declared
    found, swaps = observe(KernelCmdline), observe(Swaps)
    due = causes(found, swaps, wanted, last=True)
    problems = in_vain(found, due, wanted) + without_memory(found, wanted)
    if due and not problems:
        problems = [f"{why}, also after the reboot; run again" for why in due.values()]
    if swaps.areas and not before.areas:
        problems.append(f"{_areas(swaps)} in use again after the reboot; {_NO_SWAP}")
    return "; ".join(problems)


def _other_file(found: Cmdline) -> str:
    if found.file is None:
        return "look at what GRUB gives to the kernel in /boot/grub/grub.cfg"
    return (
        f"{found.file.path} has them, so the firmware reads another file: look at cmdline= and "
        "os_prefix= in config.txt and from which medium it boots, fix that and reboot the node"
    )


_NO_SWAP = "find out what turns it on (systemctl list-units --type=swap, zramctl) and disable that"


def _areas(swaps: SwapState) -> str:
    return f"swap ({', '.join(area.name for area in swaps.areas)})"
