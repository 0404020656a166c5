"""The frames of an ARP probe."""

from __future__ import annotations

import socket

import pytest

from tests.cluster.arping import Answers, Interface, answered, asker, claims, question, request

_VIP = socket.inet_aton("192.168.1.60")
_COMPUTER = Interface("eth0", bytes.fromhex("020000000002"), socket.inet_aton("192.168.1.2"))
# An answer as the LAN carries it: from 02:42:ac:8f:4c:ff, which has 192.168.1.60
_ANSWER = bytes.fromhex(
    "020000000002" "0242ac8f4cff" "0806"
    "0001" "0800" "06" "04" "0002"
    "0242ac8f4cff" "c0a8013c" "020000000002" "c0a80102"
)  # fmt: skip


def test_a_request_asks_everybody() -> None:
    assert request(_COMPUTER, _VIP) == bytes.fromhex(
        "ffffffffffff" "020000000002" "0806"
        "0001" "0800" "06" "04" "0001"
        "020000000002" "c0a80102" "000000000000" "c0a8013c"
    )  # fmt: skip


# Short frames are filled up to Ethernet's 60 bytes
@pytest.mark.parametrize("frame", [_ANSWER, _ANSWER + bytes(18)])
def test_an_answer_claims_its_address(frame: bytes) -> None:
    assert claims(frame, _VIP) == "02:42:ac:8f:4c:ff"


@pytest.mark.parametrize(
    "frame",
    [
        _ANSWER.replace(_VIP, socket.inet_aton("192.168.1.61")),
        request(_COMPUTER, _VIP),
        request(Interface("eth0", _COMPUTER.mac, _VIP), _VIP),
        _ANSWER[:-1],
        b"",
    ],
)
def test_other_frames_claim_nothing(frame: bytes) -> None:
    assert claims(frame, _VIP) is None


def test_a_question_is_asked_in_the_name_of_somebody_else() -> None:
    nobody = socket.inet_aton("192.168.1.9")
    frame = question(_COMPUTER, 258, nobody, _VIP)
    # Ethernet's source is the computer's own
    assert frame[:12] == bytes.fromhex("ffffffffffff" "020000000002")  # fmt: skip
    assert frame[22:] == bytes.fromhex(
        "02a500000102" "c0a80109" "000000000000" "c0a8013c"
    )  # fmt: skip


def test_an_answer_repeats_whose_question_it_answers() -> None:
    def answer(to: bytes, address: bytes = _VIP) -> bytes:
        head = to + _ANSWER[6:28]
        return head + address + to + socket.inet_aton("192.168.1.9")

    assert answered(answer(asker(258)), _VIP) == 258
    assert answered(answer(asker(258), socket.inet_aton("192.168.1.61")), _VIP) is None
    assert answered(_ANSWER, _VIP) is None
    assert answered(answer(asker(258))[:-1], _VIP) is None


def test_answers_are_counted_by_their_request() -> None:
    found = Answers([0.0, 0.05, 0.1, 0.15])
    for number in (0, 3, 3, 1):
        found.counts[number] += 1
    assert found.report() == {
        "asked": 4,
        "answers": {"0": 1, "1": 2, "2": 1},
        "none": [0.1],
        "several": [0.15],
    }
