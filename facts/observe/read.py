"""Define `Read`, a fact with its arguments, and `ComposedFact`, a fact made of other facts."""

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
    """A fact with its arguments, to be read on a host.

    + fact: the fact's class
    + arguments: names and values, sorted by name
    """

    fact: type[FactBase[Any]]
    arguments: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, fact: type[FactBase[Any]], **arguments: Any) -> Read:
        """Return the `Read` object for a call ``observe(fact, **arguments)``.

        + arguments: the arguments of the fact's ``command``; they must be hashable

        **Example:** ``Read.of(Files, paths=("/etc/fstab",))``
        """
        return cls(fact, tuple(sorted(arguments.items())))

    @property
    def names(self) -> dict[str, Any]:
        """Return the things to read, by name, if the fact is a `SeveralFact`.

        Returns {} for any other fact.
        """
        if not issubclass(self.fact, SeveralFact):
            return {}
        things = dict(self.arguments)[self.fact.argument]
        return {thing if isinstance(thing, str) else thing[0]: thing for thing in things}

    @property
    def command(self) -> StringCommand:
        """Return the shell command of the fact, with the arguments of this read."""
        return self._fact()[1]

    def process(self, lines: list[str]) -> Any:
        """Return the fact's value, made from the lines that `command` printed.

        Empty lines at the end are ignored.
        """
        fact, _ = self._fact()
        end = next((n for n in range(len(lines), 0, -1) if lines[n - 1]), 0)
        return fact.process(lines[:end]) if end else fact.default()

    def _fact(self) -> tuple[FactBase[Any], StringCommand]:
        """Return an object of the fact's class, and the shell command of this read.

        Some facts store their arguments in the object when they make the command. Their `parse`
        needs these arguments. So the object that parses the output has to make the command first.
        """
        fact = self.fact()
        command: Any = fact.command
        if callable(command):
            command = command(**dict(self.arguments))
        return fact, StringCommand(command) if isinstance(command, str) else command

    @property
    def parts(self) -> tuple[Read, ...]:
        """Return the `Read` objects whose values make up this read's value.

        For a `ComposedFact` these are the fact's `reads`. For any other fact, the result has only
        this read itself.
        """
        if not issubclass(self.fact, ComposedFact):
            return (self,)
        return self.fact().reads(**dict(self.arguments))

    def own_share(self, value: Any) -> Any:
        """Return this read's part of the value of a combined read.

        + value: the value of the combined read, which was done instead of this read and others
        """
        if not isinstance(value, dict) or not issubclass(self.fact, SeveralFact):
            return value
        return self.fact.share(value, self.names)

    def composed(self, values: list[Any]) -> Any:
        """Return this read's value, made from the values of its `parts`.

        Returns a `NodeError` if one of the values is a `NodeError`, or if the values make no sense.

        + values: the values of `parts`, in their order
        """
        errors = [value for value in values if isinstance(value, NodeError)]
        if errors or not issubclass(self.fact, ComposedFact):
            return [*errors, *values][0]
        fact = self.fact()
        try:
            return fact.compose(*values, **dict(self.arguments))
        except Exception as error:
            return NodeError(f"{fact.name}: unexpected answer: {error!r}")


class ComposedFact(NodeFact[T]):
    """A fact whose value is made of the values of other facts.

    One remote command can read several composed facts. If two composed facts need the same other
    fact, the command reads that other fact only once. For example, one process reads the files for
    all composed facts, and one process asks systemd about all units. If pyinfra reads a composed
    fact alone, `command` runs the commands of all its `reads`.
    """

    def reads(self, *args: Any, **arguments: Any) -> tuple[Read, ...]:
        """Return the `Read` objects whose values make up the fact's value.

        The result must not contain a `Read` of a `ComposedFact`.

        + arguments: the fact's own arguments
        """
        raise NotImplementedError

    def compose(self, *args: Any, **arguments: Any) -> T:
        """Return the fact's value, made from the values of its `reads`.

        + args: the values of `reads`, in their order
        + arguments: the fact's own arguments

        Raises any exception if the values make no sense, for example ``ValueError``.
        """
        raise NotImplementedError

    @override
    def command(self, *args: Any, **arguments: Any) -> StringCommand:
        """Return one command that runs the commands of all `reads` of this fact.

        pyinfra runs this command if it reads the fact alone. pyinfra finds the arguments of a fact
        in the signature of `command`. So a fact with arguments overrides this method, and passes
        the arguments on by name.
        """
        self._arguments = arguments
        commands = [StringCommand("(", read.command, "\n)") for read in self.reads(**arguments)]
        return StringCommand(*commands, _separator=f" && echo '{_NEXT}' && ")

    @override
    def parse(self, lines: list[str]) -> T:
        """Return the fact's value, made from the output of `command`.

        A line `_NEXT` separates the outputs of the fact's reads.
        """
        answers: list[list[str]] = [[]]
        for line in lines:
            if line == _NEXT:
                answers.append([])
            else:
                answers[-1].append(line)
        reads = self.reads(**self._arguments)
        values = [read.process(answer) for read, answer in zip(reads, answers, strict=True)]
        return self.compose(*values, **self._arguments)
