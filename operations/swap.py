"""Turn swap off, now and for good, whoever provides it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

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
"""What is put before a line of fstab that is taken out."""

SPARE = 32 * 1024
"""KiB of RAM that shall be left when all that is swapped out has come back."""

# A space in a name is \040 there, which printf turns back
_NOTE = """\
sed 1d /proc/swaps | {
  while read -r area _ _ _ priority; do note swap "$priority" "$(printf %b "$area")"; done
  settle
}"""

_NO_RPI_SWAP = "[Main]\nMechanism=none\n"


@dataclass(frozen=True)
class Plan:
    """What has to be done; all empty when nothing has."""

    files: tuple[File, ...] = ()
    mask: tuple[str, ...] = ()
    turn_off: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Plan()


@converge(reads=lambda: [Read.of(Swaps), Read.of(Repairs)])
def disable_swap() -> Commands:
    """Have no swap in use, and none that would come back at the next boot.

    Lines of fstab become comments; ``.swap`` units, generated ones too, the services that call
    swapon themselves, and ``swap.target`` are masked; Raspberry Pi OS's rpi-swap is told to make
    none. Swap files and partitions stay as they are. If what is swapped out does not fit into RAM,
    swap stays in use until the reboot that `chaos_engine.operations.reboot` then makes.

    **Example:** ``disable_swap(name="Turn swap off")``
    """
    found = observe(Swaps)
    todo = plan(found)
    # looked at only where something changes
    differ = files.decide(todo.files, besides=map(_mask, todo.mask)) if todo else files.Plan()
    if found.areas and not fits_into_ram(found):
        warn(
            f"{found.used // 1024} MiB are swapped out and {found.available // 1024} MiB of RAM "
            "are available: swap stays in use until the next boot"
        )
    for area in found.areas:
        if area.kind == "file" and not area.name.startswith("/dev/"):
            warn(f"{area.name} ({area.size // 1024} MiB) is no longer needed; it is left there")
    for message in warnings(found, {past.thing for past in past_repairs()}):
        warn(message)
    if todo:
        because(*why(found, todo))
    differ = replace(differ, why=(), repairs=tuple(repairs(todo)))
    yield from files.transaction(
        differ, apply=compose(todo) if todo else "", noop="no swap", force=bool(todo)
    )


def plan(found: SwapState) -> Plan:
    """What has to be done, from what was found: a pure function."""
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
    """What a plan does, each thing with what was found: a pure function."""
    for area in found.areas:
        if area.name in todo.turn_off:
            yield f"turn swap off on {area.name} ({area.size // 1024} MiB)"
    for file in todo.files:
        if file.path == FSTAB:
            yield f"comment the lines for swap out in {FSTAB}"
        else:
            yield f"write {file.path}"
    yield from listed("mask", todo.mask)


def repairs(todo: Plan) -> Iterator[Repair]:
    """The things of a plan that may have been done before: a pure function."""
    for name in todo.turn_off:
        yield Repair(_area(name), "off", "swap", name, Search(_area(name), CALL))
    for file in todo.files:
        if file.path == FSTAB:
            # its other lines change, and with them its content
            yield Repair(FSTAB, "without swap", "file", FSTAB, in_files(FSTAB))
        else:
            yield of_file(file.path, file.sha256, "", None)
    for unit in todo.mask:
        yield of_unit(unit, "masked")


def _area(name: str) -> str:
    return f"swap on {name}"


def warnings(found: SwapState, told: Collection[str] = ()) -> Iterator[str]:
    """What turns swap on again after this, and whether it has done so: a pure function.

    Services and scripts of the node's owner are named and left: they may do more than that.

    + told: the things that runs have fixed before, of which more is known and said elsewhere
    """
    again = [
        area.name
        for area in found.areas
        if area.name in found.noted and _area(area.name) not in told
    ]
    if again:
        yield (
            f"{', '.join(again)} is in use as swap again, which an earlier run has turned off: "
            + (
                "see below what does that"
                if found.turners
                else "find out what does that, as with: journalctl -b | grep -i swap"
            )
        )
    for file, script in found.turners.items():
        unit = file.partition(".d/")[0].rpartition("/")[2]
        way_out = (
            f"systemctl disable --now {unit}" if "/systemd/" in file else "take that line out of it"
        )
        yield (
            f"{file} turns swap on again at each boot"
            f"{f', by {script}' if script != file else ''}: kubelet does not start with it; "
            f"{way_out}"
        )


def fits_into_ram(found: SwapState) -> bool:
    """Whether all that is swapped out has room in RAM."""
    return found.used == 0 or found.used + SPARE <= found.available


def stays_until_boot(found: SwapState, configured: bool) -> bool:
    """Whether swap in use cannot be turned off before the next boot, but is gone then.

    + configured: whether `off` has been called already in this run
    """
    return bool(found.areas) and not fits_into_ram(found) and not (configured and plan(found))


def without_swap(fstab: str) -> str:
    """The table with its swap lines made comments, everything else as it is.

    A line is one for swap if systemd or ``swapon -a`` takes it for one.
    """
    lines = re.split(r"(?<=\n)", fstab)
    return "".join(MARK + line if is_swap(line) else line for line in lines)


def _mask(unit: str) -> str:
    """The link to ``/dev/null`` that masks a unit."""
    return f"{UNITS}/{unit}"


def compose(todo: Plan) -> str:
    """The shell commands that make the new files effective: a pure function."""
    # one by one: with --all it does not say why it failed
    lines = [_NOTE] if todo.turn_off else []
    masks = {unit: quote(_mask(unit)) for unit in todo.mask}
    lines += [f"unit_was {quote(unit)}" for unit in masks]
    lines += [f"keep {' '.join(masks.values())}", "settle"] if masks else []
    for name in todo.turn_off:  # what is swapped out is read back, which takes minutes from a card
        lines += [f"tell {quote(f'turning off swap on {name}')}", f"swapoff -- {quote(name)}"]
    for unit, path in masks.items():
        # what its stop does, swapoff has done; a target or unit that is not there is no error
        lines += [f"systemctl stop -- {quote(unit)} || true"] if todo.turn_off else []
        lines.append(f"ln -sfnT /dev/null {path}")
    lines.append("systemctl daemon-reload")
    if todo.turn_off:
        lines += [
            "if sed 1d /proc/swaps | grep . >&2; then",
            "  echo 'this swap is still in use' >&2; exit 1",
            "fi",
        ]
    lines.append(f"rm -f -- {RECORD}")  # a reboot that was in vain before may help now
    return "\n".join(lines)


def _with_swap(current: bytes, original: bytes, written: bytes) -> bytes:
    """Return the table with its swap lines as they were."""
    mark = MARK.encode()
    return current.replace(b"\n" + mark, b"\n").removeprefix(mark)


UNDO = Undo(needed_when_joined=True, take_out={FSTAB: _with_swap})
