"""What a node notes of each change: by which concern, before it, and once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.facts.manifest import Entry, Manifest, Remembered
from chaos_engine.operations.apt import APT
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.shell import NOTES, PRELUDE, for_concern
from chaos_engine.operations.files import Plan
from tests.unit.nodes import Nodes
from tests.unit.scripts import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def note(sandbox: Sandbox, script: str, concern: str = "docker", before: str = "") -> None:
    """Run a script that notes things, by a concern."""
    ran = sandbox.run(f"set -eu\nconcern={concern}\n{NOTES}\n{script}\nsettle", before=before)
    assert ran.returncode == 0, ran.stderr


def lines(sandbox: Sandbox) -> list[str]:
    """The lines of the manifest, concern first."""
    text = sandbox.path("var/manifest").read_text().replace(str(sandbox.root), "")
    return [line.replace("\t", " ") for line in text.splitlines()]


def test_a_thing_is_noted_once_a_concern_as_it_was_before_the_first(sandbox: Sandbox) -> None:
    note(sandbox, "note sysctl 0 net/a; note sysctl 1 net/a; note sysctl 1 net/b")
    note(sandbox, "note sysctl 1 net/a", concern="kubernetes")
    assert lines(sandbox) == [
        "docker sysctl 0 net/a .",
        "docker sysctl 1 net/b .",
        "kubernetes sysctl 0 net/a .",
    ]


@pytest.mark.parametrize("name", ["a b", "$(id)", "a'b", "*", "-n", r"a\tb", "täg"])
def test_names_are_noted_exactly(sandbox: Sandbox, name: str) -> None:
    note(
        sandbox,
        'note file created "$name"; note file created "$name"',
        before=f"name={quoted(name)}",
    )
    found = sandbox.path("var/manifest").read_text()
    assert found == f"docker\tfile\tcreated\t{name}\t.\n"


def quoted(text: str) -> str:
    return StringCommand(QuoteString(text)).get_raw_value()


@pytest.mark.parametrize("name", ["a\tb", "a\nb"])
def test_a_name_that_would_be_two_things_is_refused(sandbox: Sandbox, name: str) -> None:
    ran = sandbox.run(f"set -eu\n{NOTES}\nnote file created {quoted(name)}")
    assert ran.returncode == 1
    assert "a name with a tab or a line break" in ran.stderr


def test_a_line_that_a_power_cut_tore_is_none(sandbox: Sandbox) -> None:
    note(sandbox, "note file created /etc/a")
    with sandbox.path("var/manifest").open("a") as manifest:
        manifest.write("docker\tfile\tcreated\t/etc/doc")
    note(sandbox, "note file created /etc/docker/daemon.json")
    found = Manifest().parse(
        [
            "there",
            *(f"line {line}" for line in sandbox.path("var/manifest").read_text().split("\n")),
        ]
    )
    assert [entry.name for entry in found.entries] == ["/etc/a", "/etc/docker/daemon.json"]


def test_all_is_noted_when_the_first_file_is_swapped_in(sandbox: Sandbox) -> None:
    sandbox.path("a").write_text("old")
    seen = sandbox.path("seen")
    manifest = sandbox.path("var/manifest")
    before = f"""
    sync() {{ case $* in *manifest) cp {manifest} {sandbox.root}/synced ;; esac; }}
    mv() {{ case $* in *.a.chaos*) cp {sandbox.root}/synced {seen} ;; esac; command mv "$@"; }}"""
    todo = Plan(write=(sandbox.file("a", "new"), sandbox.file("new/b", "b", secret=True)))
    assert sandbox.apply(todo, before=f"concern=docker\n{before}").returncode == 0
    kinds = [line.split("\t")[1:4] for line in seen.read_text().splitlines()]
    assert ["file", "original", str(sandbox.path("a"))] in kinds
    assert ["file", "created", str(sandbox.path("new/b"))] in kinds
    assert ["folder", "created", str(sandbox.path("new"))] in kinds
    assert ["secret", "-", str(sandbox.path("new/b"))] in kinds
    assert [kind for kind, _, _ in kinds].count("wrote") == 2


def test_a_refused_set_notes_no_file(sandbox: Sandbox) -> None:
    sandbox.path("a").write_text("old")
    assert sandbox.apply(Plan(write=(sandbox.file("a", "new"),)), check="false").returncode == 1
    assert not [line for line in sandbox.manifest if line.startswith("file")]
    assert not sandbox.path("var/originals").exists()


def test_an_original_is_kept_anew_after_it_was_forgotten(sandbox: Sandbox) -> None:
    """Undo forgets a concern's lines first, and removes its originals then."""
    for text in ("first", "second"):
        sandbox.path("a").write_text(text)
        sandbox.path("var/manifest").unlink(missing_ok=True)
        note(sandbox, f"keep {sandbox.root}/a")
        kept = sandbox.path(f"var/originals{sandbox.root}/a")
        assert kept.read_text() == text


