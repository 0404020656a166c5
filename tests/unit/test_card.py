"""Read the card: its device, its wear, and what was written to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from chaos_engine.facts.card import Card, RootCard, device_of, parse_card
from tests.unit.asking import ask, ask_below

MOUNTS = "26 1 {number} / / rw,relatime shared:1 - {fstype} {source} rw\n"
BOOT_ID = "b9a9b3f1-8f57-4e6a-9f0a-6f2f3d0f4c11"

# A Raspberry Pi 4 with an SD card, and the disks in RAM that its kernel always has
SD = {
    "/proc/self/mountinfo": MOUNTS.format(number="179:2", fstype="ext4", source="/dev/mmcblk0p2"),
    "/proc/sys/kernel/random/boot_id": f"{BOOT_ID}\n",
    "/proc/uptime": "86400.25 340000.10\n",
    "/sys/block/ram0/dev": "1:0\n",
    "/sys/block/ram0/size": "8192\n",
    "/sys/block/ram0/stat": "       0        0        0        0        0        0        0\n",
    "/sys/block/mmcblk0/dev": "179:0\n",
    "/sys/block/mmcblk0/mmcblk0p1/dev": "179:1\n",
    "/sys/block/mmcblk0/mmcblk0p2/dev": "179:2\n",
    "/sys/block/mmcblk0/size": "124735488\n",
    "/sys/block/mmcblk0/stat": (
        "   22480    14201  1725634   125731     9875    14442   421988   289411        0   113208"
        "   415142        0        0        0        0        0        0\n"
    ),
    "/sys/block/mmcblk0/device/name": "SC64G\n",
    "/sys/block/mmcblk0/device/type": "SD\n",
    "/sys/block/mmcblk0/device/date": "05/2021\n",
    "/sys/block/mmcblk0/device/serial": "0x0b8c7a12\n",
}
EMMC = SD | {
    "/sys/block/mmcblk0/device/name": "BJTD4R\n",
    "/sys/block/mmcblk0/device/type": "MMC\n",
    "/sys/block/mmcblk0/device/life_time": "0x02 0x01\n",
    "/sys/block/mmcblk0/device/pre_eol_info": "0x01\n",
}
NVME = {
    **{path: SD[path] for path in SD if path.startswith("/proc/")},
    "/proc/self/mountinfo": MOUNTS.format(number="259:2", fstype="ext4", source="/dev/nvme0n1p2"),
    "/sys/block/nvme0n1/dev": "259:0\n",
    "/sys/block/nvme0n1/nvme0n1p2/dev": "259:2\n",
    # the number of a character device, which has the same form
    "/sys/block/nvme0n1/device/dev": "259:2\n",
    "/sys/block/nvme0n1/size": "488397168\n",
    "/sys/block/nvme0n1/stat": "1 0 2 3 4 0 8 5 0 6 7\n",
    "/sys/block/nvme0n1/device/model": "Samsung SSD 970 EVO Plus 250GB          \n",
    "/sys/block/nvme0n1/device/serial": "S4EUNX0R123456     \n",
}


def node(root: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_an_sd_card_is_described(tmp_path: Path) -> None:
    assert ask_below(node(tmp_path, SD), RootCard) == Card(
        device="mmcblk0",
        kind="SD",
        model="SC64G",
        date="05/2021",
        serial="0x0b8c7a12",
        size=63864569856,
        life_time=(),
        reserve=0,
        written=421988 * 512,
        uptime=86400.25,
        boot_id=BOOT_ID,
    )


def test_an_emmc_says_how_worn_it_is(tmp_path: Path) -> None:
    card = ask_below(node(tmp_path, EMMC), RootCard)
    assert card is not None
    assert (card.kind, card.life_time, card.reserve) == ("MMC", (2, 1), 1)


def test_an_emmc_that_does_not_know_its_wear_says_none(tmp_path: Path) -> None:
    files = EMMC | {"/sys/block/mmcblk0/device/life_time": "0x00 0x00\n"}
    card = ask_below(node(tmp_path, files), RootCard)
    assert card is not None
    assert card.life_time == ()


def test_another_disk_is_described_too(tmp_path: Path) -> None:
    card = ask_below(node(tmp_path, NVME), RootCard)
    assert card is not None
    assert (card.device, card.kind, card.written) == ("nvme0n1", "", 8 * 512)
    assert card.model == "Samsung SSD 970 EVO Plus 250GB"


def test_btrfs_is_found_by_its_device(tmp_path: Path) -> None:
    mounts = MOUNTS.format(number="0:23", fstype="btrfs", source="/dev/mmcblk0p2")
    card = ask_below(node(tmp_path, SD | {"/proc/self/mountinfo": mounts}), RootCard)
    assert card is not None
    assert card.device == "mmcblk0"


@pytest.mark.parametrize(
    ("fstype", "source"), [("overlay", "overlay"), ("nfs4", "10.0.0.2:/pi1"), ("tmpfs", "none")]
)
def test_a_root_file_system_on_no_device_has_no_card(
    tmp_path: Path, fstype: str, source: str
) -> None:
    mounts = MOUNTS.format(number="0:57", fstype=fstype, source=source)
    assert ask_below(node(tmp_path, SD | {"/proc/self/mountinfo": mounts}), RootCard) is None


def test_a_card_without_a_description_is_one(tmp_path: Path) -> None:
    files = {path: text for path, text in SD.items() if "/device/" not in path}
    card = ask_below(node(tmp_path, files), RootCard)
    assert card is not None
    assert (card.model, card.date, card.kind, card.serial) == ("", "", "", "")


def test_texts_of_unknown_form_are_an_error() -> None:
    texts = {path: text.strip() for path, text in SD.items()}
    with pytest.raises(ValueError, match="many"):
        parse_card(texts | {"/sys/block/mmcblk0/size": "many"}, "mmcblk0")
    with pytest.raises(LookupError):
        parse_card(texts | {"/sys/block/mmcblk0/stat": "1 2 3"}, "mmcblk0")
    for uptime in ("nan", "inf", "-1", "1e12"):
        with pytest.raises(ValueError, match="uptime"):
            parse_card(texts | {"/proc/uptime": uptime}, "mmcblk0")
    for size in (-1, 1 << 64):
        with pytest.raises(ValueError, match="counter"):
            parse_card(texts | {"/sys/block/mmcblk0/size": str(size)}, "mmcblk0")


def test_the_whole_device_of_a_partition_is_found() -> None:
    texts = {"/sys/block/sda/dev": "8:0", "/sys/block/sda/sda1/dev": "8:1"}
    assert device_of(texts, "8:1", "") == "sda"
    assert device_of(texts, "8:0", "") == "sda"
    assert device_of(texts, "8:2", "/dev/sdb1") == ""


def test_this_computer_is_read_without_an_error() -> None:
    card = ask(RootCard)
    assert card is None or (card.size > 0 and card.uptime > 0)
