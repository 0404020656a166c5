"""Define a small operation, two concerns and a role, to test `converge` and `concern` with."""

from __future__ import annotations

from pydantic import Field
from pyinfra.api.command import StringCommand

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.facts.files import Content
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.operations.engine.converge import Commands, converge


class FolderSettings(Settings):
    """Settings of the deploys below."""

    folder: str = Field(description="where numbers are")


@converge(reads=lambda path: [Read.of(Content, path=path)])
def count(path: str) -> Commands:
    """Write 10; refuse a larger number."""
    found = observe(Content, path=path)
    if found is not None and int(found) > 10:
        raise NodeError(f"{path}: found {int(found)}; write a smaller number")
    if found != b"10":
        yield StringCommand(f"printf 10 > {path}")


@concern("First", FolderSettings)
def first(settings: FolderSettings) -> None:
    """One concern."""
    count(name="Count first", path=f"{settings.folder}/first")


@concern("Second", FolderSettings)
def second(settings: FolderSettings) -> None:
    """Another."""
    count(name="Count second", path=f"{settings.folder}/second")


@concern("Both", FolderSettings)
def both(settings: FolderSettings) -> None:
    """A role."""
    first(settings)
    second(settings)
