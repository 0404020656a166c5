"""The journal in RAM: its configuration, its settings, and what counts more."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

from chaos_engine.deploys.journald import PATH, JournaldSettings
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.facts.journald import DropIns, parse_drop_ins
from chaos_engine.operations.journald import overrides
from chaos_engine.templates import render

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


def test_drop_ins_are_read_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/journald.conf.d"
    folder.mkdir(parents=True)
    (folder / "a b.conf").write_text("# Storage=auto\n[Journal]\nStorage=persistent\n")
    command = DropIns().command().get_raw_value()
    for top in ("/usr/lib/", "/usr/local/lib/", "/run/", "/etc/"):
        command = command.replace(f" {top}", f" {tmp_path}{top}")
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert parse_drop_ins(said.stdout.splitlines()) == (
        (f"{folder}/a b.conf", "Storage=persistent"),
    )
    assert said.stderr == ""
    with pytest.raises(ValueError, match="nonsense"):
        parse_drop_ins(["nonsense"])
