"""Compose one shell script of many facts' commands, and take its answer apart: pure functions."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase

from chaos_engine.facts.observe.fact import NodeError, SeveralFact

PART_SECONDS = 24
"""A part of a batch that has not answered after so many seconds by itself is an error, never a
default; all together have twice as long."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, by what reads a node and by what changes it: sudo's own path may
lack some (Debian's has no ``/usr/local`` from 14 on), and both have to find the same."""

LOCK = "/run/chaos-engine/lock"
"""Held by each script of this package that changes the node, for as long as it is at work."""

NO_SYSTEMD = "systemd does not run here; use a system that boots with systemd"

MARK = "chaos-engine"

_END = "end-of-reads"

PROBE = "$x\n\\\\"
"""An argument that shows whether scripts arrive as they were sent. ``sudo -i`` changes it, and so
do login shells that read quotes in another way: fish takes two backslashes for one, tcsh no line
break."""

_PROBE_FORMAT = r"'$x\n\\\\'"


@dataclass(frozen=True)
class Read:
    """One fact with its arguments, as an operation will ask for it."""

    fact: type[FactBase[Any]]
    arguments: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, fact: type[FactBase[Any]], **arguments: Any) -> Read:
        """The read that ``observe(fact, **arguments)`` makes; arguments must be hashable."""
        return cls(fact, tuple(sorted(arguments.items())))

    @property
    def names(self) -> dict[str, Any]:
        """The things that a `SeveralFact` is asked about, by name; no other fact has any."""
        if not issubclass(self.fact, SeveralFact):
            return {}
        things = dict(self.arguments)[self.fact.argument]
        return {thing if isinstance(thing, str) else thing[0]: thing for thing in things}


@dataclass(frozen=True)
class Part:
    """What one part of a batch answered: exit status, standard output and standard error."""

    status: int
    out: bytes
    err: bytes


def script(reads: Iterable[Read], apart: bool = False) -> str:
    """Return the shell script that answers all `reads`, for the standard input of ``sh -s PROBE``.

    + apart: whether each part has a time limit of its own, which costs the node two processes a
      part, or all of them have one together

    Each part has its own subshell, exit status and standard error, so that a part that fails or is
    no valid shell spoils only itself. A nonce made on the node separates the parts: it is in no
    argument list, so no part's output can imitate it. All goes through base64, for pyinfra drops
    what follows a byte that is not UTF-8 without a word. A node on which an earlier run is still
    at work says so; one on which a part hangs gives those before that.

    A login shell may print before and behind the answer, so its lines begin with a mark. The mark
    is made by the first line, so that nothing is answered where the login shell has read that line.
    """
    # An interrupted run can leave its last command running: answers read meanwhile may be outdated
    alone = f"test ! -r {LOCK} || {{ flock -s -w 10 -E 75 {LOCK} true; test $? != 75; }}"
    limit = f"timeout -k 1 {PART_SECONDS}"
    # Longer than parts take that end by themselves, such as one that asks a dead share
    overall = "" if apart else f"timeout -k 1 {2 * PART_SECONDS} "
    lines = [
        f'm={MARK}; [ "$1" = "$(printf {_PROBE_FORMAT})" ] || '
        "{ printf '\\n%s changed\\n' \"$m\"; exit 0; }",
        f"export PATH={PATH}",
        f"{alone} || {{ printf '\\n%s busy\\n' \"$m\"; exit 0; }}",
        "{ printf '\\n%s out ' \"${m:?the first line that it was given is missing}\"; e=$( { {",
        f"{overall}sh -s <<'{_END}'",
        "n=$(cat /proc/sys/kernel/random/uuid) || exit 9",
        "printf '%s\\n' $n",
    ]
    for read in reads:
        fact, arguments = read.fact(), dict(read.arguments)
        command = fact.command(**arguments) if callable(fact.command) else fact.command
        if isinstance(command, str):
            command = StringCommand(command)
        needed = fact.requires_command(**arguments)
        quoted = StringCommand(QuoteString(command)).get_raw_value()
        run = f"( eval {quoted} ) </dev/null"
        if apart or fact.shell_executable:
            run = f"{limit} {fact.shell_executable or 'sh'} -c {quoted} </dev/null"
        if needed:
            quoted = StringCommand(QuoteString(needed)).get_raw_value()
            run = f"if command -v {quoted} >/dev/null 2>&1; then {run}; else (exit 127); fi"
        lines += [run, "printf '\\n%s %s\\n' $n $?; printf '\\n%s\\n' $n >&2"]
    lines += [
        _END,
        '} | base64 -w0 >&3; } 2>&1 | base64 -w0 ); printf \'\\n%s err %s\\n\' "$m" "$e"; } 3>&1',
        "",
    ]
    return "\n".join(lines)


