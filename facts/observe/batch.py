"""Combine the commands of many facts into one shell script, and split the script's output."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase

from chaos_engine.facts.observe.fact import NodeError, NodeFact, SeveralFact
from chaos_engine.facts.observe.read import Read

PART_SECONDS = 24
"""The time limit, in seconds, of a command that reads one fact. A command that reaches the limit
gives an error, never a default. If all commands of a script share one limit, this limit is twice as
long. A fact whose command takes longer says so (`NodeFact.more_seconds`)."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The folders where scripts look for programs. Scripts that read a node must find the same programs
as scripts that change a node. sudo's own list may lack some of these folders: from
Debian 14 on, it has none below ``/usr/local``."""

LOCK = "/run/chaos-engine/lock"
"""The file that a script of this package locks while the script changes the node."""

NO_SYSTEMD = "systemd does not run on the node; use a system that boots with systemd"

MARK = "chaos-engine"
"""The first word of each line that a script for reading facts prints. Lines that the login shell
prints lack this word."""

_END = "end-of-reads"

PROBE = "$x\n\\\\"
"""An argument that shows whether a script arrives unchanged on the node. ``sudo -i`` changes this
argument. Some login shells change it too, because they read quotes differently from sh: fish reads
two backslashes as one, and tcsh accepts no line break."""

_PROBE_FORMAT = r"'$x\n\\\\'"


@dataclass(frozen=True)
class Part:
    """The result of one fact's command: exit status, standard output and standard error."""

    status: int
    out: bytes
    err: bytes


def script(reads: Iterable[Read], apart: bool = False) -> str:
    """Return a shell script that runs the commands of several facts.

    The command ``sh -s PROBE`` reads the script from standard input and runs it.

    + reads: the facts with their arguments
    + apart: whether each command has a time limit of its own. This takes two processes for each
      command. By default one limit applies to all commands together

    Each command has its own subshell, exit status and standard error. A command that fails, or is
    not valid shell, does not affect the others. If a command hangs, the script prints the results
    of the commands before it.

    A nonce (a random line) separates the results. The node makes the nonce, and no argument list
    contains the nonce. So no command can know and print the nonce. The script prints base64,
    because pyinfra silently drops all output after a byte that is not UTF-8.

    If a command of an earlier run still holds `LOCK`, the script prints only ``busy``. If sudo or a
    login shell has changed the argument `PROBE`, the script prints only ``changed``.

    A login shell may print text too, so each line of the script's output begins with `MARK`. The
    first line of the script stores `MARK` in a variable. If the login shell consumes the first
    line, the variable is missing, and the script prints no result.
    """
    # An interrupted run can leave its last command running. This command may change what the script
    # reads, so the script waits for it
    unlocked = f"test ! -r {LOCK} || {{ flock -s -w 10 -E 75 9 9<{LOCK}; test $? != 75; }}"
    # Some commands set a shorter limit themselves, such as a command that reads a log share
    reads = tuple(reads)
    overall = "" if apart else f"timeout -k 1 {2 * PART_SECONDS + more_seconds(reads)} "
    lines = [
        f'm={MARK}; [ "$1" = "$(printf {_PROBE_FORMAT})" ] || '
        "{ printf '\\n%s changed\\n' \"$m\"; exit 0; }",
        f"export PATH={PATH}",
        f"{unlocked} || {{ printf '\\n%s busy\\n' \"$m\"; exit 0; }}",
        "{ printf '\\n%s out ' \"${m:?the first line of the script is missing}\"; e=$( { {",
        f"{overall}sh -s <<'{_END}'",
        "read -r n </proc/sys/kernel/random/uuid || exit 9",
        "printf '%s\\n' $n",
    ]
    for read in reads:
        fact = read.fact()
        needed = fact.requires_command(**dict(read.arguments))
        quoted = StringCommand(QuoteString(read.command)).get_raw_value()
        run = f"( eval {quoted} ) </dev/null"
        if apart or fact.shell_executable:
            limit = PART_SECONDS + more_seconds([read])
            run = f"timeout -k 1 {limit} {fact.shell_executable or 'sh'} -c {quoted} </dev/null"
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


def more_seconds(reads: Iterable[Read]) -> int:
    """Return the seconds that these facts may take beyond the usual limit (`PART_SECONDS`)."""
    facts = (read.fact for read in reads)
    return sum(fact.more_seconds for fact in facts if issubclass(fact, NodeFact))


