"""Check whether the services of a work node do their work.

Each check is in the module of its concern's facts. The concern's deploy declares it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.text import pairs

LIMIT_SECONDS = 3
"""How long a check that waits for another program may take. All checks together must take less than
``PART_SECONDS`` of `chaos_engine.facts.observe.batch`: that limit would cut off all results."""


@dataclass(frozen=True)
class Check:
    """A command that tells whether a service does its work.

    + name: a word that no other check has
    + command: shell command that fails if the service does not work. It must not hang (`limited`)
    + problem: what is wrong if the command fails, and what to do

    **Example:** ``Check("swap", "! sed 1d /proc/swaps | grep -q .", "swap is in use")``
    """

    name: str
    command: str
    problem: str


def limited(check: str) -> str:
    """Return the shell command that runs a check for at most `LIMIT_SECONDS`.

    A process that waits for a dead share cannot be killed. So ``timeout`` ends a shell that has
    started the process: by TERM, and by KILL if the shell is still there a second later. KILL alone
    (``-s KILL``) would not do with uutils' ``timeout``: 0.12 ends the shell while the check goes
    on, and 0.0.30 ends neither.
    """
    quoted = StringCommand(QuoteString(f"( {check} ); exit $?")).get_raw_value()
    return f"timeout -k 1 {LIMIT_SECONDS} sh -c {quoted}"


class Health(NodeFact[dict[str, str]]):
    """What is wrong with each service, by the name of its check; a service that works is missing.

    + checks: the checks to run

    No check tells whether messages arrive at the log server: that can be seen only there.

    **Example:** ``host.get_fact(Health, checks=(chaos_engine.facts.swap.SWAP_UNUSED,))``
    """

    @override
    def command(self, checks: Iterable[Check]) -> StringCommand:
        return problems_command(checks)

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return pairs(lines)


def problems_command(checks: Iterable[Check]) -> StringCommand:
    """Return the command that prints a line for each check that fails: its name and its problem."""
    words: list[str | QuoteString] = []
    for check in checks:
        line = QuoteString(f"{check.name} {check.problem}")
        words += [f"( {check.command} ) >/dev/null 2>&1 || echo", line, ";"]
    return StringCommand(*words, "true")
