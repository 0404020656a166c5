"""Read what the next operation will ask by the command of the one that is executing."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.connectors.fake import FakeConnector

from chaos_engine.facts.observe.answers import Answers
from chaos_engine.facts.observe.arguments import identity
from chaos_engine.facts.observe.batch import PROBE, Read, combined, script, split, value_of
from chaos_engine.facts.observe.fact import NodeError
from chaos_engine.facts.observe.host import current, part
from chaos_engine.facts.observe.phase import moment
from chaos_engine.facts.observe.progress import MARK

if TYPE_CHECKING:
    from pyinfra.connectors.util import CommandOutput, OutputLine


@dataclass(frozen=True)
class Ahead:
    """What the next operation on a host will ask, answered by the command of the one at work.

    As that changes the node, all would have to be read anew, in a command of its own.
    """

    identity: tuple[str, ...]
    questions: dict[Read, list[Read]]
    mark: str = field(default_factory=partial(secrets.token_hex, 8))

    @classmethod
    def now(cls) -> Ahead | None:
        """For the current host; nothing where the next operation is none of this package or runs as
        somebody else, or where all output is shown, in which answers would be in the way."""
        state, host = current()
        order, at_work = host.op_hash_order, host.executing_op_hash
        if at_work is None or host.nested_executing_op_hash or state.print_output:
            return None
        following = order[order.index(at_work) + 1 :][:1]
        # of an operation that runs once, pyinfra keeps the others' hosts out (_run_once)
        mine = [one for one in following if one in state.ops[host]]
        reads = part(Answers).coming.get(mine[0]) if mine else None
        if reads is None or isinstance(host.connector, FakeConnector):
            return None
        who = identity(host)
        if identity(host, state.ops[host][mine[0]].global_arguments) != who:
            return None
        missing = [read for read in reads() if (read, who) not in part(Answers).known]
        return cls(who, combined(missing)) if missing else None

    def behind(self, command: StringCommand) -> StringCommand:
        """The command, which answers once it has succeeded; its status is its own."""
        return StringCommand(
            "{",
            command,
            # on a line of its own, whatever was printed before
            f"\n}} && {{ echo; echo {self.mark}; echo '{MARK}reading its state'; sh -c",
            QuoteString(script(self.questions)),
            "sh",
            QuoteString(PROBE),
            "</dev/null || true; }",
            **command.connector_arguments,
        )

    def take(self, output: CommandOutput) -> None:
        """Take the answers out of what the command has put out. One that is missing, or tells of
        an error, is left for the operation to ask for itself."""
        answers = part(Answers)
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
        for (question, answered), one in zip(self.questions.items(), parts, strict=False):
            value = value_of(question, one)
            if not isinstance(value, NodeError):
                answers.learn(answered, self.identity, value)
        stage, executed = moment()
        answers.ahead = stage, executed + 1


def _drop_empty_line(lines: list[OutputLine]) -> None:
    """Drop the last line of standard output, if it is the empty one before the mark."""
    for place in reversed(range(len(lines))):
        if lines[place].buffer_name == "stdout":
            if not lines[place].line:
                del lines[place]
            return
