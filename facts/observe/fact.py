"""Define a fact of this package: a command, a parser, and an error for what it cannot read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, Generic, TypeVar, cast

from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase
from typing_extensions import override

from chaos_engine.facts.observe.host import in_words

T = TypeVar("T")


class NodeError(Exception):
    """A node is in a state that this package does not handle: it is refused, the others go on.

    The message says what was found and what to do about it; the host's name is added in print.
    Settings in it are marked (`chaos_engine.facts.text.setting`).
    """

    @override
    def __str__(self) -> str:
        return in_words(super().__str__())


class NodeFact(FactBase[T], Generic[T]):
    """A fact whose `parse` may raise ``ValueError`` for output that it does not understand.

    pyinfra contains only ``FactProcessError``: any other exception in ``process`` ends the run
    of all hosts (research: ``pyinfra/api/facts.py``, ``_get_fact``).
    """

    of_others: ClassVar[bool] = False
    """Whether it tells of other machines, so that no command on the node changes the answer."""

    def parse(self, lines: list[str]) -> T:
        """Turn the command's lines into the fact's value; ``ValueError`` if they make no sense."""
        raise NotImplementedError

    @override
    def process(self, output: list[str]) -> T:
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
    """A fact that tells something of each of several things, by name.

    `argument` is the argument of its ``command`` that lists them: names, or tuples that begin with
    one. Reads of it are gathered as one, which spares a node most of its processes, and each is
    answered with its own names.
    """

    argument: ClassVar[str]

    @staticmethod
    @override
    def default() -> dict[str, T]:
        return {}


class Value:
    """Base of the dataclasses that facts return: pyinfra can print them as JSON."""

    def to_json(self) -> dict[str, Any]:
        """The value's fields by name."""
        return asdict(cast(Any, self))
