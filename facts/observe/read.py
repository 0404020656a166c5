"""Define what a read is, and the facts that are made of the answers to several reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase
from typing_extensions import override

from chaos_engine.facts.observe.fact import NodeError, NodeFact, SeveralFact

T = TypeVar("T")

_NEXT = "next read"


@dataclass(frozen=True)
class Read:
    """A fact with its arguments."""

    fact: type[FactBase[Any]]
    arguments: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, fact: type[FactBase[Any]], **arguments: Any) -> Read:
        """Return the read that ``observe(fact, **arguments)`` makes.

        + arguments: the arguments of the fact's ``command``; they must be hashable

        **Example:** ``Read.of(Files, paths=("/etc/fstab",))``
        """
        return cls(fact, tuple(sorted(arguments.items())))

    @property
    def names(self) -> dict[str, Any]:
        """Return the things that the read asks about, by name; {} if it is of no `SeveralFact`."""
        if not issubclass(self.fact, SeveralFact):
            return {}
        things = dict(self.arguments)[self.fact.argument]
        return {thing if isinstance(thing, str) else thing[0]: thing for thing in things}

    @property
    def command(self) -> StringCommand:
        """Return the shell command that makes the read."""
        return self._fact()[1]

    def process(self, lines: list[str]) -> Any:
        """Return the value that the lines of `command` give, without the empty ones at the end."""
        fact, _ = self._fact()
        end = next((n for n in range(len(lines), 0, -1) if lines[n - 1]), 0)
        return fact.process(lines[:end]) if end else fact.default()

    def _fact(self) -> tuple[FactBase[Any], StringCommand]:
        """Return the fact and its command; making that command may store arguments on the fact."""
        fact = self.fact()
        command: Any = fact.command
        if callable(command):
            command = command(**dict(self.arguments))
        return fact, StringCommand(command) if isinstance(command, str) else command

    @property
    def parts(self) -> tuple[Read, ...]:
        """Return the reads whose answers make this read's value: itself, or those of its fact."""
        if not issubclass(self.fact, ComposedFact):
            return (self,)
        return self.fact().reads(**dict(self.arguments))

    def own_share(self, value: Any) -> Any:
        """Return what this read asks about, from the value of the read that it was combined to."""
        if not isinstance(value, dict) or not issubclass(self.fact, SeveralFact):
            return value
        return self.fact.share(value, self.names)

    def composed(self, values: list[Any]) -> Any:
        """Return this read's value, or a `NodeError`.

        + values: the values of `parts`
        """
        errors = [value for value in values if isinstance(value, NodeError)]
        if errors or not issubclass(self.fact, ComposedFact):
            return [*errors, *values][0]
        fact = self.fact()
        try:
            return fact.compose(*values, **dict(self.arguments))
        except (ValueError, LookupError) as error:
            return NodeError(f"{fact.name}: unexpected answer: {error!r}")


class ComposedFact(NodeFact[T]):
    """A fact that is made of other facts' answers.

    What several such facts read, a batch reads only once: one process reads all files that they
    need, and systemd is asked once for all units. A fact that is read alone makes its own reads.
    """

    def reads(self, *args: Any, **arguments: Any) -> tuple[Read, ...]:
        """Return the reads that the fact's value is made of; none of them is of a `ComposedFact`.

        + arguments: the fact's own arguments
        """
        raise NotImplementedError

    def compose(self, *args: Any, **arguments: Any) -> T:
        """Return the fact's value.

        + args: the values of `reads`, in their order
        + arguments: the fact's own arguments

        Raises ``ValueError`` or ``LookupError`` if the values make no sense.
        """
        raise NotImplementedError

    @override
    def command(self, *args: Any, **arguments: Any) -> StringCommand:
        """Return the command that makes all the fact's reads, for a fact that is read alone.

        pyinfra wants the fact's own arguments in the signature of `command`. So a fact that has any
        overrides this method, and passes them on by name.
        """
        self._arguments = arguments
        commands = [StringCommand("(", read.command, "\n)") for read in self.reads(**arguments)]
        return StringCommand(*commands, _separator=f" && echo '{_NEXT}' && ")

    @override
    def parse(self, lines: list[str]) -> T:
        """Read what the commands of `reads` printed, with a line `_NEXT` between two of them."""
        answers: list[list[str]] = [[]]
        for line in lines:
            if line == _NEXT:
                answers.append([])
            else:
                answers[-1].append(line)
        reads = self.reads(**self._arguments)
        values = [read.process(answer) for read, answer in zip(reads, answers, strict=True)]
        return self.compose(*values, **self._arguments)
