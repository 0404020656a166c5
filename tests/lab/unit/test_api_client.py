"""What the client of the API's address reads: answers, arguments, the word to stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from tests.cluster import api_client
from tests.cluster.api_client import Target, longest_gap, parse_head, until_stopped


def test_a_target_is_an_address_and_a_port() -> None:
    target = Target.parse("192.168.1.60:6443")
    assert (target.host, target.port) == ("192.168.1.60", 6443)


@pytest.mark.parametrize("text", ["192.168.1.60", ":6443", "192.168.1.60:https", ""])
def test_anything_else_is_no_target(text: str) -> None:
    with pytest.raises(ValueError, match="is not ADDRESS:PORT"):
        Target.parse(text)


def test_an_answer_has_a_status_and_names_its_server() -> None:
    head = ["HTTP/1.1 503 Service Unavailable", "X: a:b", "SERVER-NAME: pi7"]
    assert parse_head(iter(head)) == (503, "pi7", "")
    through = "Client-Address: 192.168.1.54"
    assert parse_head(iter([*head, through])) == (503, "pi7", "192.168.1.54")


@pytest.mark.parametrize(
    ("ends", "at", "seconds"),
    [([], 0, 10), ([9.0, 1.0, 4.5], 4.5, 4.5), ([1.0, 2.0], 2.0, 8.0), ([5.5, 9.9], 0, 5.5)],
)
def test_the_longest_time_without_an_answer_has_both_ends(
    ends: list[float], at: float, seconds: float
) -> None:
    assert longest_gap(ends, 10) == {"at": at, "seconds": seconds}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "not HTTP: ''"),
        (["SSH-2.0-OpenSSH_9.2"], "not HTTP"),
        (["HTTP/1.1"], "not HTTP"),
        (["HTTP/1.1 many OK"], "not HTTP"),
        (["HTTP/1.0 503 Service Unavailable", "Connection: close"], "no server's name: .* 503 "),
    ],
)
def test_other_answers_are_refused(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_head(iter(lines))


@pytest.mark.parametrize("arguments", [[], ["wait"], ["requests", "k8s"], ["streams", "k8s:http"]])
def test_wrong_arguments_are_the_only_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        api_client.main(arguments)
    assert ended.value.code == 2


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A reading and a writing end; the test closes the second."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_the_word_stop_ends_it(pipe: tuple[int, int], seconds: float | None) -> None:
    reading, writing = pipe
    stopped = threading.Thread(target=until_stopped, args=(seconds, reading), daemon=True)
    stopped.start()
    os.write(writing, b"go on\nnon")
    os.write(writing, b"stop\nst")
    stopped.join(0.05)
    assert stopped.is_alive()
    os.write(writing, b"op\n")
    stopped.join(5)
    assert not stopped.is_alive()
    os.close(writing)


def test_the_end_of_input_ends_it_unless_there_is_a_time(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(writing)
    until_stopped(None, reading)
    start = time.monotonic()
    until_stopped(0.1, reading)
    assert time.monotonic() - start >= 0.1
