"""Test swap: what real systems have, what is decided, and the script."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.facts.manifest import MANIFEST
from chaos_engine.facts.swap import RPI_SWAP_DROP_IN, TURNERS, SwapArea, Swaps, SwapState
from chaos_engine.operations.engine.shell import NOTES
from chaos_engine.operations.files import Plan as Files
from chaos_engine.operations.files import script
from chaos_engine.operations.swap import (
    MARK,
    Plan,
    compose,
    compose_notes,
    fits_into_ram,
    plan,
    stays_until_boot,
    warnings,
    without_swap,
)
from tests.unit.asking import systemctl, value_in
from tests.unit.scripts import Sandbox

# Raspberry Pi OS 12 with dphys-swapfile, a swap partition added by hand
FSTAB_PI_OS = """\
proc            /proc           proc    defaults          0       0
PARTUUID=0a1b2c3d-01  /boot/firmware  vfat    defaults          0       2
PARTUUID=0a1b2c3d-02  /               ext4    defaults,noatime  0       1
# a swapfile is not a swap partition, no line here
#   use  dphys-swapfile swap[on|off]  for that
"""
FSTAB_UBUNTU = """\
LABEL=writable\t/\text4\tdefaults\t0 1
LABEL=system-boot       /boot/firmware  vfat    defaults        0       1
/swapfile\tnone\tswap\tsw\t0\t0
"""
FSTAB_DEBIAN = """\
# /etc/fstab: static file system information.
UUID=6f1c /               ext4    errors=remount-ro 0       1
# swap was on /dev/sda5 during installation
UUID=9a7e none            swap    sw              0       0
/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0
/dev/sdb1       /mnt/swap       ext4    defaults  0 2
"""


@pytest.mark.parametrize(
    ("fstab", "line"),
    [
        (FSTAB_UBUNTU, "/swapfile\tnone\tswap\tsw\t0\t0"),
        (FSTAB_DEBIAN, "UUID=9a7e none            swap    sw              0       0"),
        ("/dev/zram0 none swap", "/dev/zram0 none swap"),
        ("/swapfile none swap sw # mine\n", "/swapfile none swap sw # mine"),  # systemd takes it
        ("/swapfile none swap\r\n", "/swapfile none swap"),  # swapon -a takes it
        ("proc /proc proc\r\n /a none swap pri=5\r\n", " /a none swap pri=5"),
    ],
)
def test_a_swap_line_becomes_a_comment_and_nothing_else_changes(fstab: str, line: str) -> None:
    assert without_swap(fstab) == fstab.replace(line, MARK + line)


@pytest.mark.parametrize(
    "line",
    [
        "/dev/sdb1 /mnt/swap ext4 defaults 0 2",
        "swap /swap tmpfs size=1m 0 0",
        "#/swapfile none swap sw 0 0",
        "  # /swapfile none swap sw 0 0",
        "LABEL=swap none ext4 swap 0 0",
        "",
        "swap",
    ],
)
def test_a_line_that_only_mentions_swap_stays(line: str) -> None:
    assert without_swap(line + "\n") == line + "\n"
    assert without_swap(FSTAB_PI_OS + line) == FSTAB_PI_OS + line


@given(st.lists(st.text(alphabet="aswp# /\t\r", max_size=16), max_size=6), st.booleans())
def test_no_line_is_lost_and_a_second_time_changes_nothing(lines: list[str], ended: bool) -> None:
    fstab = "\n".join([*lines, "/s none swap sw 0 0"]) + ("\n" if ended else "")

    once = without_swap(fstab)

    assert once.replace(MARK, "") == fstab
    assert without_swap(once) == once
    assert once != fstab


AREAS = r"""Filename				Type		Size		Used		Priority
/my\040swap                             file		1048572		20480		-2
"""
MEMORY = "MemTotal:         900 kB\nMemAvailable:  611000 kB\n"


def look(root: Path, units: dict[str, dict[str, str]], **files: str | None) -> SwapState:
    """Return what the fact says of a node with these files; "_" stands for "/" in their names."""
    usual = {"proc_swaps": AREAS, "proc_meminfo": MEMORY, "etc_fstab": FSTAB_UBUNTU}
    for name, text in {**usual, **files}.items():
        if text is not None:
            path = root / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return value_in(root, Swaps, systemctl(units))


def test_reads_what_is_in_use_and_what_would_bring_it(tmp_path: Path) -> None:
    names = (
        "run/systemd/generator/swapfile.swap",
        r"etc/systemd/system/dev-disk-by\x2dlabel-old.swap",
    )
    others = ("run/systemd/generator/template@.swap", "etc/systemd/system/swap.mount")
    generator = "usr/lib/systemd/system-generators/rpi-swap-generator"
    for name in (*names, *others, generator):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = look(
        tmp_path,
        {
            "swap.target": {"UnitFileState": "static"},
            "zramswap.service": {"LoadState": "masked", "UnitFileState": ""},
            "zram-config.service": {"UnitFileState": "enabled"},
            "swapfile.swap": {"UnitFileState": "generated"},
            r"dev-disk-by\x2dlabel-old.swap": {"LoadState": "masked", "UnitFileState": "masked"},
        },
    )

    assert found == SwapState(
        areas=(SwapArea("/my swap", "file", 1048572, 20480),),
        available=611000,
        fstab=FSTAB_UBUNTU,
        units={"swapfile.swap": "generated", r"dev-disk-by\x2dlabel-old.swap": "masked"},
        services={
            "swap.target": "static",
            "zramswap.service": "masked",
            "zram-config.service": "enabled",
        },
        rpi_swap=True,
        rpi_swap_drop_in=None,
    )
    assert found.used == 20480


def test_a_node_without_swap_and_fstab_has_none(tmp_path: Path) -> None:
    header = AREAS.splitlines(keepends=True)[0]
    found = look(tmp_path, {"swap.target": {}}, etc_fstab=None, proc_swaps=header)
    assert found == SwapState((), 611000, "", {}, {"swap.target": "loaded"}, False, None)


def test_the_file_that_turns_rpi_swap_off_is_read(tmp_path: Path) -> None:
    path = tmp_path / RPI_SWAP_DROP_IN.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text("[Main]\nMechanism=none\n")
    assert look(tmp_path, {}).rpi_swap_drop_in == "[Main]\nMechanism=none\n"


def test_swap_that_a_run_has_turned_off_is_noted_while_swap_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST.lstrip("/")
    path.parent.mkdir(parents=True)
    lines = ("swap\tfile\toriginal\t/etc/fstab\t.", "swap\tswap\t-2\t/my swap\t.", "docker\tswap")
    path.write_text("\n".join(lines))
    assert look(tmp_path, {}).noted == ("/my swap",)
    assert look(tmp_path, {}, proc_swaps=AREAS.splitlines()[0]).noted == ()


@pytest.mark.parametrize(
    "files", [{"proc_swaps": "Filename Type\n/swapfile file many 0 -2\n"}, {"proc_meminfo": "x\n"}]
)
def test_a_damaged_answer_is_no_default(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(FactProcessError, match="unexpected answer"):
        look(tmp_path, {}, **files)


def turners(root: Path, there: dict[str, str], disabled: tuple[str, ...] = ()) -> dict[str, str]:
    """Make these files, all executable, below a folder; return what the fact finds among them."""
    for name, text in there.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("@", str(root)))
        path.chmod(0o755)
    script = re.sub(r"(?<=\s)(/etc|/usr|/var)/", rf"{root}\1/", TURNERS)
    off = "|".join(("-", *disabled))
    systemctl = f"systemctl() {{ case $4 in {off}) false ;; esac; }}\n"
    done = subprocess.run(
        ["sh", "-c", f"{systemctl}{script}turners"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = [line.replace(str(root), "").split(" ") for line in done.stdout.splitlines()]
    return {file: script for _, file, script in lines}


ZRAM = "/etc/systemd/system/zram.service"
SCRIPT_TEXT = """\
#!/bin/sh
# swapon is at the end
modprobe zram; mkswap /dev/zram0
  swapon -p 5 /dev/zram0
