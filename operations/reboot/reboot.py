"""Reboot a node if a change needs that, and check afterwards that the change has taken effect."""

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
    """Reboot the node if a change needs that, and check that the change has taken effect.

    + wanted: words that the kernel shall have been started with
    + rolling: how a node that has joined a cluster is drained, and which other nodes may be down at
      the same time
    + force: whether to reboot a joined node without draining it if `rolling` has no kubectl
    + seconds: how long a node may take to come back

    A reboot is due if ``/proc/cmdline`` lacks a wanted word, or if swap could not be turned off.
    Before the reboot, the cause and the ID of the current boot are noted on the node. If a later
    boot still has the same cause, the reboot did not help and is not repeated. After a reboot that
    helped, the note is removed. Nodes that have not joined a cluster reboot all at once. After one
    node of a cluster has failed, no other node of that cluster is rebooted. Raises `NodeError` if
    an earlier reboot did not help, or if the words are in no file that the next boot reads.

    **Example:** ``reboot_node(name="Reboot node", wanted=["cgroup_enable=memory"])``
    """
    wanted = tuple(wanted)
    state, host = current()
    rolling = rolling or Rolling()
    standing = node_standing(rolling)
    found, swaps = observe(KernelCmdline), observe(Swaps)
    reasons = causes(found, swaps, wanted, state.is_executing)
    # in a preview: operations before this one, which have not run, may remove some of the causes
    remaining = causes(found, swaps, wanted, last=True)
    problems = in_vain(found, remaining, wanted) + without_memory(found, wanted)
    if problems:
        raise NodeError("; ".join(problems))
    why = "; ".join(reasons.values())
    if not reasons:
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
        work = partial(_reboot, found, swaps, reasons, wanted, seconds)
        yield FunctionCommand(take_turn, (rolling, standing, "rebooted", work), {})


def causes(found: Cmdline, swaps: SwapState, wanted: Iterable[str], last: bool) -> dict[str, str]:
    """Return why a reboot is due: the reasons in words, by the cause's name. A pure function.

    + last: whether all operations before the reboot count as done; in a preview they are not done

    The name of a cause depends on the wanted words and on the file that has them, because a reboot
    with another file may help although an earlier reboot did not.

    **Example:** ``{"swap": "swap (/swap.img) in use, and what is swapped out does not fit into
    RAM"}``
    """
    reasons, wanted = {}, tuple(wanted)
    if lost := pending(found, wanted):
        source = found.file or found.drop_in
        text = "\n".join([*wanted, source.text if source else ""])
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        reasons[f"cmdline-{digest[:16]}"] = f"the kernel was started without {' '.join(lost)}"
    if stays_until_boot(swaps, configured=last):
        reasons["swap"] = f"{_areas(swaps)} in use, and what is swapped out does not fit into RAM"
    return reasons


def in_vain(found: Cmdline, reasons: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """Say which causes an earlier reboot has not removed, and what to do: a pure function.

    + reasons: the present reasons for a reboot by cause, as `causes` returns them

    Words that are in no file for the next boot do not count: no reboot could have brought them.
    """
    ready = next_boot_has(found, tuple(wanted))
    return [
        f"{why}, also after a reboot; {_NO_SWAP if cause == 'swap' else _other_file(found)}"
        for cause, why in reasons.items()
        if found.rebooted.get(cause, found.boot_id) != found.boot_id and (cause == "swap" or ready)
    ]


def without_memory(found: Cmdline, wanted: Iterable[str]) -> list[str]:
    """Say what to do if the memory controller is off although the kernel has the words for it."""
    wanted = tuple(wanted)
    has_words = "cgroup_enable=memory" in wanted and not pending(found, wanted)
    if found.memory or not has_words:
        return []
    return [
        "the kernel has the words and yet no memory controller: the device tree turns the "
        "controller off, and this kernel does not know cgroup_enable=, which turns it on again; "
        "only Raspberry Pi's own kernels do (https://github.com/raspberrypi/linux/issues/6980). "
        "Install the distribution's kernel for the Raspberry Pi"
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
    """Reboot the node and check that this helped; return what went wrong, "" if nothing did."""
    host.log(f"Rebooting, because {'; '.join(reasons.values())}")
    rebooted = {**found.rebooted, **dict.fromkeys(reasons, found.boot_id)}
    return (
        reboot_and_wait(state, host, found, rebooted, seconds)
        or _check_outcome(swaps, wanted)
        or remove_note(state, host)
    )


def _check_outcome(before: SwapState, wanted: tuple[str, ...]) -> str:
    """Say what is not as wanted after the reboot, "" if all is.

    + before: swap as it was before the reboot
    """
    forget()
    note_change()  # so that only these facts are read, not all that the run has declared
    found, swaps = observe(KernelCmdline), observe(Swaps)
    reasons = causes(found, swaps, wanted, last=True)
    problems = in_vain(found, reasons, wanted) + without_memory(found, wanted)
    if reasons and not problems:
        problems = [f"{why}, also after the reboot; run again" for why in reasons.values()]
    if swaps.areas and not before.areas:
        problems.append(f"{_areas(swaps)} in use again after the reboot; {_NO_SWAP}")
    return "; ".join(problems)


def _other_file(found: Cmdline) -> str:
    """Say what to do if the kernel lacks words after a reboot although its file has them."""
    if found.file is None:
        return "look at what GRUB gives to the kernel in /boot/grub/grub.cfg"
    return (
        f"{found.file.path} has them, so the firmware reads another file: look at cmdline= and "
        "os_prefix= in config.txt and from which medium it boots, fix that and reboot the node"
    )


_NO_SWAP = "find out what turns it on (systemctl list-units --type=swap, zramctl) and disable that"


def _areas(swaps: SwapState) -> str:
    """Return the swap areas in use, in words: ``swap (/swap.img)``."""
    return f"swap ({', '.join(area.name for area in swaps.areas)})"
