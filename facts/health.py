"""Check whether the services of a work node do their work, beyond their configuration.

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
"""How long a check may take that waits for another program. All checks together must end before
``PART_SECONDS`` of `chaos_engine.facts.observe.batch`, or one that hangs hides the others'
results."""


@dataclass(frozen=True)
class Check:
    """A command that tells whether a service does its work.

    + name: a word that no other check has
    + command: shell command that fails if the service does not work. It must not hang (`limited`)
    + problem: what is wrong then, and what to do

    **Example:** ``Check("swap", "! sed 1d /proc/swaps | grep -q .", "swap is in use")``
    """

    name: str
    command: str
    problem: str


def limited(check: str) -> str:
    """Return the shell command that runs a check for at most `LIMIT_SECONDS`.

    A process that waits for a dead share cannot be killed. So a shell that can be killed starts it.
    ``timeout`` sends TERM first, and then KILL. With ``-s KILL`` that of uutils ends only the shell
    (0.12), or nothing (0.0.30).
    """
    quoted = StringCommand(QuoteString(f"( {check} ); exit $?")).get_raw_value()
    return f"timeout -k 1 {LIMIT_SECONDS} sh -c {quoted}"


class Health(NodeFact[dict[str, str]]):
    """What is wrong with each service, by the name of its check; a service that works is missing.

    + checks: the checks to run

    It does not tell whether messages arrive at the log server: that can be seen only there.

    **Example:** ``host.get_fact(Health, checks=(chaos_engine.facts.swap.SWAP_UNUSED,))``
    """

    @override
    def command(self, checks: Iterable[Check]) -> StringCommand:
        return ask(checks)

    @staticmethod
    @override
    def default() -> dict[str, str]:
        return {}

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return pairs(lines)


def ask(checks: Iterable[Check]) -> StringCommand:
    """Return the command that prints a line for each check that fails: its name and its problem."""
    bits: list[str | QuoteString] = []
    for check in checks:
        line = QuoteString(f"{check.name} {check.problem}")
        bits += [f"( {check.command} ) >/dev/null 2>&1 || echo", line, ";"]
    return StringCommand(*bits, "true")
