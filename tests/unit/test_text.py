"""Make text safe to print."""

from __future__ import annotations

import pytest

from chaos_engine.facts.observe import NodeError, warn
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.converge import fail_host
from tests.unit.nodes import Nodes


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("volume pi1 of etcd1", "volume pi1 of etcd1"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m red", "\\x9b31m red"),
        ("over\rwritten\b", "over\\x0dwritten\\x08"),
        ("two\nlines, größer", "two\nlines, größer"),
    ],
)
def test_what_others_choose_moves_no_cursor(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_warnings_and_refusals_are_printable(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pyinfra")
    nodes = Nodes("pi1")
    with nodes.on() as host:
        warn("a volume \x1b]0;x\x07")
        fail_host(nodes.state, host, str(NodeError("a name \x1b[2J")))
    assert "a volume \\x1b]0;x\\x07" in caplog.text
    assert "a name \\x1b[2J" in caplog.text
