"""Turn swap off, now and at each boot, whatever turned it on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from chaos_engine.facts.fstab import PATH as FSTAB
from chaos_engine.facts.fstab import is_swap
from chaos_engine.facts.kernel import RECORD
from chaos_engine.facts.observe import Read, observe, warn
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.suspects import Search
from chaos_engine.facts.swap import CALL, RPI_SWAP_DROP_IN, Swaps, SwapState
from chaos_engine.facts.unit_traces import UNITS
from chaos_engine.operations import files
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.repairs import Repair, in_files, of_file, of_unit, past_repairs
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File
from chaos_engine.operations.undo import Undo

MARK = "#chaos-engine "
"""Prefix that turns a line of fstab into a comment. Undo removes the prefix again."""

SPARE_KIB = 32 * 1024
"""KiB of RAM that must remain free when all swapped-out memory is back in RAM."""

# /proc/swaps writes a space in a name as \040; printf %b turns that back
# Not in a pipe: its notes would be those of another shell, which `settle` does not know
_NOTE = """\
{
  read -r _
  while read -r area _ _ _ priority; do note swap "$priority" "$(printf %b "$area")"; done
} </proc/swaps"""

_NO_RPI_SWAP = "[Main]\nMechanism=none\n"


@dataclass(frozen=True)
class Plan:
    """The changes that turn swap off: files to write, units to mask, swap areas to turn off.

    A plan without changes is false.
    """

    files: tuple[File, ...] = ()
    mask: tuple[str, ...] = ()
    turn_off: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Plan()


@converge(reads=lambda: [Read.of(Swaps), Read.of(Repairs)])
def disable_swap() -> Commands:
    """Turn swap off, now and at each boot.

    - Lines for swap in fstab become comments.
    - ``swap.target``, all ``.swap`` units (also generated units), and well-known services that call
      swapon are masked.
    - Raspberry Pi OS's rpi-swap gets a configuration without swap.

    Swap files and partitions are not deleted. If the swapped-out memory does not fit into RAM, swap
    stays in use until the next boot. In this case, the node needs a reboot
    (`chaos_engine.operations.reboot`).

    **Example:** ``disable_swap(name="Turn swap off")``
    """
    found = observe(Swaps)
    todo = plan(found)
    # files.decide costs a remote command, so it is called only if something has to change
    masks = [f"{UNITS}/{unit}" for unit in todo.mask]
    file_plan = files.decide(todo.files, besides=masks) if todo else files.Plan()
    if found.areas and not fits_into_ram(found):
        warn(
            f"{found.used // 1024} MiB are swapped out, too much for the "
            f"{found.available // 1024} MiB of available RAM; swap stays in use until the next boot"
        )
    for area in found.areas:
        if area.kind == "file" and not area.name.startswith("/dev/"):
            size = f"{area.size // 1024} MiB"
            warn(f"{area.name} ({size}) stays on the card; undo needs it to turn swap on again")
    past = {repair.thing for repair in past_repairs()}
    # `files.transaction` warns about these areas
    warned = {name for name in todo.turn_off if _area(name) in past}
    for message in warnings(found, warned):
        warn(message)
    if todo:
        because(*why(found, todo))
    yield from files.transaction(
        file_plan.explained_by(repairs(todo)),
        before=compose_notes(todo),
        apply=compose(todo) if todo else "",
        noop="no swap",
        force=bool(todo),
    )


def plan(found: SwapState) -> Plan:
    """Return the plan that turns swap off. This is a pure function."""
    write = []
    fstab = without_swap(found.fstab)
    if fstab != found.fstab:
        write.append(File(FSTAB, fstab.encode("utf-8", "surrogateescape"), merged=True))
    if found.rpi_swap and found.rpi_swap_drop_in != _NO_RPI_SWAP:
        write.append(File(RPI_SWAP_DROP_IN, _NO_RPI_SWAP))
    states = {**found.units, **found.services}
    mask = tuple(unit for unit, state in sorted(states.items()) if state != "masked")
    names = tuple(area.name for area in found.areas)
    return Plan(tuple(write), mask, names if fits_into_ram(found) else ())


def why(found: SwapState, todo: Plan) -> Iterator[str]:
    """Yield a description of each change in a plan. This is a pure function."""
    for area in found.areas:
        if area.name in todo.turn_off:
            yield f"turn swap off on {area.name} ({area.size // 1024} MiB)"
    for file in todo.files:
        if file.path == FSTAB:
            yield f"comment out the swap lines of {FSTAB}"
        else:
            yield f"write {file.path}"
    yield from listed("mask", todo.mask)


def repairs(todo: Plan) -> Iterator[Repair]:
    """Yield a `Repair` for each change in a plan. This is a pure function."""
    for name in todo.turn_off:
        yield Repair(_area(name), "off", "swap", name, Search(_area(name), CALL))
    for file in todo.files:
        if file.path == FSTAB:
            # The wanted state is not the file's checksum, because other lines may change later
            yield Repair(FSTAB, "without swap", "file", FSTAB, in_files(FSTAB))
        else:
            yield of_file(file.path, file.sha256, "", None)
    for unit in todo.mask:
        yield of_unit(unit, "masked")


def _area(name: str) -> str:
    """Return the name of a swap area in a `Repair`: ``swap on /swap.img``."""
    return f"swap on {name}"


def warnings(found: SwapState, warned: Collection[str] = ()) -> Iterator[str]:
    """Yield warnings about swap that is on again, and about files that turn swap on at boot.

    + found: the node's swap
    + warned: names of swap areas that get no warning here, because `files.transaction` warns that
      these areas are on again

    The files that turn swap on are services and scripts. `disable_swap` does not change these
    files, because they may have other tasks too. This is a pure function.
    """
    again = [
        area.name for area in found.areas if area.name in found.noted and area.name not in warned
    ]
    if again:
        cause = "the next warning says what turns swap on"
        if not found.turners:
            cause = "find out what turns swap on, for example with: journalctl -b | grep -i swap"
        areas = ", ".join(again)
        yield f"swap is in use again on {areas}, although an earlier run turned it off; {cause}"
    for file, script in found.turners.items():
        unit = file.partition(".d/")[0].rpartition("/")[2]
        way_out = (
            f"systemctl disable --now {unit}"
            if "/systemd/" in file
            else "remove that line from the file"
        )
        yield (
            f"{file} turns swap on at each boot{f', through {script}' if script != file else ''}; "
            f"kubelet does not start while swap is on. To keep swap off: {way_out}"
        )


def fits_into_ram(found: SwapState) -> bool:
    """Tell whether RAM has room for all swapped-out memory, and for `SPARE_KIB` more."""
    return found.used == 0 or found.used + SPARE_KIB <= found.available


def stays_until_boot(found: SwapState, configured: bool) -> bool:
    """Tell whether swap is in use, cannot be turned off now, and will be gone after a reboot.

    + configured: whether `disable_swap` has already been called in this run
    """
    return bool(found.areas) and not fits_into_ram(found) and not (configured and plan(found))


def without_swap(fstab: str) -> str:
    """Return the text of fstab with its swap lines commented out, and all else unchanged.

    Swap lines are the lines by which systemd or ``swapon -a`` turns swap on.
    """
    lines = re.split(r"(?<=\n)", fstab)
    return "".join(MARK + line if is_swap(line) else line for line in lines)


def compose_notes(todo: Plan) -> str:
    """Return the shell commands that note swap and its units for undo. This is a pure function.

    They are noted before files change. If the power is cut in between, the node boots without swap,
    and the next run could not tell what was in use.
    """
    masks = _masks(todo)
    lines = [_NOTE] if todo.turn_off else []
    lines += [f"unit_was {quote(unit)}" for unit in masks]
    lines += [f"keep {' '.join(masks.values())}"] if masks else []
    return "\n".join(lines)


def _masks(todo: Plan) -> dict[str, str]:
    """Return the quoted path of each link that masks a unit, by the unit's name."""
    return {unit: quote(f"{UNITS}/{unit}") for unit in todo.mask}