def marked(output: Iterable[str]) -> dict[str, str]:
    """Parse the output of a script that `script` has made. Return the values by key.

    Each line that the script prints has `MARK`, a key and a value. The value is base64 for the keys
    ``out`` and ``err``, and "" for the keys ``busy`` and ``changed``. This function ignores lines
    without `MARK`, because a login shell has printed these lines.
    """
    lines = (line.split(" ", 2) for line in output if line.startswith(f"{MARK} "))
    return {word: "".join(rest) for _, word, *rest in lines}


def split(output: Iterable[str]) -> list[Part]:
    """Parse the output of a script that `script` has made. Return the commands' results in order.

    + output: the lines that the script has printed

    If the script was stopped on the node, the last results are missing. Raises ``ValueError`` if
    the output is not base64, or lacks its first line with the nonce.
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
        # A part's status follows its output, so it begins the next chunk
        status, newline, following = chunk.partition(b"\n")
        if not newline:
            break
        parts.append(Part(int(status), written, error))
        written = following
    return parts


def combined(reads: Iterable[Read]) -> dict[Read, list[Read]]:
    """Combine `Read` objects into fewer ones.

    First, each read of a `ComposedFact` is replaced by the reads that `ComposedFact.reads` returns.
    Then all reads of the same `SeveralFact` become one read. Two reads may use the same name for
    different things. In this case the second read stays separate.

    Returns a dictionary from each combined read to the reads that it replaces.
    """
    questions: dict[Read, list[Read]] = {}
    by_fact: dict[type[FactBase[Any]], tuple[dict[str, Any], list[Read]]] = {}
    for read in dict.fromkeys(part for whole in reads for part in whole.parts):
        names = read.names
        things, members = by_fact.setdefault(read.fact, ({}, []))
        if names and all(things.get(name, thing) == thing for name, thing in names.items()):
            things.update(names)
            members.append(read)
        else:
            questions[read] = [read]
    for fact, (things, members) in by_fact.items():
        if members and issubclass(fact, SeveralFact):
            one = Read.of(fact, **{fact.argument: tuple(things.values())})
            questions[one] = [*questions.get(one, []), *members]
    return questions


def values_of(
    reads: Iterable[Read], questions: Mapping[Read, Iterable[Read]], answers: Mapping[Read, Any]
) -> dict[Read, Any]:
    """Split the answers to combined reads. Return the value of each original read.

    + reads: the original reads
    + questions: the dictionary that `combined` returned for `reads`
    + answers: the answers by combined read. An answer may be a `NodeError`, or may be missing

    If a read needs a missing answer, the result has no value for this read.
    """
    known = {
        part: part.own_share(answers[question])
        for question, parts in questions.items()
        if question in answers
        for part in parts
    }
    made_of = {read: read.parts for read in reads}
    return {
        read: read.composed([known[part] for part in parts])
        for read, parts in made_of.items()
        if all(part in known for part in parts)
    }


def value_of(read: Read, part: Part) -> Any:
    """Return a fact's value, made from the output of the fact's command.

    Returns a `NodeError` if the command failed or its output makes no sense.

    + part: exit status and output of the command
    """
    fact = read.fact()
    if part.status == 127 and fact.requires_command(**dict(read.arguments)):
        return fact.default()
    # With these statuses `timeout` ended the command. 125 is from uutils before 0.6 (Ubuntu 25.10)
    if part.status in (124, 125, 137):
        limit = PART_SECONDS + more_seconds([read])
        return NodeError(f"{fact.name}: no answer in {limit} s; check the node's load")
    if part.status:
        lines = part.err.decode(errors="replace").strip().splitlines()
        if any("not been booted with systemd" in line for line in lines):  # systemctl's message
            return NodeError(NO_SYSTEMD)
        return NodeError(
            f"{fact.name}: the fact's command ended with status {part.status}"
            f"{': ' + lines[-1] if lines else ''}"
        )
    try:
        return read.process(part.out.decode().split("\n"))
    except UnicodeDecodeError as error:
        return NodeError(f"{fact.name}: not UTF-8: {error}")
    except FactProcessError as error:
        return NodeError(f"{fact.name}: {error}")
