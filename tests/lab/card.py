"""The card of a node: a disk of limited size, loop devices on files, for all that it writes.

It has the two partitions of a Raspberry Pi's card, each a file: the root, which holds a full copy
of the node's image, and `/boot/firmware`. They are mounted where only the node sees it, so the
kernel unmounts and detaches them when the node's last process ends.

Both are plain ext4. An overlay would not do for the root: its rename has no target in the upper
layer, so ext4 does not write out the new content of a file that is replaced. Nor is there vfat for
the boot partition: the kernel may lack it, and Debian's only FUSE implementation (fusefat 0.1a-3,
which Debian 13 no longer has) replaces files by rename, but answers chmod and chown with "Function
not implemented", and writes all at once, so that a power cut loses nothing.

`python -m tests.lab.card FILE MIB LAYER...` makes the file of a root from an image's layers: a
program of its own, because it moves into mounts of its own first.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache, card_speed, linux, paths
from tests.lab.card_speed import Speed
from tests.lab.errors import LabError

BOOT = "/boot/firmware"
_BOOT_MIB = 32
_LIMITED = "limited"
"""The file that names the devices with limits, as long as there are some."""
_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN of the kernel's fs/ext4/ext4.h: `_IOR('X', 125, __u32)`."""
_NO_LOG_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written any more."""


@dataclass(frozen=True)
class Card:
    """A card of MIB mebibytes, whose files and mount points are in FOLDER.

    With a SPEED, both its partitions are as slow as that from `limit` to `lift`, each for itself.
    """

    folder: Path
    mib: int
    speed: Speed | None = None

    @property
    def root(self) -> Path:
        """Where the large partition is mounted."""
        return self.folder / "card"

    @property
    def boot(self) -> Path:
        """Where the boot partition is mounted."""
        return self.folder / "boot"

    @property
    def _partitions(self) -> tuple[Path, Path]:
        return self.root, self.boot

    def insert(self, layers: Sequence[Path], *, cached: bool) -> None:
        """Mount both partitions in this process's mounts, made first where they are missing.

        A fresh root has what is in LAYERS, topmost first; with CACHED its file is kept for others.
        """
        self.lift()  # of a node whose power supply was killed
        for place in self._partitions:
            place.mkdir(parents=True, exist_ok=True)
        if not _file(self.root).exists():
            self._make_root(layers, cached=cached)
        if not _file(self.boot).exists():
            draft = _file(self.boot).with_suffix(".draft")
            _format(draft, _BOOT_MIB)
            draft.rename(_file(self.boot))
        for place in self._partitions:
            _mount(_file(place), place)
        for device in self._devices():
            # A killed lab that nobody took down may have had the same loop device
            card_speed.limit(device, None)

    def _make_root(self, layers: Sequence[Path], *, cached: bool) -> None:
        draft = _file(self.root).with_suffix(".draft")
        if cached:
            ready = _piece(self.mib, layers) / "root.img"
            linux.run("cp", "--reflink=auto", "--sparse=always", str(ready), str(draft))
        else:
            _make(draft, self.mib, layers)
        draft.rename(_file(self.root))

    def fill_boot(self, image: Path) -> None:
        """Put what the node's image has below ``/boot/firmware`` on the fresh boot partition."""
        linux.run("cp", "-a", f"{image}/{BOOT}/.", str(self.boot))

    def synchronise(self) -> None:
        """Write all to the card that this computer still keeps in memory."""
        linux.run("sync", "-f", *map(str, self._partitions))

    def limit(self) -> None:
        """Hold the card, which is inserted, to its speed."""
        if self.speed is None:
            return
        devices = self._devices()
        # First: the limits outlast the mount, and whoever is to lift them must know the devices
        (self.folder / _LIMITED).write_text("".join(f"{device}\n" for device in devices))
        for device in devices:
            card_speed.limit(device, self.speed)

    def lift(self) -> None:
        """Remove the card's limits, if it has any."""
        lift(self.folder)

    def limits(self) -> dict[str, int]:
        """Return the limits that the kernel has for the large partition, as `card_speed.limits`."""
        device = self.device()
        return card_speed.limits(number(device)) if device else {}

    def _devices(self) -> list[str]:
        names = [_loop_device(_file(place)) for place in self._partitions]
        return [number(name) for name in names if name]

    def lose(self, processes: Iterable[int]) -> None:
        """Have both file systems write nothing any more, not even what the node was told is there.

        + processes: those of the node, one of which sees where they are mounted
        """
        left = {place for place in self._partitions if _loop_device(_file(place))}
        for process in processes:
            for place in tuple(left):
                try:
                    descriptor = os.open(f"/proc/{process}/root{place}", os.O_RDONLY)
                except OSError:  # this one does not see it, or has ended
                    continue
                try:
                    # Another process may see the empty folder, on a disk that is not the node's
                    device = os.fstat(descriptor).st_dev
                    behind = _backing_file(f"{os.major(device)}:{os.minor(device)}")
                    if behind == str(_file(place)):
                        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
                        left.remove(place)
                finally:
                    os.close(descriptor)
        if left:
            raise LabError(f"no process of the node sees {', '.join(map(str, left))}")

    def wait_until_out(self) -> None:
        """Return once the kernel has unmounted both partitions of a node whose power is cut."""
        linux.wait_until(
            lambda: not any(_loop_device(_file(place)) for place in self._partitions),
            seconds=60,
            otherwise=f"the card in {self.folder} stays mounted",
        )

    def device(self) -> str | None:
        """The loop device of the large partition while the node is on, such as ``loop3``."""
        return _loop_device(_file(self.root))

    def discard(self) -> None:
        """Remove the files of a node that is off."""
        self.lift()
        for place in self._partitions:
            _file(place).unlink(missing_ok=True)


