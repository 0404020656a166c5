"""What others on a node can hold, plant or read of what the package's scripts do there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos_engine.operations.engine.shell import PRELUDE
from tests.unit.rendered import scripts
from tests.unit.scripts import Sandbox

CHECKOUT = Path(__file__).resolve().parents[2]
LAST_LINES = {"mount_log_share1": "systemctl start var-log.service || true"}
"""Commands that write nothing themselves."""


@pytest.mark.parametrize(("name", "text"), list(scripts()))
def test_every_script_begins_with_the_prelude(name: str, text: str) -> None:
    if text == LAST_LINES.get(name):
        return
    # quoted for the shell that runs it
    head = PRELUDE.replace("'", "'\"'\"'")
    assert head in text or PRELUDE in text
    before = text.partition("set -eu; umask 077")[0]
    assert "\n" not in before.replace(f"concern={name.partition('.')[0]}\n", "").strip("sh -c'\n")


def sources() -> list[Path]:
    """All files that scripts are made of."""
    folders = ("facts", "operations", "deploys", "templates")
    found = [path for folder in folders for path in (CHECKOUT / folder).rglob("*")]
    return [path for path in found if path.is_file() and path.suffix != ".pyc"]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_nothing_is_put_where_others_may_write(path: Path) -> None:
    text = path.read_text()
    shared = re.findall(r"(?<![\w/])(?:/var)?/tmp/\S+|/dev/shm\S*", text)
    assert shared == []
    # the log share is another matter, where root works confined
    own = r"(\{RECORDS\}|\$RUN_DIR|\$REPACKED|/run/chaos-engine-key)[/.]"
    roots = rf"{own}|\{{TARGET\}}/\.|\$1\.X|-u .\$l\.old\.X"
    for made in re.findall(r"mktemp[^\n]*", text):
        assert re.search(roots, made), made


def test_the_folders_are_roots_alone_whoever_made_them(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    for folder in ("run", "var"):
        sandbox.path(folder).mkdir(mode=0o755)
    sandbox.path("run/lock").touch(0o644)
    assert sandbox.run(PRELUDE).returncode == 0
    modes = {name: sandbox.path(name).stat().st_mode & 0o777 for name in ("run", "run/lock", "var")}
    assert modes == {"run": 0o700, "run/lock": 0o600, "var": 0o700}


def test_a_node_that_nothing_is_noted_of_gets_no_folder(tmp_path: Path) -> None:
    assert Sandbox(tmp_path).run(PRELUDE).returncode == 0
    assert not (tmp_path / "var").exists()


def test_what_an_interrupted_run_has_staged_goes_with_the_next_script(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    etc = tmp_path / "etc"
    etc.mkdir()
    staged, old, other = etc / ".hosts.chaos", etc / "hosts.chaos-old", etc / "hosts"
    for path in (staged, old, other):
        path.write_text("content")
    kept = tmp_path / "var/originals/etc/fstab.chaos-new"
    kept.parent.mkdir(parents=True)
    kept.touch()
    # the last line is cut short
    (tmp_path / "var/staged").write_text(f"{staged}\n{old}\n{other}")
    assert sandbox.run(PRELUDE).returncode == 0
    assert [path.exists() for path in (staged, old, other, kept)] == [False, False, True, False]
    assert not (tmp_path / "var/staged").exists()
