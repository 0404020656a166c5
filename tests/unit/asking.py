"""Read facts on this computer, with a folder in place of the node's files."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase

from chaos_engine.facts.files import Pattern, Texts
from chaos_engine.facts.observe import Read

T = TypeVar("T")


@contextmanager
def files_below(root: Path) -> Iterator[None]:
    """Have `Texts` read the files below a folder as if the folder were the root."""
    command, parse = Texts.command, Texts.parse

    def below(pattern: Pattern) -> Pattern:
        if isinstance(pattern, str):
            return f"{root}{pattern}"
        return f"{root}{pattern[0]}", pattern[1]

    def asked(self: Texts, patterns: tuple[Pattern, ...]) -> StringCommand:
        return command(self, patterns=tuple(map(below, patterns)))

    def parsed(self: Texts, lines: list[str]) -> dict[str, bytes | None]:
        return {path.removeprefix(str(root)): text for path, text in parse(self, lines).items()}

    with patch.object(Texts, "command", asked), patch.object(Texts, "parse", parsed):
        yield


def ask(
    fact: type[FactBase[T]], environment: Mapping[str, str] | None = None, **arguments: Any
) -> T:
    """Return a fact's value on this computer. Fail if its command fails, or complains."""
    read = Read.of(fact, **arguments)
    text = read.command.get_raw_value()
    said = subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, check=True, env=environment
    )
    assert said.stderr == ""
    value: T = read.process(said.stdout.split("\n"))
    return value


def ask_below(root: Path, fact: type[FactBase[T]], **arguments: Any) -> T:
    """Return a fact's value, with a folder in place of the root for `Texts`."""
    with files_below(root):
        return ask(fact, **arguments)


def value_in(root: Path, fact: type[FactBase[T]], before: str = "", **arguments: Any) -> T:
    """Return the value that a fact has on a node whose files are in a folder.

    All of the fact's paths are moved there, also those in its shell commands.

    + before: shell functions that stand for the node's programs, such as `systemctl`
    """
    read = Read.of(fact, **arguments)
    places = r"(?<=\s)(/(?:boot|etc|lib|proc|run|sys|usr|var)/)"
    command = re.sub(places, rf"{root}\1", read.command.get_raw_value())
    ran = subprocess.run(
        ["sh", "-c", f"{before}\n{command}"], capture_output=True, text=True, check=True
    )
    value: T = read.process(ran.stdout.replace(str(root), "").split("\n"))
    return value


def systemctl(units: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return a shell function that stands for ``systemctl show``, and fails for other commands.

    + units: the properties of each unit that exists, by its name, besides those that all have
    """
    blocks = {
        name: {"MainPID": "0", "Id": name, "LoadState": "loaded", "ActiveState": "inactive", **own}
        for name, own in (units or {}).items()
    }
    cases = "".join(
        f"{shlex.quote(name)}) cat <<'END'\n"
        + "".join(f"{key}={value}\n" for key, value in block.items())
        + "END\n;;\n"
        for name, block in blocks.items()
    )
    return f"""systemctl() {{
  case "$1 $2 $3" in "show --property="*" --") shift 3 ;; *) return 3 ;; esac
  space=
  for unit; do
    $space
    case $unit in
{cases}*) printf 'Id=%s\\nLoadState=not-found\\nActiveState=inactive\\n' "$unit" ;;
    esac
    space=echo
  done
}}"""
