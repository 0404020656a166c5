"""Test the journal in RAM: its configuration, its settings, and drop-ins that override it."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from chaos_engine.deploys.journald import PATH, JournaldSettings
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.facts.journald import DropIn, DropIns
from chaos_engine.operations.journald import overrides
from chaos_engine.templates import render
from tests.unit.asking import ask_below

CONFIG = render("journald.conf.j2", max_use="64M", max_file_size="8M")


def test_the_journal_is_in_ram_capped_and_forwarded_at_every_level() -> None:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(CONFIG)
    assert dict(parser["Journal"]) == {
        "Storage": "volatile",
        "RuntimeMaxUse": "64M",
        "RuntimeMaxFileSize": "8M",
        "ForwardToSyslog": "yes",
        "MaxLevelSyslog": "debug",
    }
    assert CONFIG.endswith("\n")


@pytest.mark.parametrize("size", ["64", "64MB", "0M", "-1M", "64 M", ""])
def test_a_size_without_a_known_suffix_is_refused(size: str) -> None:
    with pytest.raises(SettingsError, match="journald_max_use"):
        JournaldSettings(journald_max_use=size)


@pytest.mark.parametrize(
    ("path", "setting", "stronger"),
    [
        ("/etc/systemd/journald.conf.d/99-mine.conf", "Storage=persistent", True),
        ("/usr/lib/systemd/journald.conf.d/syslog.conf", "ForwardToSyslog=no", True),
        # what distributions bring
        ("/usr/lib/systemd/journald.conf.d/syslog.conf", "ForwardToSyslog=yes", False),
        ("/usr/lib/systemd/journald.conf.d/40-rpi-volatile-storage.conf", "Storage=auto", False),
        ("/etc/systemd/journald.conf.d/99-mine.conf", "RateLimitBurst=10", False),
        (PATH, "Storage=persistent", False),
    ],
)
def test_the_drop_in_that_sorts_last_counts(path: str, setting: str, stronger: bool) -> None:
    assert overrides(PATH, CONFIG, [(path, setting)]) == ([(path, setting)] if stronger else [])


@pytest.mark.parametrize(
    "text",
    [
        "[Journal]\nStorage = persistent\n",
        "[Journal]\n\tStorage=\\\n  # of mine\n  persistent\n",
        "\ufeff[Journal]\r\nStorage=persistent\r\n",
        "[Journal]\nStorage=volatile\n[Journal]\n Storage\t=persistent",
        "[Journal]\nStorage=persistent\nStorage=sometimes\n",
    ],
    ids=["blanks", "continued", "of Windows", "twice", "then a word that journald does not know"],
)
def test_a_setting_is_seen_however_it_is_written(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, {"etc/systemd/journald.conf.d/99-local.conf": text})
    assert [setting for _, setting in overrides(PATH, CONFIG, found)] == ["Storage=persistent"]


@pytest.mark.parametrize(
    "text",
    [
        "[Journal]\nStorage = volatile\nForwardToSyslog=1\nMaxLevelSyslog=7\n",
        "[Journal]\nRuntimeMaxUse=65536K\nRuntimeMaxFileSize=8388608\n",
        "[Journal]\nStorage=persistent\nStorage=volatile\n",
        "[Journal]\nStorage=Persistent\n",
        "[Journal]\nstorage=persistent\n",
        "[Journal]\n; \\\n# Storage=auto\n#\\\n;Storage=persistent\n",
        "Storage=persistent\n[Other]\nStorage=persistent\n",
        "[Journal\nStorage=persistent\n",
    ],
)
def test_what_means_the_same_or_nothing_is_no_reason_to_refuse(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, {"etc/systemd/journald.conf.d/99-local.conf": text})
    assert overrides(PATH, CONFIG, found) == []


def test_a_masked_drop_in_says_nothing(tmp_path: Path) -> None:
    """A file of the same name in a folder of higher precedence hides it."""
    folder = "systemd/journald.conf.d"
    persistent = "[Journal]\nStorage=persistent\n"
    there: dict[str, str | Path] = {
        f"usr/lib/{folder}/{name}.conf": persistent for name in ("95", "96", "97", "98")
    }
    there |= {f"etc/{folder}/95.conf": "", f"run/{folder}/96.conf": "[Journal]\n"}
    there |= {f"etc/{folder}/97.conf": Path("/dev/null"), f"etc/{folder}/98.conf": Path("/nowhere")}
    found = read(tmp_path, there)
    assert found == ((f"/usr/lib/{folder}/98.conf", "Storage=persistent"),)


def test_the_kernels_command_line_counts_most(tmp_path: Path) -> None:
    line = (
        "root=/dev/a systemd.journald.forward_to_syslog=0 systemd.journald.max_level_syslog=debug"
    )
    found = read(tmp_path, {}, line)
    assert overrides(PATH, CONFIG, found) == [("/proc/cmdline", "ForwardToSyslog=0")]


def read(root: Path, there: dict[str, str | Path], kernel: str = "") -> tuple[DropIn, ...]:
    """Make these files or links below a folder; return what the fact says of them."""
    for name, content in there.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            (root / name).symlink_to(content)
        else:
            (root / name).write_bytes(content.encode())
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cmdline").write_text(f"{kernel}\n")
    return ask_below(root, DropIns)


def test_drop_ins_are_read_as_they_are(tmp_path: Path) -> None:
    """They are read whatever their names are, and if there are none."""
    assert read(tmp_path, {}) == ()
    folder = "etc/systemd/journald.conf.d"
    text = "# Storage=auto\n[Journal]\nStorage=persistent\n"
    there: dict[str, str | Path] = {f"{folder}/a b.conf": text, f"{folder}/.c.conf": text}
    assert read(tmp_path, {**there, f"{folder}/d": text}) == (
        (f"/{folder}/a b.conf", "Storage=persistent"),
    )
