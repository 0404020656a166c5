"""Deploy a private key, and check that nobody else sees it, nor the key that it replaces.

Neither pyinfra's output nor process lists nor files show it, not even for a moment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.cluster.eavesdropper import OTHERS, Secret, Seen, eavesdropping
from tests.cluster.virtual_cluster import Cluster, Result, wait_for
from tests.lab import nodes
from tests.lab.disk import BRICKS

FOLDER = "/etc/kubernetes"
KEY = f"{FOLDER}/client.key"
KUBEADMS_KEY = f"{FOLDER}/etcd/client.key"
"""For the API server's pod, which sees this folder."""
LOCK = "/run/chaos-engine/lock"
CONCERN = "chaos_engine.deploys.etcd_certificates"
ARCHIVE = b"H4sI"
"""How what is sent to a node begins: gzip, in base64. Output may break its lines anywhere."""

LOUD = ("-vvv", "--debug-all", "--diff")
PLACES = "/dev/shm /etc /home /root /run /tmp /var/lib/chaos-engine /var/log /var/tmp"


def other_key() -> bytes:
    """Return a key that nobody uses."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class Run:
    """A run of pyinfra under an eavesdropper.

    + calls: the files that it opened and the programs that it started, from strace
    """

    done: Result
    seen: Seen
    calls: str


@dataclass
class Stage:
    """A node, the key that is deployed to it, and the key that it had before."""

    cluster: Cluster
    node: str
    trace: Path
    new: bytes
    old: bytes

    @property
    def secrets(self) -> tuple[Secret, Secret]:
        """Return both keys."""
        return Secret(self.new), Secret(self.old)

    def shown(self, text: str | bytes) -> bool:
        """Tell whether data show one of the keys."""
        data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        return any(secret.shows(data) for secret in self.secrets) or ARCHIVE in data

    def exec(self, command: str) -> str:
        """Run a shell command on the node, without ssh."""
        return self.cluster.exec(self.node, command)

    def run(self, *arguments: str, ok: bool = True) -> Run:
        """Run pyinfra, with an eavesdropper on the node and strace on this computer."""
        init = nodes.leader(self.cluster.name, self.node)
        assert init is not None
        strace = ("strace", "-f", "-v", "-s", "100000", "--seccomp-bpf", "-o", str(self.trace))
        calls = ("-e", "trace=execve,open,openat,creat")
        pyinfra = ("pyinfra", "inventory.py", CONCERN, "--limit", self.node, *arguments)
        with eavesdropping(init, FOLDER, *self.secrets) as seen:
            done = self.cluster.run(*strace, *calls, *pyinfra, ok=ok)
        return Run(done, seen, self.trace.read_text(errors="surrogateescape"))

    def listing(self) -> str:
        """List what is in the node's folders for temporary files, but for the empty lock."""
        folders = "/tmp /var/tmp /dev/shm /run/chaos-engine /home"
        return self.exec(f"find {folders} -xdev ! -path {LOCK} | sort")