def lift(folder: Path) -> None:
    """Remove the limits of the card in FOLDER, even if it is not inserted any more."""
    note = folder / _LIMITED
    if not note.exists():
        return
    for device in note.read_text().split():
        behind = _backing_file(device)
        # Another lab that got the loop device since then has its own limits, or none
        if behind is None or folder in Path(behind).parents or not _is_card(behind):
            card_speed.limit(device, None)
    note.unlink()


def number(device: str) -> str:
    """Return the number, such as ``7:3``, of a device such as ``loop3``."""
    return Path(f"/sys/block/{device}/dev").read_text().strip()


def _is_card(file: str) -> bool:
    return paths.DISKS in Path(file).parents


def _file(place: Path) -> Path:
    return place.with_suffix(".img")


def _loop_device(file: Path) -> str | None:
    for found in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if found.read_text().strip() == str(file):
                return found.parts[3]
        except OSError:  # detached meanwhile
            continue
    return None


def _backing_file(device: str) -> str | None:
    """Return the file behind the loop device of this number, such as ``7:3``, if there is one."""
    found = Path(f"/sys/dev/block/{device}/loop/backing_file")
    try:
        return found.read_text().strip()
    except OSError:
        return None


def _mount(file: Path, place: Path) -> None:
    # Such a loop device goes with its last mount
    linux.run("mount", "-t", "ext4", "-o", "loop", str(file), str(place))


def _format(file: Path, mib: int) -> None:
    with file.open("wb") as blank:
        blank.truncate(mib << 20)
    # All is written at once: what the kernel would write later looks like the node's own writes.
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    linux.run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", options, str(file))


def _piece(mib: int, layers: Sequence[Path]) -> Path:
    """Return the cache's folder with the root's file for an image."""
    image = layers[0].parent.name
    return cache.piece(
        f"card-{mib}-{image.rpartition('-')[0]}",
        [*map(str, layers), Path(__file__)],
        lambda place: _make(place / "root.img", mib, layers),
        what=f"card of {mib} MiB with {image}",
    )


def prepare(mib: int, layers: Sequence[Path]) -> None:
    """Make what fresh cards are copied from, before a node waits for it."""
    _piece(mib, layers)


def _make(file: Path, mib: int, layers: Sequence[Path]) -> None:
    words = [str(file), str(mib), *map(str, layers)]
    linux.run(sys.executable, "-m", "tests.lab.card", *words, directory=paths.CHECKOUT)


def main(file: Path, mib: int, layers: Sequence[Path]) -> None:
    """Make FILE a file system of MIB mebibytes with what is in LAYERS, topmost first."""
    linux.enter_private_mounts()
    source, target = file.with_suffix(".source"), file.with_suffix(".target")
    for place in (source, target):
        place.mkdir(exist_ok=True)
    _format(file, mib)
    _mount(file, target)
    linux.overlay(source, lower=layers)
    linux.run("cp", "-a", f"{source}/.", str(target))
    for place in (source, target):
        linux.run("umount", str(place))
        place.rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(layer) for layer in sys.argv[3:]])
