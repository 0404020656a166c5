"""Let the command of the current operation also read the facts that the next operation needs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import partial

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.connectors.fake import FakeConnector
from pyinfra.connectors.util import CommandOutput, OutputLine

from chaos_engine.facts.observe.answers import HostAnswers
from chaos_engine.facts.observe.arguments import identity
from chaos_engine.facts.observe.batch import PROBE, combined, script, split, value_of, values_of
from chaos_engine.facts.observe.fact import NodeError
from chaos_engine.facts.observe.host import current, of_host
from chaos_engine.facts.observe.phase import moment
from chaos_engine.facts.observe.progress import MARK
from chaos_engine.facts.observe.read import Read


@dataclass(frozen=True)
class Ahead:
    """Facts that the current operation's command reads too, because the next operation needs them.

    The current operation changes the node, so the next operation has to read the node again.
    Without this class, that would take another remote command.

    + identity: the global arguments with which the facts are read (`arguments.identity`)
    + reads: the facts with their arguments
    + mark: a random line that the command prints before the answers
    """

    identity: tuple[str, ...]
    reads: tuple[Read, ...]
    mark: str = field(default_factory=partial(secrets.token_hex, 8))

    @classmethod
    def now(cls) -> Ahead | None:
        """Return the facts that the current operation's command should read for the next operation.

        Returns ``None`` in these cases:

        - The next operation has nothing to read.
        - The next operation is not one of this package.
        - The next operation runs as another user.
        - The current operation is nested in another one.
        - The option ``-vvv`` is given. With this option, pyinfra would print the answers.
        """
        state, host = current()
        order, executing = host.op_hash_order, host.executing_op_hash
        if executing is None or host.nested_executing_op_hash or state.print_output:
            return None
        # For an operation with _run_once, op_hash_order has the operation on each host, but
        # state.ops has it for one host only
        following = order[order.index(executing) + 1 :][:1]
        own = [operation for operation in following if operation in state.ops[host]]
        reads = of_host(HostAnswers).upcoming_reads.get(own[0]) if own else None
        if reads is None or isinstance(host.connector, FakeConnector):
            return None
        who = identity(host)
        if identity(host, state.ops[host][own[0]].global_arguments) != who:
            return None
        known = of_host(HostAnswers).known
        missing = tuple(read for read in reads() if (read, who) not in known)
        return cls(who, missing) if missing else None

    def behind(self, command: StringCommand) -> StringCommand:
        """Return a command that runs `command`, then reads the facts and prints the answers.

        If `command` fails, the returned command reads nothing. The exit status is always that of
        `command`.
        """
        return StringCommand(
            "{",
            command,
            # The first echo ends the last line of output, in case it lacks a line feed
            f"\n}} && {{ echo; echo {self.mark}; echo '{MARK}reading the node'; sh -c",
            QuoteString(script(combined(self.reads))),
            "sh",
            QuoteString(PROBE),
            "</dev/null || true; }",
            **command.connector_arguments,
        )

    def take(self, output: CommandOutput) -> None:
        """Move the answers from the command's output to the host's `HostAnswers`.

        If a fact's answer is missing or an error, the next operation reads this fact itself.
        """
        answers = of_host(HostAnswers)
        lines: list[OutputLine] = []
        answer: list[str] | None = None
        for line in output.combined_lines:
            if line.buffer_name == "stdout" and line.line == self.mark:
                answer = []
                _drop_empty_line(lines)
            elif line.buffer_name == "stdout" and answer is not None:
                answer.append(line.line)
            else:
                lines.append(line)
        output.combined_lines[:] = lines
        try:
            parts = split(answer or [])
        except ValueError:
            return
        answers.drop_old()
        questions = combined(self.reads)
        answered = {read: value_of(read, one) for read, one in zip(questions, parts, strict=False)}
        values = values_of(self.reads, questions, answered)
        found = {r: value for r, value in values.items() if not isinstance(value, NodeError)}
        answers.keep(found, self.identity)
        stage, executed = moment()
        answers.answered_ahead = stage, executed + 1  # pyinfra has not counted this command yet


def _drop_empty_line(lines: list[OutputLine]) -> None:
    """Remove the last line of standard output if it is empty.

    The command of `Ahead.behind` prints an empty line before the mark.
    """
    for place in reversed(range(len(lines))):
        if lines[place].buffer_name == "stdout":
            if not lines[place].line:
                del lines[place]
            return
