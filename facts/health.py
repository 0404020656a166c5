"""Whether the services of a work node do their work, beyond their configuration.

Each check stands beside the facts of its concern. The concern's deploy declares it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.text import pairs

LIMIT_SECONDS = 3
"""How long a check that waits for somebody may take. All checks together end before
``PART_SECONDS`` of `chaos_engine.facts.observe`, or one that hangs would hide what others say."""


@dataclass(frozen=True)
class Check:
    """Ask whether a service does its work.

    + name: of the check, in one word; no other one has it
    + command: shell command that fails if the service does not; it ends by itself (`limited`)
    + problem: what to say then, and what to do

    **Example:** ``Check("swap", "! sed 1d /proc/swaps | grep -q .", "swap is in use")``
    """

    name: str
    command: str
    problem: str


def limited(check: str) -> str:
    """Return the shell command that runs `check` for `LIMIT_SECONDS` at most.

    What waits for a dead share cannot be killed. So it is the child of a shell, which can. KILL
    comes after TERM only: with ``-s KILL`` uutils ends the shell alone (0.12), or nothing (0.0.30).
    """
    quoted = StringCommand(QuoteString(f"( {check} ); exit $?")).get_raw_value()
    return f"timeout -k 1 {LIMIT_SECONDS} sh -c {quoted}"


class Health(NodeFact[dict[str, str]]):
    """What is wrong with each service, by the name of its check; one that works is missing.

    + checks: what to ask

    Of what is sent to the log server it says nothing: whether it arrives is seen only there.

    **Example:** ``host.get_fact(Health, checks=(chaos_engine.facts.swap.UNUSED,))``
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
