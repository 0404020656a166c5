"""Read the device of the root file system, such as an SD card, and how much was written to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.kernel import BOOT_ID
from chaos_engine.facts.mounts import MOUNTS, mounted_at, mounts_in
from chaos_engine.facts.observe import ComposedFact, Read, Value
from chaos_engine.facts.systemd_files import texts_of

_SECTOR_BYTES = 512
"""The unit of the kernel's counters, in bytes. The device's own sectors may have another size
(block/stat.rst)."""

_UPTIME = "/proc/uptime"

# The files that describe a card (Documentation/driver-api/mmc/mmc-dev-attrs.rst), or a SCSI or NVMe
# disk. Only an eMMC has life_time and pre_eol_info
_ATTRIBUTES = ("name", "model", "type", "date", "serial", "life_time", "pre_eol_info")

_PATTERNS = (
    MOUNTS,
    BOOT_ID,
    (_UPTIME, r"^\S+"),
    "/sys/block/*/dev",
    "/sys/block/*/*/dev",
    "/sys/block/*/size",
    ("/sys/block/*/stat", r"^(?:\s*\d+){7}"),
    *(f"/sys/block/*/device/{name}" for name in _ATTRIBUTES),
)

_DEVICE = re.compile(r"/sys/block/([^/]+)(?:/([^/]+))?/dev")


@dataclass(frozen=True)
class Card(Value):
    """The device of the root file system, as the kernel describes it.

    + device: the kernel's name of the whole device, such as "mmcblk0"
    + kind: "SD" or "MMC" for a card, "" for another device
    + model: the name that the device gives itself, such as "SC64G"; "" if it gives none
    + date: month of manufacture, such as "05/2021"; "" if unknown
    + serial: the device's serial number, "" if unknown
    + size: in bytes
    + life_time: the used part of an eMMC's life, as one number for each of its two memory areas. 1
      means up to 10 %, 10 means up to 100 %, 11 means more than 100 %. () if unknown
    + reserve: the used part of an eMMC's spare blocks. 1 means normal, 2 means 80 %, 3 means 90 %.
      0 if unknown
    + written: bytes that the kernel has written to the device since it booted
    + uptime: seconds since the kernel booted
    + boot_id: the ID of this boot
    """

    device: str
    kind: str
    model: str
    date: str
    serial: str
    size: int
    life_time: tuple[int, ...]
    reserve: int
    written: int
    uptime: float
    boot_id: str


class RootCard(ComposedFact["Card | None"]):
    """The device of the root file system.

    The value is ``None`` if the root file system is not on a block device. For example, it may be
    in RAM or on a share.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.card.RootCard``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (Read.of(Texts, patterns=_PATTERNS),)

    @override
    def compose(self, found: dict[str, bytes | None]) -> Card | None:
        root = mounted_at(mounts_in(found), "/")
        texts = {path: text.strip() for path, text in texts_of(found).items()}
        device = device_of(texts, root.device, root.source) if root else ""
        return parse_card(texts, device) if device else None


def device_of(texts: Mapping[str, str], number: str, source: str) -> str:
    """Return the name of the disk that holds a file system, such as "mmcblk0".

    This is a pure function.

    + texts: the content of the files ``dev`` below ``/sys/block``, by path
    + number: the file system's device number, such as "179:2"
    + source: the file system's source, such as "/dev/mmcblk0p2". It is used only if no device has
      `number`, as for btrfs

    Returns "" if no disk is found.

    **Example:** ``device_of({"/sys/block/mmcblk0/mmcblk0p2/dev": "179:2"}, "179:2", "")``
    """
    by_name = {}
    for path, text in texts.items():
        disk, part = match.groups() if (match := _DEVICE.fullmatch(path)) else ("", "")
        # An NVMe disk also has a file `device/dev`, with the number of a character device
        if disk and (not part or part.startswith(disk)):
            if text == number:
                return disk
            by_name[part or disk] = disk
    return by_name.get(source.removeprefix("/dev/"), "")


def parse_card(texts: Mapping[str, str], device: str) -> Card:
    """Make a `Card` from a device's files in ``/sys/block``. This is a pure function.

    + texts: the content of files below ``/sys/block``, and of ``/proc/uptime``, by path
    + device: the kernel's name of the device

    Raises ``LookupError`` or ``ValueError`` for texts of unknown form.
    """
    folder = f"/sys/block/{device}"
    said = {name: texts.get(f"{folder}/device/{name}", "") for name in _ATTRIBUTES}
    return Card(
        device=device,
        kind=said["type"] if said["type"] in ("SD", "MMC") else "",
        model=said["model"] or said["name"],
        date=said["date"],
        serial=said["serial"],
        size=_counter(texts[f"{folder}/size"]) * _SECTOR_BYTES,
        life_time=_life_time(said["life_time"]),
        reserve=int(said["pre_eol_info"] or "0", 16),
        written=_counter(texts[f"{folder}/stat"].split()[6]) * _SECTOR_BYTES,
        uptime=_uptime(texts[_UPTIME]),
        boot_id=texts[BOOT_ID],
    )


def _counter(text: str) -> int:
    """Parse a counter of the kernel, which has 64 bits. Raise ``ValueError`` for another number."""
    if not 0 <= (found := int(text)) < 1 << 64:
        raise ValueError(f"{text} is no counter")
    return found


def _uptime(text: str) -> float:
    """Parse the seconds since the boot. Raise ``ValueError`` if they are more than 300 years."""
    if not 0 <= (found := float(text)) < 1e10:
        raise ValueError(f"{text} is no uptime")
    return found


def _life_time(text: str) -> tuple[int, ...]:
    """Parse a ``life_time`` such as ``0x02 0x01``. Return () if the device does not report it."""
    found = tuple(int(word, 16) for word in text.split())
    return found if any(found) else ()  # 0x00: not defined (JESD84-B51, 7.4.40)
