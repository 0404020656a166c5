"""The card of a node: a disk of limited size, a loop device on a file, for all that it writes.

It has the two partitions of a Raspberry Pi's card, each a file: one for `/boot/firmware` and one
for everything else. They are mounted where only the node sees it, so the kernel unmounts and
detaches them when the node's last process ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab import linux

BOOT = "/boot/firmware"
_BOOT_MIB = 32


@dataclass(frozen=True)
class Card:
    """A card of MIB mebibytes, whose files and mount points are in FOLDER."""

    folder: Path
    mib: int

    @property
    def root(self) -> Path:
        """Where the large partition is mounted."""
        return self.folder / "card"

    @property
    def boot(self) -> Path:
        """Where the boot partition is mounted."""
        return self.folder / "boot"

    def insert(self) -> None:
        """Mount both partitions in this process's mounts, made first where they are missing."""
        for place, mib in ((self.root, self.mib), (self.boot, _BOOT_MIB)):
            place.mkdir(parents=True, exist_ok=True)
            if not _image(place).exists():
                _format(_image(place), mib)
            # Such a loop device goes with its last mount
            linux.run("mount", "-t", "ext4", "-o", "loop", str(_image(place)), str(place))

    def fill_boot(self, image: Path) -> None:
        """Put what the node's image has below ``/boot/firmware`` on the fresh boot partition."""
        linux.run("cp", "-a", f"{image}/{BOOT}/.", str(self.boot))

    def device(self) -> str | None:
        """The loop device of the large partition while the node is on, such as ``loop3``."""
        for found in Path("/sys/block").glob("loop*/loop/backing_file"):
            if found.read_text().strip() == str(_image(self.root)):
                return found.parts[3]
        return None

    def discard(self) -> None:
        """Remove the files of a node that is off."""
        for place in (self.root, self.boot):
            _image(place).unlink(missing_ok=True)


def _image(place: Path) -> Path:
    return place.with_suffix(".img")


def _format(file: Path, mib: int) -> None:
    draft = file.with_suffix(".draft")
    with draft.open("wb") as blank:
        blank.truncate(mib << 20)
    # All is written at once: what the kernel would write later looks like the node's own writes.
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    linux.run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", options, str(draft))
    draft.rename(file)