@pytest.fixture(scope="module")
def stage(deployed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a node that has another key at the path of the deployed one."""
    cluster, node = deployed, deployed.workers[0]
    trace = tmp_path_factory.mktemp("secrets") / "calls"
    new = (Path(cluster.status["files"]) / "etcd-client.key").read_bytes()
    yield Stage(cluster, node, trace, new, other_key())
    cluster.pyinfra(CONCERN, "-y", "--limit", node)


def put(stage: Stage, key: bytes) -> None:
    """Put a key on the node."""
    stage.exec(f"umask 077; rm -f {KEY}; printf %s {shlex.quote(key.decode())} >{KEY}")


@pytest.mark.parametrize(
    ("there", "arguments"),
    [(True, ("--dry", *LOUD)), (True, ("-y", *LOUD)), (False, ("-y", "--json", *LOUD))],
    ids=["preview", "replaced", "new"],
)
def test_a_key_is_seen_by_nobody(stage: Stage, there: bool, arguments: tuple[str, ...]) -> None:
    if there:
        put(stage, stage.old)
    else:
        stage.exec(f"rm -f {KEY}")
    before = stage.listing()

    run = stage.run(*arguments)

    assert not stage.shown(run.done.out)
    assert not stage.shown(run.done.err)
    assert len(run.done.text) > 2000, "it was not loud"
    assert run.seen.leaks == set()
    assert run.seen.programs > 10, "nobody listened on the node"
    assert run.seen.looks > 10, "nobody listened on this computer"
    assert not any(mode & OTHERS for mode in run.seen.modes.get("client.key", set()))
    assert stage.listing() == before
    if "--dry" in arguments:
        return
    assert stage.exec(f"cat {KEY}").encode() == stage.new.strip()
    assert stage.exec(f"stat -c %a:%U:%G {KEY}") == "600:root:root"
    written = {path: modes for path, modes in run.seen.modes.items() if "client.key" in path}
    assert any(path.startswith("/") for path in written), "nobody saw it being written"
    assert {mode for modes in written.values() for mode in modes} == {0o600}


def test_a_run_that_fails_shows_no_key(stage: Stage) -> None:
    put(stage, stage.old)
    # in the middle of the change: what can be seen before it is refused then
    mv = (
        "#!/bin/sh",
        f'case "$*" in *" {KEY}") echo "mv: Input/output error" >&2; exit 1 ;; esac',
        'exec /usr/bin/mv "$@"',
    )
    stage.exec(f"printf '%s\\n' {shlex.join(mv)} >/usr/local/sbin/mv; chmod 755 /usr/local/sbin/mv")
    try:
        run = stage.run("-y", *LOUD, ok=False)
    finally:
        stage.exec("rm /usr/local/sbin/mv")
    assert run.done.status != 0
    assert "mv: Input/output error" in run.done.text
    assert stage.exec(f"cat {KEY}").encode() == stage.old.strip(), "the old one is back"
    assert not stage.shown(run.done.text)
    assert run.seen.leaks == set()


def test_no_file_has_a_key_that_others_can_read(stage: Stage) -> None:
    put(stage, stage.old)
    stage.run("-y", *LOUD)
    for key in (stage.new, stage.old):
        line = key.decode().splitlines()[1]
        found = stage.exec(f"grep -rlIF --devices=skip -- {line} {PLACES} 2>/dev/null || true")
        for path in found.splitlines():
            own = path in (KEY, KUBEADMS_KEY)
            assert own or path.startswith("/var/lib/chaos-engine/originals/"), path
            # a file of mode 600, or behind a folder that others cannot enter
            assert stage.exec(f"setpriv --reuid 65534 --clear-groups cat {path} || echo no") == "no"


def test_no_key_reaches_the_journal_the_log_share_or_the_log_server(stage: Stage) -> None:
    put(stage, stage.old)
    stage.run("-y", *LOUD)
    put(stage, stage.old)
    stage.exec(f"mount --bind {FOLDER} {FOLDER}; mount -o remount,bind,ro {FOLDER}")
    try:
        stage.run("-y", *LOUD, ok=False)
    finally:
        stage.exec(f"umount {FOLDER}")
    mark = "the last message of this test"
    stage.exec(f"logger {shlex.quote(mark)}")
    server, logs = "etcd3", f"/var/log/remote/{stage.cluster.address(stage.node)}.log"
    come = f"tail -n 50 {logs}"
    wait_for("all messages", lambda: mark in stage.cluster.exec(server, come))

    assert not stage.shown(stage.cluster.exec(server, f"cat {logs}"))
    journal = stage.exec("journalctl --sync; journalctl --no-pager --all -o export")
    assert mark in journal
    assert not stage.shown(journal)
    lines = [f"-e {key.decode().splitlines()[1]}" for key in (stage.new, stage.old)]
    for storage in ("etcd1", "etcd2", "etcd3"):
        found = f"grep -rlaF --devices=skip {' '.join(lines)} {BRICKS} || true"
        assert stage.cluster.exec(storage, found) == "", storage


def test_this_computer_keeps_no_copy(stage: Stage) -> None:
    put(stage, stage.old)
    run = stage.run("-y", *LOUD)
    assert not stage.shown(run.calls)
    assert re.search(r'execve\(".*pyinfra"', run.calls)
    assert re.search(r'openat\(.*etcd-client\.key", O_RDONLY', run.calls)
    written = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)", O_(?:WRONLY|RDWR)', run.calls)
    assert {path for path in written if not path.startswith("/dev/")} == set()


LEAKS = {
    "a file": f"umask 022; cat {KEY} >{FOLDER}/copy; rm {FOLDER}/copy",
    "a file for a moment": f"umask 022; cat {KEY} >/tmp/copy; chmod 600 /tmp/copy; rm /tmp/copy",
    "an archive": f"umask 022; tar -czf /tmp/copy.tgz {KEY} 2>/dev/null; rm /tmp/copy.tgz",
    "arguments": f'/bin/true "$(cat {KEY})"',
    "environment": f'COPY="$(cat {KEY})" /bin/true',
    "an archive in arguments": f'/bin/true "$(gzip -c {KEY} | base64)"',
}


@pytest.mark.parametrize("leak", LEAKS)
def test_the_listener_hears_what_is_not_kept_secret(stage: Stage, leak: str) -> None:
    init = nodes.leader(stage.cluster.name, stage.node)
    assert init is not None
    with eavesdropping(init, FOLDER, *stage.secrets) as seen:
        stage.exec(LEAKS[leak])
    assert len(seen.leaks) >= 1, leak


def test_the_listener_sees_a_mode_that_a_key_has_for_a_moment(stage: Stage) -> None:
    init = nodes.leader(stage.cluster.name, stage.node)
    assert init is not None
    with eavesdropping(init, FOLDER, *stage.secrets) as seen:
        stage.exec(f"chmod 644 {KEY}; chmod 600 {KEY}")
    assert seen.modes["client.key"] == {0o600, 0o644}
