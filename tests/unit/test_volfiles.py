"""The volfile: asked for over the wire, and let through as far as a client may have it."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Thread

import pytest

from chaos_engine.templates import render

VOLFILES = Path(__file__).parent / "volfiles"
RECORDED = sorted(VOLFILES.glob("*.vol"))


@cache
def function(name: str, port: int = 24007) -> str:
    """One function of the helper script."""
    script = render(
        "var-log-mount.j2",
        store="gluster",
        words="Gluster volume pi1",
        share="/pi1",
        ram_size="16m",
        servers=("etcd1",),
        target="/nowhere",
        run="/nowhere",
        mounts="/nowhere",
        path="/usr/bin:/bin",
        flags="",
        confined="",
        uppermost="",
        checked="",
        share_port=port,
        nfs="",
        shares="",
        unconfined=96,
    )
    found = re.search(rf"^{name}\(\) \{{.*?^\}}$", script, re.MULTILINE | re.DOTALL)
    assert found
    return found[0]


def sift(volfile: str | bytes) -> subprocess.CompletedProcess[str]:
    """What comes of a volfile that etcd1 has sent."""
    sent = volfile.encode() if isinstance(volfile, str) else volfile
    ran = subprocess.run(
        ["sh", "-c", f"{function('sift_volfile')}\nsift_volfile etcd1"],
        input=sent,
        capture_output=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert ran.stderr == b""
    return subprocess.CompletedProcess([], ran.returncode, ran.stdout.decode(), "")


def lines(volfile: str) -> list[list[str]]:
    return [line.split() for line in volfile.splitlines() if line.strip()]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_glusterd_sends_is_taken_as_it_is(path: Path) -> None:
    volfile = path.read_text()
    ran = sift(volfile)
    assert ran.returncode == 0, ran.stdout
    # snapshots are served by whoever sends the volfile, which says no name
    taken = lines(ran.stdout)
    for line in lines(volfile):
        while taken[0] != line:
            assert taken.pop(0) == ["option", "remote-host", "etcd1"]
        taken.pop(0)
    assert taken == []


def test_there_are_recordings_of_the_kinds_of_volumes() -> None:
    assert {path.stem.partition("-")[0] for path in RECORDED} == {
        "arbiter",
        "disperse",
        "distribute",
        "options",
        "replicate",
    }


CLIENT = """\
volume pi1-client-0
    type protocol/client
    option remote-subvolume /srv/gluster/pi1
    option remote-host etcd1
end-volume
"""
TOP = """\
volume pi1
    type debug/io-stats
    option log-level INFO
    subvolumes pi1-client-0
