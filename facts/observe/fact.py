"""Define the base classes of this package's facts, and the error that stops the run on a node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar, Generic, TypeVar, cast

from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase
from typing_extensions import override

from chaos_engine.facts.observe.host import in_words

T = TypeVar("T")


class NodeError(Exception):
    """The error for a node whose state this package does not handle.

    The run stops on this node and goes on for the other nodes. The message says what was found and
    what to do. Names of settings in the message are marked (`chaos_engine.facts.text.setting`). The
    message does not name the host, because the host's name is added when the message is printed.
    """

    @override
    def __str__(self) -> str:
        return in_words(super().__str__())


class NodeFact(FactBase[T], Generic[T]):
    """The base class of this package's facts.

    A fact has a `command` that runs on the node, and a method `parse` that makes the value from the
    lines that the command prints. If the node lacks the fact's `program`, or the command prints
    nothing, the value is `default`.
    """

    program: ClassVar[str] = ""
    """A program that the command needs and that a node may lack, "" if there is none."""

    of_others: ClassVar[bool] = False
    """Whether the fact is about other machines. No command on this node changes such a fact."""

    more_seconds: ClassVar[int] = 0
    """How many seconds the command may take beyond the usual limit (`batch.PART_SECONDS`)."""

    doing: ClassVar[str] = ""
    """What the command does, for the lines of progress. "" for a command that only reads."""

    @override
    def requires_command(self, *args: Any, **kwargs: Any) -> str | None:
        return self.program or None

    @override
    def default(self) -> T:  # type: ignore[override] # pyinfra calls it on an object
        """Return the value that `parse` makes from no lines, ``None`` if `parse` raises an error.

        pyinfra calls this method for each fact. An exception here would end the run for all hosts.
        """
        try:
            return self.parse([])
        except Exception:
            return cast(T, None)

    def parse(self, lines: list[str]) -> T:
        """Return the fact's value, made from the output of the fact's command.

        + lines: the lines that the command printed

        Raises any exception if the lines make no sense, for example ``ValueError``, or
        ``TypeError`` for JSON of another form.
        """
        raise NotImplementedError

    @override
    def process(self, output: list[str]) -> T:
        """Return the fact's value, made from the output of the fact's command.

        + output: the lines that the command printed

        Raises ``FactProcessError`` if the lines make no sense. pyinfra catches only this exception
        here. Any other exception would end the run for all hosts (``pyinfra/api/facts.py``,
        ``_get_fact``).
        """
        try:
            return self.parse(output)
        except FactProcessError:  # from a fact whose value this fact's value is made of
            raise
        except Exception as error:
            raise FactProcessError(f"unexpected answer: {error!r}") from error


class YesOrNo(NodeFact[bool]):
    """A fact whose command prints ``yes`` or ``no``."""

    @override
    def parse(self, lines: list[str]) -> bool:
        return {"yes": True, "no": False}[lines[0]]


class SeveralFact(NodeFact[dict[str, T]], Generic[T]):
    """A fact about several things, such as several units.

    Its value is a dictionary with the name of each thing as a key. If several operations read such
    a fact, one command reads the things of all these operations. So the node starts fewer
    processes. Each operation then gets only the entries for its own things.
    """

    argument: ClassVar[str]
    """The name of the argument of ``command`` that lists the things. Each thing is given as a name,
    or as a tuple that begins with a name."""

    @classmethod
    def share(cls, value: dict[str, T], names: Iterable[str]) -> dict[str, T]:
        """Return one operation's entries from a value that was read for several operations.

        + value: the value with the entries of all operations
        + names: the names of the things that the one operation reads
        """
        return {name: value[name] for name in names if name in value}


class Value:
    """The base class of the dataclasses that facts return. pyinfra can print them as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the dataclass by name."""
        return asdict(cast(Any, self))