def marked(output: Iterable[str]) -> dict[str, str]:
    """Return what the script has answered: ``out`` and ``err`` in base64, ``busy``, or ``changed``.

    Lines without its mark are those of a login shell.
    """
    lines = (line.split(" ", 2) for line in output if line.startswith(f"{MARK} "))
    return {word: "".join(rest) for _, word, *rest in lines}


def split(output: Iterable[str]) -> list[Part]:
    """Return the parts of a batch's answer: a line of base64 for all output, one for all errors.

    An answer that is cut short has fewer. Raises ``ValueError`` when it has no beginning.
    """
    answer = marked(output)
    out = base64.b64decode(answer.get("out", ""), validate=True)
    err = base64.b64decode(answer.get("err", ""), validate=True)
    nonce, newline, rest = out.partition(b"\n")
    if not newline:
        raise ValueError("it has no first line")
    errors = err.split(b"\n" + nonce + b"\n")
    chunks = rest.split(b"\n" + nonce + b" ")
    parts = []
    written = chunks[0]
    for chunk, error in zip(chunks[1:], errors, strict=False):
        # what a part wrote is followed by its status, at the head of the next chunk
        status, newline, following = chunk.partition(b"\n")
        if not newline:
            break
        parts.append(Part(int(status), written, error))
        written = following
    return parts


def combined(reads: Iterable[Read]) -> dict[Read, list[Read]]:
    """Return the reads to make for all of `reads`, each with those that it answers.

    Reads of one `SeveralFact` become one, but for those that ask for another thing of that name.
    """
    questions: dict[Read, list[Read]] = {}
    several: dict[type[FactBase[Any]], tuple[dict[str, Any], list[Read]]] = {}
    for read in reads:
        names = read.names
        things, members = several.setdefault(read.fact, ({}, []))
        if names and all(things.get(name, thing) == thing for name, thing in names.items()):
            things.update(names)
            members.append(read)
        else:
            questions[read] = [read]
    for fact, (things, members) in several.items():
        if members and issubclass(fact, SeveralFact):
            one = Read.of(fact, **{fact.argument: tuple(things.values())})
            questions[one] = [*questions.get(one, []), *members]
    return questions


def value_of(read: Read, part: Part) -> Any:
    """Return what a part says to a read, or a `NodeError` that says why it says nothing."""
    fact, arguments = read.fact(), dict(read.arguments)
    if callable(fact.command):
        fact.command(**arguments)  # a fact may keep its arguments on itself for `process`
    if part.status == 127 and fact.requires_command(**arguments):
        return fact.default()
    if part.status in (124, 125, 137):  # 125 is that of uutils before 0.6, as in Ubuntu 25.10
        return NodeError(f"{fact.name}: no answer in {PART_SECONDS} s; look at the node's load")
    if part.status:
        lines = part.err.decode(errors="replace").strip().splitlines()
        if any("not been booted with systemd" in line for line in lines):  # systemctl's words
            return NodeError(NO_SYSTEMD)
        return NodeError(
            f"{fact.name}: the command that reads it ended with status {part.status}"
            f"{': ' + lines[-1] if lines else ''}"
        )
    try:
        lines = part.out.decode().split("\n")
        while lines and not lines[-1]:
            lines.pop()
        return fact.process(lines) if lines else fact.default()
    except UnicodeDecodeError as error:
        return NodeError(f"{fact.name}: not UTF-8: {error}")
    except FactProcessError as error:
        return NodeError(f"{fact.name}: {error}")
