"""What a node answers, and what its files say, refuses that node at most: it never ends the run."""

from __future__ import annotations

from contextlib import suppress
from itertools import product

import pytest
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, NodeError, Read
from tests.unit.rendered import reads

LINES = [
    *("", "x", "5", "1.5", "a b c d e f g h", "a\rb", "\udcff", "9" * 5000),
    *("null", "[]", "[[]]", "[null]", '{"a": 1}', '[{"flags": 5}]', "[" * 3000, '{"a":' * 3000),
]
TEXTS = [line.encode("utf-8", "surrogateescape") for line in LINES] + [
    *(b"\0", b"a = b = c\n", b"a: [1]\n", b"- - " * 2000, b"a: 2026-13-45\n", b"&a [*a]\n"),
    *(b"LABEL=root /\n", b"/dev/a / ext4\r\n", b"deb [", b"%" * 100, b"[Unit]\n=\n"),
]

ASKED = [*dict.fromkeys(reads())]
PARTS = [*dict.fromkeys(part for read in ASKED for part in read.parts)]


def name(read: Read) -> str:
    return read.fact.__name__


@pytest.mark.parametrize("read", PARTS, ids=name)
def test_an_answer_of_any_form_is_told_of(read: Read) -> None:
    for lines in product(LINES, repeat=2):
        with suppress(FactProcessError):  # any other exception would end the run
            read.process([*lines])


COMPOSED = [read for read in ASKED if issubclass(read.fact, ComposedFact)]


@pytest.mark.parametrize("read", COMPOSED, ids=name)
def test_files_of_any_content_are_told_of(read: Read) -> None:
    for text in TEXTS:
        values = []
        for part in read.parts:
            if part.fact is Texts:
                paths = (one if isinstance(one, str) else one[0] for one in part.names)
                values.append({path.replace("*", "a"): text for path in paths})
            else:
                values.append(part.fact().default())
        found = read.composed(values)
        assert not isinstance(found, NodeError) or "unexpected answer: " in str(found)
