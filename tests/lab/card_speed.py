"""How slow a node's card is: limits that the kernel keeps for its loop devices.

They are rules of the blkio controller of cgroup v1, in its root group. There they hold for all
that reaches the device: synchronous writes, and what the kernel writes back later. A flush counts
as a write. Reading and writing do not share a limit, as they do on a card.

The numbers come from what the SD Association asks of a card, and from what people measured:

- Application Performance Class A1 asks for 1,500 random reads and 500 random writes of 4 KiB a
  second and 10 MB/s of sequential writing; A2 asks for 4,000, 2,000 and 10 MB/s
  (https://www.sdcard.org/developers/sd-standard-overview/application-performance-class/).
- Fifteen cards in a Raspberry Pi 4
  (https://www.pidramble.com/wiki/benchmarks/microsd-cards): 6.6 to 39.6 MB/s of sequential
  writing, median 35.5; 0.22 to 4.70 MB/s of random 4 KiB writes, that is 54 to 1,150 a second,
  median 580; 41 to 44 MB/s of reading; 1.58 to 10.8 MB/s of random 4 KiB reads, that is 390 to
  2,640 a second, median 2,250. Of the two with the mark A2 one writes 620 blocks a second there,
  the other 900, since that class needs a computer that queues commands.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Speed:
    """What a card does at most, in bytes and in requests a second."""

    write_bps: int
    write_iops: int
    read_bps: int
    read_iops: int


SPEEDS = {
    # Of those fifteen eleven write as much in sequence, three at random
    "good": Speed(write_bps=20_000_000, write_iops=800, read_bps=40_000_000, read_iops=2400),
    # Only the slowest writes less at random, two in sequence: a card without a mark A1
    "poor": Speed(write_bps=10_000_000, write_iops=150, read_bps=40_000_000, read_iops=400),
}
"""What `--card-speed` may be."""

_KINDS = tuple(Speed.__dataclass_fields__)


def controller(mounts: Path = Path("/proc/self/mounts")) -> Path | None:
    """Return the root group of cgroup v1's blkio controller, if this computer can limit devices.

    A computer that has the controller in cgroup v2 (io.max), as most have, has no rules for the
    root group.
    """
    for line in mounts.read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "blkio" in options.split(","):
            root = Path(where)
            return root if _file(root, _KINDS[0]).exists() else None
    return None


def limits(device: str) -> dict[str, int]:
    """Return the limits of a device such as ``7:3``, by the names of `Speed`'s fields."""
    root = controller()
    found: dict[str, int] = {}
    if root is None:
        return found
    for kind in _KINDS:
        for line in _file(root, kind).read_text().splitlines():
            limited, value = line.split()
            if limited == device:
                found[kind] = int(value)
    return found


def limit(device: str, speed: Speed | None) -> None:
    """Hold a device such as ``7:3`` to SPEED; None removes its limits.

    Nothing happens without the controller, or without limits to remove: the kernel would begin to
    look at each request of the device.
    """
    root = controller()
    if root is None or (speed is None and not limits(device)):
        return
    # 0 removes a rule: Documentation/admin-guide/cgroup-v1/blkio-controller.rst of the kernel
    for kind, value in (dict.fromkeys(_KINDS, 0) if speed is None else asdict(speed)).items():
        _file(root, kind).write_text(f"{device} {value}")


def _file(root: Path, kind: str) -> Path:
    return root / f"blkio.throttle.{kind}_device"