def compose(todo: Plan) -> str:
    """Return the shell commands that turn swap off and mask its units. This is a pure function."""
    lines = []
    masks = _masks(todo)
    # one swapoff for each area, since `swapoff --all` does not say why it failed
    for name in todo.turn_off:  # swapoff reads all swapped-out memory, which takes minutes
        lines += [f"tell {quote(f'turning off swap on {name}')}", f"swapoff -- {quote(name)}"]
    for unit, path in masks.items():
        # Swap is already off, so stopping the unit runs no swapoff. A missing unit is no error
        lines += [f"systemctl stop -- {quote(unit)} || true"] if todo.turn_off else []
        lines.append(f"ln -sfnT /dev/null {path}")
    lines.append("systemctl daemon-reload")
    if todo.turn_off:
        lines += [
            "if sed 1d /proc/swaps | grep . >&2; then",
            "  echo 'this swap is still in use' >&2; exit 1",
            "fi",
        ]
    # RECORD has causes that a reboot did not remove. After this change, a reboot may remove them
    lines.append(f"rm -f -- {RECORD}")
    return "\n".join(lines)


def _with_swap(current: bytes, original: bytes, written: bytes) -> bytes:
    """Remove this package's comment marks from the swap lines of fstab. Return the new text."""
    kept = {*original.split(b"\n")}  # if the card is a copy, the original may have lines with MARK
    lines = current.split(b"\n")
    return b"\n".join(one if one in kept else one.removeprefix(MARK.encode()) for one in lines)


UNDO = Undo(needed_when_joined=True, take_out={FSTAB: _with_swap})
