"""Run shellcheck over every shell script: ``python -m tests.shellcheck``, as ``make lint`` does.

It looks at the files under ``templates/shell``, and at each script that is made of them, that an
operation or a fact sends to a node, or that is put there; at scripts that are quoted in these too.
What it says is an error, except for what stands below with a reason, or behind a
``# shellcheck disable=`` in a file. Nodes run scripts by ``sh``, which is dash.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from chaos_engine.templates import shell_script
from tests.unit.rendered import CHECKOUT, changes, files, questions

SHELLCHECK = Path(sysconfig.get_path("scripts"), "shellcheck")

NOWHERE = {
    "SC1091": "os-release is the node's",
    "SC2016": "what is quoted is a script for another shell, awk or Docker's templates",
    "SC2043": "a list of this run's things may have one",
    "SC2317": "each script has functions that others call",
    "SC2329": "each script has functions that others call",
}
"""What is looked for in no script, and why."""

BY_ITSELF = {
    "SC2034": "another part of the script uses it",
    "SC2154": "another part of the script sets it",
}
"""What is looked for in no file by itself, since it is a part of scripts, and why."""

ACCEPTED = {
    ("SC3067", "if [ -O"): "dash, bash and busybox know it; to ask id is one process more",
    ("SC2086", "ip -j $what"): "options are words",
    ("SC2086", "printf '%s\\n' $names"): "names of packages are words",
    ("SC2086", "printf 'installed %s\\n' $names"): "names of packages are words",
    ("SC2086", "remove $names"): "names of packages are words",
    ("SC2086", "apt-mark manual $needed"): "names of packages are words",
    ("SC2086", "echo still installed: $left"): "lines become words of one line",
    ("SC2046", "ca-certificates $(apart apt-cache depends docker.io |"): "names are words",
    ("SC2046", "set -- $(printf '%s\\n' \"$files\" | grep '^/var/log/')"): "IFS is a line break",
    ("SC2086", 'grep -IlsF swapon -- "$@" $scripts'): "paths without blanks, no name is a pattern",
    ("SC2086", "-- $found"): "IFS is a line break, and no name is a pattern",
    ("SC2194", 'case " dphys-swapfile.service zramswap.service zram-config.service "'): "a list",
}
"""What is right although it is found: code, what the line says up to the end of it, and why."""

AT_ONCE = 2
"""How many processes run."""


_QUOTE = "'\"'\"'"


class Finding(NamedTuple):
    """What shellcheck says of a line, or of a part of it that ends at a column."""

    name: str
    code: str
    line: str
    end: int
    message: str

    @property
    def accepted(self) -> tuple[str, str] | None:
        """The key in `ACCEPTED` by which it is right."""
        return next(
            (
                key
                for key in ACCEPTED
                if key[0] == self.code and self.line[: self.end].endswith(key[1])
            ),
            None,
        )


def scripts() -> Iterator[tuple[str, str]]:
    """Give each script that a node runs, with a name, and with the comments in its files."""
    raw = {shell_script(path.stem): path.read_text() for path in sources()}
    for kind in (changes, questions, files):
        for name, text in kind():
            for sent, source in raw.items():
                text = text.replace(sent, source)
            yield name, text


def sources() -> list[Path]:
    """Return the files that scripts are made of."""
    return sorted((CHECKOUT / "templates/shell").glob("*.sh"))


def quoted(text: str) -> list[str]:
    """Return the scripts that a script gives to other shells, in single quotes."""
    found = re.findall(rf"(?:\bsh -c|\bconfined \S+ \S+) '((?:[^']|{_QUOTE})+)'", text)
    return [script.replace(_QUOTE, "'") for script in found]


def look(folder: Path, options: tuple[str, ...], texts: dict[str, str]) -> Iterator[Finding]:
    """Give what shellcheck finds in scripts, by their names."""
    paths = {}
    for number, (name, text) in enumerate(texts.items()):
        path = folder / f"{number}.sh"
        path.write_text(text)
        paths[str(path)] = name
    done = subprocess.run(
        [SHELLCHECK, "--shell=sh", "--format=json1", *options, *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)["comments"]
    for one in found:
        name = paths[one["file"]]
        line = texts[name].splitlines()[one["line"] - 1]
        end = one["endColumn"] - 1 if one["endLine"] == one["line"] else len(line)
        yield Finding(name, f"SC{one['code']}", line, end, one["message"])


def check() -> Iterator[str]:
    """Give what is found and not accepted, each line once, and what is accepted in vain."""
    whole = dict(scripts())
    parts = {f"{path.parent.name}/{path.name}": path.read_text() for path in sources()}
    for name, text in [*whole.items(), *parts.items()]:
        inner = {f"{name}, quoted script {n}": t for n, t in enumerate(quoted(text), 1)}
        whole |= {key: one for key, one in inner.items() if one not in whole.values()}
    nowhere = f"--exclude={','.join(NOWHERE)}"
    by_itself = f"--exclude={','.join(NOWHERE | BY_ITSELF)}"
    names = list(whole)
    jobs = [((by_itself,), parts)]
    jobs += [((nowhere,), {name: whole[name] for name in names[n::8]}) for n in range(8)]
    with TemporaryDirectory() as root, ThreadPoolExecutor(AT_ONCE) as pool:
        folders = [Path(root, str(number)) for number in range(len(jobs))]
        for folder in folders:
            folder.mkdir()
        found = pool.map(lambda job: list(look(job[0], *job[1])), zip(folders, jobs, strict=True))
        each = {(one.code, one.line, one.end): one for some in found for one in some}
    for one in each.values():
        if one.accepted is None:
            yield f"{one.name}: {one.message} [{one.code}]\n  {one.line[: one.end].strip()[-120:]}"
    for key in ACCEPTED.keys() - {one.accepted for one in each.values()}:
        yield f"{' '.join(key)}: nothing is found there any more; remove it from ACCEPTED"


def main() -> None:
    """Print what is found; the exit status is 1 if that is something."""
    found = list(check())
    for one in found:
        print(one)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