"""


@pytest.mark.parametrize(
    ("there", "found"),
    [
        # as in several tutorials on zram for the Raspberry Pi
        (
            {
                ZRAM: "[Service]\nExecStart=@/usr/local/bin/zram.sh start\n",
                "/usr/local/bin/zram.sh": SCRIPT_TEXT,
            },
            {ZRAM: "/usr/local/bin/zram.sh"},
        ),
        (
            {ZRAM: "[Service]\nExecStart=-/bin/bash '-c' \\\n  @/opt/z;\n", "/opt/z": SCRIPT_TEXT},
            {ZRAM: "/opt/z"},
        ),
        ({ZRAM: "[Service]\nExecStartPost=/sbin/swapon /swapfile\n"}, {ZRAM: ZRAM}),
        (
            {"/etc/systemd/system/a.service.d/b.conf": "[Service]\nExecStart=/sbin/swapon /s\n"},
            {"/etc/systemd/system/a.service.d/b.conf": "/etc/systemd/system/a.service.d/b.conf"},
        ),
        ({"/etc/rc.local": "#!/bin/sh\nswapon /swapfile\n"}, {"/etc/rc.local": "/etc/rc.local"}),
        (
            {
                "/etc/cron.d/x": "@reboot root @/x.sh\n".replace("@reboot", "*"),
                "/x.sh": SCRIPT_TEXT,
            },
            {"/etc/cron.d/x": "/x.sh"},
        ),
        # files that only look at swap, or mention it
        ({"/etc/cron.d/x": "* * * * * root swapon --show; swapon -s; /sbin/swapon\n"}, {}),
        ({ZRAM: "[Service]\n# ExecStart=/sbin/swapon /s\n; swapon /s\nExecStart=/bin/true\n"}, {}),
        ({"/etc/systemd/system/off.service": "[Service]\nExecStart=/sbin/swapon /s\n"}, {}),
        ({ZRAM: "[Service]\nExecStart=/sbin/swapon --all\nExecStart=/sbin/swapon -a\n"}, {}),
        ({"/etc/init.d/dphys-swapfile": "swapon /var/swap\n"}, {}),
        ({}, {}),
    ],
)
def test_what_the_owner_has_made_to_turn_swap_on_is_found(
    tmp_path: Path, there: dict[str, str], found: dict[str, str]
) -> None:
    assert turners(tmp_path, there, disabled=("off.service",)) == found


def test_what_turns_swap_on_again_is_named() -> None:
    (message,) = warnings(state(turners={ZRAM: "/usr/local/bin/zram.sh"}))
    assert message.startswith(f"{ZRAM} turns swap on at each boot, through /usr/local/bin/zram.sh")
    assert message.endswith("systemctl disable --now zram.service")
    (message,) = warnings(state(turners={"/etc/rc.local": "/etc/rc.local"}))
    assert message.endswith("remove that line from the file")
    assert list(warnings(state(areas=USED))) == []


def test_swap_that_has_come_back_is_told() -> None:
    again, named = warnings(state(areas=USED, noted=(USED[0].name,), turners={ZRAM: "/z"}))
    assert (
        "swap is in use again on /swapfile, although an earlier run turned it off; the next"
        in again
    )
    assert ZRAM in named
    (again,) = warnings(state(areas=USED, noted=(USED[0].name,)))
    assert "find out what turns swap on" in again


def state(**changes: Any) -> SwapState:
    usual = SwapState(
        areas=(),
        available=500_000,
        fstab=FSTAB_PI_OS,
        units={},
        services={"swap.target": "masked"},
        rpi_swap=False,
        rpi_swap_drop_in=None,
    )
    return replace(usual, **changes)


USED = (SwapArea("/swapfile", "file", 1048572, 204800),)


def test_a_node_without_swap_needs_nothing() -> None:
    assert not plan(state())


def test_each_provider_is_dealt_with_by_itself() -> None:
    assert plan(state(services={"swap.target": "static"})).mask == ("swap.target",)
    assert plan(state(services={"dphys-swapfile.service": "disabled"})).mask == (
        "dphys-swapfile.service",
    )
    assert plan(state(services={"zramswap.service": "masked-runtime"})).mask == (
        "zramswap.service",
    )
    units = {"dev-zram0.swap": "generated", "old.swap": "masked"}
    assert plan(state(units=units)).mask == ("dev-zram0.swap",)
    (file,) = plan(state(rpi_swap=True)).files
    assert (file.path, file.content) == (
        "/etc/rpi/swap.conf.d/90-chaos-engine.conf",
        "[Main]\nMechanism=none\n",
    )
    assert not plan(state(rpi_swap=True, rpi_swap_drop_in="[Main]\nMechanism=none\n"))


def test_fstab_keeps_its_mode_and_owner() -> None:
    (file,) = plan(state(fstab=FSTAB_UBUNTU)).files

    assert (file.path, file.merged) == ("/etc/fstab", True)


def test_swap_is_turned_off_where_its_content_fits_into_ram() -> None:
    assert plan(state(areas=USED)).turn_off == ("/swapfile",)
    assert fits_into_ram(state(areas=USED))
    assert not stays_until_boot(state(areas=USED), configured=True)


def test_swap_whose_content_does_not_fit_stays_until_the_next_boot() -> None:
    short = state(areas=USED, available=210_000)

    assert plan(short).turn_off == ()
    assert stays_until_boot(short, configured=False)
    assert stays_until_boot(short, configured=True)
    # a reboot does not help as long as swap would come back
    assert stays_until_boot(replace(short, fstab=FSTAB_UBUNTU), configured=False)
    assert not stays_until_boot(replace(short, fstab=FSTAB_UBUNTU), configured=True)


def test_unused_swap_needs_no_room() -> None:
    assert fits_into_ram(
        state(areas=(SwapArea("/dev/zram0", "partition", 100, 0),), available=1000)
    )


def test_the_script_turns_swap_off_and_masks_what_would_bring_it(tmp_path: Path) -> None:
    box = Sandbox(tmp_path)
    plan = Plan(mask=("swap.target", r"dev-disk-by\x2dlabel-a.swap"), turn_off=("/my swap",))
    text = f"{compose_notes(plan)}\nsettle\n{compose(plan)}"
    units = tmp_path / "system"
    units.mkdir()
    (units / r"dev-disk-by\x2dlabel-a.swap").write_text("[Swap]\n")
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n")

    done = box.run(localise(box, text), before=f'swapoff() {{ echo "$2" >{tmp_path}/off; }}')

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "off").read_text() == "/my swap\n"
    assert box.calls == [
        "stop -- swap.target",
        r"stop -- dev-disk-by\x2dlabel-a.swap",
        "daemon-reload",
    ]
    for unit in ("swap.target", r"dev-disk-by\x2dlabel-a.swap"):
        assert (units / unit).readlink() == Path("/dev/null")
    kept = tmp_path / "var/originals" / str(units)[1:] / r"dev-disk-by\x2dlabel-a.swap"
    assert kept.read_text() == "[Swap]\n"
    assert "file created /system/swap.target" in box.manifest
    assert r"file original /system/dev-disk-by\x2dlabel-a.swap" in box.manifest


def test_swap_is_noted_before_fstab_changes(tmp_path: Path) -> None:
    """As the power may be cut in between: the node then boots without swap."""
    box = Sandbox(tmp_path)
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n/swap.img file 9 0 -2\n")
    (tmp_path / "fstab").write_text("/swap.img none swap sw 0 0\n")
    fstab = Files(write=(box.file("fstab", "#\n"),))
    plan = Plan(mask=("swap.target",), turn_off=("/swap.img",))
    text = script.compose(fstab, apply=compose(plan), before=compose_notes(plan))
    cut = f'mv() {{ command mv "$@"; case $* in *" {tmp_path}/fstab") kill -9 $$ ;; esac; }}'

    done = box.run(localise(box, text), fstab.write, before=cut)

    assert done.returncode == -9
    assert (tmp_path / "fstab").read_text() == "#\n"
    assert "swap -2 /swap.img" in box.manifest
    assert "file created /system/swap.target" in box.manifest
    assert any(line.startswith("unit ") and "swap.target" in line for line in box.manifest)


def test_swap_that_is_still_in_use_is_a_failure(tmp_path: Path) -> None:
    box = Sandbox(tmp_path)
    (tmp_path / "swaps").write_text("Filename Type\n/dev/zram0 partition 100 0 5\n")

    done = box.run(localise(box, compose(Plan(turn_off=("/swapfile",)))), before="swapoff() { :; }")

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "/dev/zram0 partition 100 0 5",
        "this swap is still in use",
    ]


def test_a_swapoff_that_fails_masks_nothing(tmp_path: Path) -> None:
    box = Sandbox(tmp_path)
    plan = Plan(mask=("swap.target",), turn_off=("/swapfile",))

    done = box.run(localise(box, compose(plan)), before="swapoff() { return 4; }")

    assert done.returncode == 4
    assert box.calls == []


def localise(box: Sandbox, text: str) -> str:
    """Run the commands as `files.transaction` does, below a folder."""
    text = text.replace("/etc/systemd/system", f"{box.root}/system")
    return f"set -eu\ntell() {{ :; }}\n{NOTES}\n" + text.replace("/proc/swaps", f"{box.root}/swaps")