end-volume
"""


def of_type(kind: str, *more: str) -> str:
    return CLIENT + "\n".join(("volume it", f"    type {kind}", *more, "end-volume", ""))


def with_option(key: str, value: str, kind: str = "protocol/client") -> str:
    return of_type(kind, f"    option {key} {value}")


@pytest.mark.parametrize(
    "kind",
    [
        "storage/posix",
        "protocol/server",
        "mount/fuse",
        "mgmt/glusterd",
        "nfs/server",
        "debug/trace",
        "debug/error-gen",
        "features/cloudsync",
        "features/cdc",
        "features/changelog",
        "features/access-control",
        "meta",
        "protocol/client2",
        "performance/quick",
        "performance",
    ],
)
def test_a_type_that_a_log_share_has_not_is_refused(kind: str) -> None:
    ran = sift(of_type(kind))
    assert ran.returncode == 1
    named = f"the type {kind}" if "/" in kind and kind[-1] != "2" else ""
    assert ran.stdout.startswith("line 7 of the volfile of etcd1 has ")
    assert named in ran.stdout
    assert "which a log share may not have" in ran.stdout


@pytest.mark.parametrize(
    ("volfile", "why"),
    [
        ("", "the volfile of etcd1 is empty"),
        ("\n\n", "the volfile of etcd1 is empty"),
        (CLIENT[: -len("end-volume\n")], "the volfile of etcd1 is cut short"),
        (CLIENT + "volume pi1\n", "the volfile of etcd1 is cut short"),
        ("# a comment\n" + CLIENT, "line 1 of the volfile of etcd1 is not one that"),
        ("option x y\n", "line 1 of the volfile of etcd1 is not one that"),
        ("include other\n", "line 1 of the volfile of etcd1 stands outside of a volume"),
        ("volume a/b\n", "line 1 of the volfile of etcd1 has a name with other than plain"),
        ("volume a b\n", "line 1 of the volfile of etcd1 is not one that"),
        ("volume a type protocol/client end-volume\n", "is not one that a volfile has"),
        ("volume a\noption x y\n", "comes before the type of a"),
        ("volume a\nend-volume\n", "comes before the type of a"),
        (of_type("features/shard", "type storage/posix"), "gives it a second type"),
        (of_type("features/shard", "volume other"), "is not one that a volfile has"),
        (of_type("features/shard", "subvolumes"), "is not one that a volfile has"),
        (of_type("features/shard", "subvolumes a", "subvolumes b"), "is not one that"),
        (of_type("features/shard", "subvolumes a;b"), "other than plain characters"),
        (of_type("features/shard", "option x"), "is not one that a volfile has"),
        (of_type("features/shard", "option x y z"), "is not one that a volfile has"),
        (of_type("features/shard", "include x"), "is not one that a volfile has"),
        (of_type("../../srv/x"), "has a type, which a log share may not have"),
        (of_type("performance/../x"), "has a type, which a log share may not have"),
        (with_option("transport-type", "unix"), "a value that the option transport-type may"),
        (with_option("transport-type", "../../x"), "a value that the option transport-type may"),
        (with_option("transport.address-family", "unix"), "transport.address-family may not"),
        (with_option("transport.socket.connect-path", "x"), "connect-path, which a log share may"),
        (with_option("transport.socket.listen-port", "1"), "listen-port, which a log share may"),
        (with_option("transport.socket.ssl-own-cert", "x"), "ssl-own-cert, which a log share may"),
        (with_option("remote-port", "22"), "the option remote-port, which a log share may not"),
        (with_option("remote-host", "-x"), "a value that the option remote-host may not have"),
        (with_option("remote-host", "a/b"), "a value that the option remote-host may not have"),
        (with_option('x"y', "z"), "has an option with other than plain characters"),
        (with_option("x", "/etc", "cluster/replicate"), "a value that the option x may not"),
        (with_option("log-level", "/etc", "debug/io-stats"), "a value that the option log-level"),
        *(
            (with_option("x", f"a{odd}b", "features/shard"), "a value that the option x may not")
            for odd in "`$\"'\\;|&<>(){}[]!#?/"
        ),
        *(
            (CLIENT.replace("etcd1", f"a{odd}b"), "has control characters")
            for odd in "\r\x1b\x07\x7f\x0b\x0c"
        ),
        (CLIENT.replace("etcd1", "\N{LATIN SMALL LETTER E WITH ACUTE}"), "has control characters"),
    ],
)
def test_what_no_client_s_volfile_has_is_refused(volfile: str, why: str) -> None:
    ran = sift(volfile)
    assert ran.returncode == 1
    assert why in ran.stdout
    assert ran.stdout.count("\n") == 1
    assert re.fullmatch(r"[ -~]+", ran.stdout[:-1]), "it is shown to people"


def test_a_reason_is_short_however_long_the_word() -> None:
    ran = sift(with_option("x" * 10_000, "y"))
    assert ran.returncode == 1
    assert len(ran.stdout) < 200


def test_options_by_which_the_client_would_write_files_are_left_out() -> None:
    dumps = "    option ios-dump-interval 1\n    option unique-id a\n"
    ran = sift(CLIENT + TOP.replace("    subvol", dumps + "    subvol"))
    assert ran.returncode == 0
    assert lines(ran.stdout) == lines(CLIENT + TOP)


def test_peers_may_have_other_names_than_the_settings_say() -> None:
    """The volume names its bricks as its peers were probed."""
    for name in ("storage-1.example.org", "192.168.1.40", "fd00::1", "brick_host"):
        assert sift(CLIENT.replace("etcd1", name)).returncode == 0


def test_a_volfile_of_the_greatest_length_is_read_in_time() -> None:
    many = "".join(CLIENT.replace("client-0", f"client-{n}") for n in range(8_000))
    ran = sift(many)
    assert ran.returncode == 0


class Glusterd:
    """A stand-in: one call of ONC RPC is answered, or something else is sent instead."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sent = b""
        self.asked = b""
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                (head,) = struct.unpack("!I", connection.recv(4, socket.MSG_WAITALL))
                self.asked = connection.recv(head & 0x7FFFFFFF, socket.MSG_WAITALL)
                connection.sendall(self.sent)