def test_a_merged_file_is_kept_as_it_was_written_last(sandbox: Sandbox) -> None:
    sandbox.path("hosts").write_text("old\n")
    for text in ("old\nfirst\n", "old\nsecond\n"):
        todo = Plan(write=(sandbox.file("hosts", text, merged=True),))
        assert sandbox.apply(todo).returncode == 0
    assert sandbox.path(f"var/originals{sandbox.root}/hosts").read_text() == "old\n"
    assert sandbox.path(f"var/written{sandbox.root}/hosts").read_text() == "old\nsecond\n"


def test_only_what_was_not_held_is_noted_as_held(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    for name, body in (("apt-mark", '[ "$1" != showhold ] || echo mine'), ("dpkg", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    note(sandbox, f"{PRELUDE}{NOTES}{APT}hold mine ours", before=f"PATH={tmp_path}:$PATH")
    assert sandbox.manifest == ["hold set ours"]


class NoSettings(Settings):
    """Settings of the deploys below."""


@converge(reads=lambda path: [])
def say(path: str) -> Commands:
    """Write down for whom it works."""
    yield StringCommand("sh", "-c", QuoteString(for_concern(f'echo "[$concern]" >>{path}')))


def test_an_operation_works_for_the_concern_that_called_it(tmp_path: Path) -> None:
    path = str(tmp_path / "said")

    @concern("Inner", NoSettings)
    def inner(settings: NoSettings) -> None:
        say(name="Say inner", path=path)

    @concern("Role", NoSettings)
    def role(settings: NoSettings) -> None:
        inner(settings)
        say(name="Say role", path=path)

    def deploy() -> None:
        role()
        say(name="Say", path=path)

    for changes in (True, False):
        run = Nodes("pi1", changes=changes)
        run.prepare(deploy)
        run.execute()
        assert Path(path).read_text() == "[inner]\n[role]\n[]\n"
        Path(path).unlink()


def test_reads_what_a_node_remembers() -> None:
    digest = "0" * 64
    found = Manifest().parse(
        [
            "there",
            "holds manifest",
            "holds originals",
            "line docker\tfile\toriginal\t/etc/a b\t.",
            "line docker\tunit\tactive enabled\tdocker.service\t.",
            "line kernel\tfile\tcre",
            "state wff 644 root root 5 /etc/a b",
            f"state {digest}  /etc/a b",
            "text b2xkCg== /etc/a b",
        ]
    )
    assert found.entries == (
        Entry("docker", "file", "original", "/etc/a b"),
        Entry("docker", "unit", "active enabled", "docker.service"),
    )
    assert found.files["/etc/a b"].sha256 == digest
    assert found.texts == {"/etc/a b": b"old\n"}
    assert found.holds == ("manifest", "originals")
    assert found.concerns == ("docker",)


def test_a_node_without_notes_remembers_nothing() -> None:
    assert Manifest().parse([]) == Remembered()
