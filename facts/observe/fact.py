"""Define the base classes of this package's facts, and the error that refuses a node."""

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
    """An error that refuses one node: it is in a state that this package does not handle.

    The run goes on for the other nodes. The message says what was found and what to do. Names of
    settings in the message are marked (`chaos_engine.facts.text.setting`). It does not name the
    host: the host's name is added when the message is printed.
    """

    @override
    def __str__(self) -> str:
        return in_words(super().__str__())


class NodeFact(FactBase[T], Generic[T]):
    """A fact of this package: a `command` for the node, and `parse` for the lines that it prints.

    If the node lacks the fact's `program`, or the command prints nothing, the value is `default`.
    """

    program: ClassVar[str] = ""
    """A program that the command needs and a node may lack, "" if there is none."""

    of_others: ClassVar[bool] = False
    """Whether the fact is about other machines, so that no command on this node changes it."""

    @override
    def requires_command(self, *args: Any, **kwargs: Any) -> str | None:
        return self.program or None

    @override
    def default(self) -> T:  # type: ignore[override] # pyinfra calls it on an object
        """Return what `parse` makes of no lines, or ``None`` if `parse` raises an error for that.

        pyinfra calls this for each fact, and an exception here would end the run for all hosts.
        """
        try:
            return self.parse([])
        except (ValueError, LookupError):
            return cast(T, None)

    def parse(self, lines: list[str]) -> T:
        """Return the fact's value.

        + lines: what its command printed

        Raises ``ValueError`` or ``LookupError`` if the lines make no sense.
        """
        raise NotImplementedError

    @override
    def process(self, output: list[str]) -> T:
        """Return the fact's value. Raises ``FactProcessError`` if the lines make no sense.

        pyinfra catches no other exception here: one would end the run for all hosts
        (``pyinfra/api/facts.py``, ``_get_fact``).
        """
        try:
            return self.parse(output)
        except (ValueError, LookupError) as error:
            raise FactProcessError(f"unexpected answer: {error!r}") from error


class YesOrNo(NodeFact[bool]):
    """A fact whose command prints ``yes`` or ``no``."""

    @override
    def parse(self, lines: list[str]) -> bool:
        return {"yes": True, "no": False}[lines[0]]


class SeveralFact(NodeFact[dict[str, T]], Generic[T]):
    """A fact about several things. Its value is a dictionary with the name of each thing as a key.

    All reads of such a fact become one, so that the node starts fewer processes. Of the answer,
    each read gets only the things that it asks about.
    """

    argument: ClassVar[str]
    """The argument of ``command`` with the things: names, or tuples that begin with a name."""

    @classmethod
    def share(cls, value: dict[str, T], names: Iterable[str]) -> dict[str, T]:
        """Return what a read that asks about `names` gets of the value of a combined read."""
        return {name: value[name] for name in names if name in value}


class Value:
    """The base of the dataclasses that facts return: pyinfra can print them as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return the value's fields by name."""
        return asdict(cast(Any, self))