def fetch(port: int, seconds: int = 30) -> tuple[int, str]:
    """Status of the script's question, and what it prints."""
    script = (
        f"{function('fetch_volfile', port)}\nshare=/pi1\nfetch_volfile {seconds} 127.0.0.1 119999"
    )
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


def opaque(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data + b"\0" * (-len(data) % 4)


def reply(volfile: bytes, status: int = 0, errno: int = 0, accepted: int = 0) -> bytes:
    head = struct.pack("!6I", 1, 1, 0, 0, 0, accepted)
    return head + struct.pack("!ii", status, errno) + opaque(volfile) + opaque(b"")


def record(*fragments: bytes) -> bytes:
    """ONC RPC's record marking: the last fragment has the highest bit set."""
    marked = [struct.pack("!I", len(part)) + part for part in fragments[:-1]]
    last = struct.pack("!I", 1 << 31 | len(fragments[-1])) + fragments[-1]
    return b"".join((*marked, last))


@pytest.fixture
def glusterd() -> Iterator[Glusterd]:
    server = Glusterd()
    yield server
    server.listener.close()


def test_the_volume_is_asked_for_as_a_client_does(glusterd: Glusterd) -> None:
    glusterd.sent = record(reply(CLIENT.encode()))
    assert fetch(glusterd.port) == (0, CLIENT)
    call = struct.unpack("!11I", glusterd.asked[:44])
    assert call == (1, 0, 2, 14398633, 2, 2, 0, 0, 0, 0, 0)
    assert glusterd.asked[44:52] == opaque(b"pi1")
    assert b"min-op-version\x001\0" in glusterd.asked
    assert b"max-op-version\x00119999\0" in glusterd.asked


def test_an_answer_may_come_in_parts(glusterd: Glusterd) -> None:
    whole = reply(CLIENT.encode(), status=len(CLIENT))
    glusterd.sent = record(whole[:10], whole[10:11], whole[11:])
    assert fetch(glusterd.port) == (0, CLIENT)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (record(reply(b"", -1, 2)), "has no volume pi1"),
        (record(reply(b"", -1, 95)), "wants a newer Gluster client for the volume pi1"),
        (record(reply(b"", -1, 22)), "gives no volfile (error 22)"),
        (record(reply(b"", accepted=1)), "does not answer as a Gluster server"),
        (record(b"HTTP/1.1 400 Bad Request"), "does not answer as a Gluster server"),
        (record(b""), "does not answer as a Gluster server"),
        (b"", "ends in mid answer"),
        (b"\x80\0", "ends in mid answer"),
        (record(reply(CLIENT.encode()))[:-20], "ends in mid answer"),
        (b"\xff\xff\xff\xff", "answers with more than 1 MiB"),
        (record(b"x" * 600_000, b"x" * 600_000), "answers with more than 1 MiB"),
        (record(reply(b"volume \x1b]0;x\x07")), "sends a volfile with control characters"),
        (record(reply(b"volume \0x")), "sends a volfile with control characters"),
    ],
    # an id is part of the environment of what a test calls
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_what_is_no_volfile_is_told(glusterd: Glusterd, sent: bytes, why: str) -> None:
    glusterd.sent = sent
    assert fetch(glusterd.port) == (1, f"127.0.0.1 {why}\n")


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        assert fetch(nobody.getsockname()[1]) == (1, "127.0.0.1 does not answer\n")


def test_a_server_that_takes_the_call_and_is_silent_holds_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert fetch(silent.getsockname()[1], seconds=1) == (124, "")
