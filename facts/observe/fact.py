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
    """An error that refuses one node: it is in a state that this package does not handle.

    The run goes on for the other nodes. The message says what was found and what to do. Settings in
    it are marked (`chaos_engine.facts.text.setting`). The host's name is added when it is printed.
    """

    @override
    def __str__(self) -> str:
        return in_words(super().__str__())


class NodeFact(FactBase[T], Generic[T]):
    """A fact whose `parse` may raise ``ValueError`` for output that it does not understand.

    pyinfra catches only ``FactProcessError``. Any other exception in ``process`` ends the run for
    all hosts (``pyinfra/api/facts.py``, ``_get_fact``).
    """

    of_others: ClassVar[bool] = False
    """Whether the fact is about other machines. No command on the node changes its answer then."""

    def parse(self, lines: list[str]) -> T:
        """Return the fact's value.

        + lines: what its command printed

        Raises ``ValueError`` or ``LookupError`` if the lines make no sense.
        """
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
    """A fact about several things: its value is a dictionary by their names.

    All reads of such a fact become one, so that the node starts fewer processes. Each read gets the
    part of the answer that has its own names.
    """

    argument: ClassVar[str]
    """The argument of ``command`` that lists the things: names, or tuples that begin with one."""

    @staticmethod
    @override
    def default() -> dict[str, T]:
        return {}


class Value:
    """The base of the dataclasses that facts return: pyinfra can print them as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return the value's fields by name."""
        return asdict(cast(Any, self))
