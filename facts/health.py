"""Check whether the services of a work node do their work.

Each check is a constant in a module of `facts`, such as `SWAP_UNUSED` in `facts.swap`. The argument
`health` of the decorator `concern` lists the checks of a concern.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.text import pairs

LIMIT_SECONDS = 3
"""How many seconds a check may wait for another program. All checks together must take less time
than ``PART_SECONDS`` in `chaos_engine.facts.observe.batch`. If they take longer, all results are
lost."""


@dataclass(frozen=True)
class Check:
    """A command that tells whether a service does its work.

    + name: a word that no other check has
    + command: shell command that fails if the service does not work. Use `limited` for a command
      that may hang
    + problem: what is wrong if the command fails, and what to do

    **Example:** ``Check("swap", "! sed 1d /proc/swaps | grep -q .", "swap is in use")``
    """

    name: str
    command: str
    problem: str


def limited(check: str) -> str:
    """Return a shell command that runs a check for at most `LIMIT_SECONDS`.

    A check cannot be killed while it waits for a share whose server does not answer. ``timeout``
    waits until its child process has ended. So the child of ``timeout`` is a shell, which can be
    killed, and the shell starts the check. ``timeout`` sends TERM to the shell. If the shell still
    runs a second later, ``timeout`` sends KILL.

    The command ``timeout -s KILL`` does not suffice if ``timeout`` is from uutils. With uutils
    0.12, the command ends only the shell, even if the check can be killed. With uutils 0.0.30, the
    command ends neither the shell nor the check.
    """
    quoted = StringCommand(QuoteString(f"( {check} ); exit $?")).get_raw_value()
    return f"timeout -k 1 {LIMIT_SECONDS} sh -c {quoted}"


class Health(NodeFact[dict[str, str]]):
    """The problem of each check that fails, by the check's name; {} if all checks succeed.

    + checks: the checks to run

    No check tells whether messages arrive at the log server. Only the log server can show that.

    **Example:** ``host.get_fact(Health, checks=(chaos_engine.facts.swap.SWAP_UNUSED,))``
    """

    @override
    def command(self, checks: Iterable[Check]) -> StringCommand:
        return problems_command(checks)

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return pairs(lines)


def problems_command(checks: Iterable[Check]) -> StringCommand:
    """Return a shell command that prints the name and the problem of each check that fails."""
    words: list[str | QuoteString] = []
    for check in checks:
        line = QuoteString(f"{check.name} {check.problem}")
        words += [f"( {check.command} ) >/dev/null 2>&1 || echo", line, ";"]
    return StringCommand(*words, "true")
