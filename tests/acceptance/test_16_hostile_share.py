"""Put hostile files on the log share, and check that they do no harm.

Root on a node reads and writes nothing outside of the share, shows nothing, never blocks, and fixes
its own files. What is planted is harmless, and markers show where it led.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.acceptance.suites import SUITE
from tests.cluster import seen
from tests.cluster.operations import COPY
from tests.cluster.virtual_cluster import Cluster, wait_for

NODE = seen.PROXY
HOSTILE = "etcd1"
SERVERS = ("etcd1", "etcd2", "etcd3")
SHARE = f"/mnt/hostile-{NODE}"
"""Where the storage node has mounted the share, as every other machine of the LAN could."""

OUTSIDE = "/srv/outside"
"""On the node, with markers: a file system that keeps the time of each read."""

MARK = "marker-3f9c1d"
HAPROXY = "chaos_engine.deploys.haproxy"
SEALED = "# sha256 of the lines above: "
PATIENCE = 5
"""How many seconds anything may wait, beside taking as long as on a clean share: twice that, and
more if a node with a clean share takes longer too, for this computer may have become busy."""

FOLDER, CONFIG, SOCKETS = "haproxy", "haproxy/haproxy.cfg", "haproxy/run"
STAGED = "haproxy/.haproxy.cfg.chaos"

# How something is put at "$1", which is free
OBJECTS = {
    "link to a file": f'ln -s {OUTSIDE}/file "$1"',
    "link to a folder": f'ln -s {OUTSIDE}/folder "$1"',
    "link to a file that is not there": f'ln -s {OUTSIDE}/folder/new "$1"',
    "link to a folder that is not there": f'ln -s {OUTSIDE}/folder/new/folder "$1"',
    "link out of the share by ..": 'ln -s ../../../srv/outside/file "$1"',
    "link to itself": 'ln -s "${1##*/}" "$1"',
    "link into the node's own folders": 'ln -s /var/lib/chaos-engine/manifest "$1"',
    "link to a process's root": f'ln -s /proc/1/root{OUTSIDE}/file "$1"',
    "FIFO": 'mkfifo -m 666 "$1"',
    "device": 'mknod -m 666 "$1" c 1 5',
    "socket": (
        "perl -MIO::Socket::UNIX -e "
        "'IO::Socket::UNIX->new(Listen => 1, Local => shift) or die' \"$1\""
    ),
    "huge file": 'truncate -s 1T "$1"',
    "folder": 'mkdir "$1"',
    "full folder": 'mkdir -p "$1/folder"; echo theirs >"$1/file"',
    "file": 'echo theirs >"$1"',
    "file that all may write": 'echo theirs >"$1"; chmod 666 "$1"',
    "setuid program": 'cp /usr/bin/id "$1"; chmod 4755 "$1"',
    "valid configuration": (
        '{ printf "global\\n    log stdout format raw local0\\n    # ' + MARK + "\\n"
        "defaults\\n    mode tcp\\n    timeout connect 1s\\n    timeout client 1s\\n"
        '    timeout server 1s\\n"; } >"$1.text"; '
        f'{{ cat "$1.text"; printf "%s%s\\n" "{SEALED}" '
        '"$(sha256sum <"$1.text" | cut -d " " -f 1)"; } >"$1"; rm "$1.text"'
    ),
    "configuration that is refused": f'echo "{MARK} is no keyword" >"$1"',
}

ROUNDS: dict[str, dict[str, str]] = {
    "files": {
        CONFIG: "link to a file",
        SOCKETS: "link to a folder",
        STAGED: "link to a file that is not there",
        ".var-log-mount": "link to a file",
        ".chaos-engine-verify": "link to a file that is not there",
        "private": "link to a folder",
        "README": "link to a file",
        "journal": "link to a folder",
        "apt": "link to a folder",
        "runit": "link to a folder that is not there",
    },
    "things that hold who opens them": {
        CONFIG: "FIFO",
        SOCKETS: "device",
        STAGED: "FIFO",
        ".var-log-mount": "FIFO",
        ".chaos-engine-verify": "device",
        "private": "FIFO",
        "journal": "device",
        "apt": "huge file",
    },
    "the folder": {FOLDER: "link to a folder", "private": "setuid program"},
    "large and small": {
        CONFIG: "huge file",
        SOCKETS: "full folder",
        "haproxy/run.old": "link to a folder",
        STAGED: "socket",
        ".var-log-mount": "full folder",
        "private": "socket",
        "runit": "link to itself",
    },
    "a configuration": {
        CONFIG: "valid configuration",
        SOCKETS: "file",
        STAGED: "full folder",
        "private": "file that all may write",
        "README": "link to a process's root",
    },
    "another configuration": {
        CONFIG: "configuration that is refused",
        SOCKETS: "link into the node's own folders",
        STAGED: "link out of the share by ..",
        "private": "link to a file",
    },
}
"""What lies where in each round, all of it at once."""

FIXED_BY_PEOPLE = {
    (STAGED, "full folder"),
    (CONFIG, "folder"),
}
"""What is in the way, and is told of."""


@dataclass
class Node:
    """The node, its share as others see it, and what is outside of it."""

    cluster: Cluster
    usual: dict[str, float] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    since: str = ""

    def exec(self, command: str) -> str:
        """Run a shell command on the node, without ssh."""
        return self.cluster.exec(NODE, command)

    def hostile(self, command: str) -> str:
        """Run a shell command in the share, on a machine that has mounted it."""
        return self.cluster.exec(HOSTILE, f"cd {SHARE} && {command}")

    def plant(self, things: dict[str, str]) -> None:
        """Put these files on the share."""
        lines = [
            'place() { rm -rf -- "$2"; mkdir -p "$(dirname "$2")"; set -- "$2" "$1"; eval "$2"; }'
        ]
        for path, what in things.items():
            lines.append(f"place {shlex.quote(OBJECTS[what])} {path}")
        self.hostile("\n".join(lines))

    def outside(self) -> str:
        """Return what changes when somebody reads, writes or makes a file outside."""
        paths = f"{OUTSIDE} {OUTSIDE}/file {OUTSIDE}/folder {OUTSIDE}/folder/file"
        state = "%n %F %a %u:%g %s %X %Y %Z %h"
        return self.exec(f"stat -c {shlex.quote(state)} {paths}; ls -U /var/lib/chaos-engine")

    def timed(self, name: str, act: Callable[[], str]) -> None:
        """Do something, and check that it takes no longer than on a clean share."""
        begin = time.monotonic()
        self.said.append(act())
        took = time.monotonic() - begin
        usual = self.usual.setdefault(name, took)
        if took >= 2 * usual + PATIENCE:
            slower = max(1.0, self.elsewhere() / self.usual["elsewhere"])
            limit = 2 * usual * slower + PATIENCE
            assert took < limit, (
                f"{name}: {took:.1f} s, {usual:.1f} s on a clean share, {slower:.1f} times that now"
            )

    def elsewhere(self) -> float:
        """Return how many seconds a look takes at a node with a clean share."""
        begin = time.monotonic()
        other = next(name for name in self.cluster.workers if name != NODE)
        self.cluster.pyinfra("chaos_engine.deploys.verify", "-y", "--limit", other, ok=False)
        return time.monotonic() - begin

    def pyinfra(self, *arguments: str) -> str:
        """Run pyinfra on the node. Return all that it printed, also if it fails."""
        return self.cluster.pyinfra(*arguments, "--limit", NODE, ok=False).text

    def work(self) -> None:
        """Do all that root does on the share, from the remount to the deploy."""
        self.timed("verify", lambda: self.pyinfra("chaos_engine.deploys.verify", "-y"))
        self.timed("check", lambda: self.exec("var-log-mount check 2>&1"))
        self.timed("mount", lambda: self.exec("systemctl restart var-log.service 2>&1"))
        self.timed("start", lambda: self.exec("systemctl restart docker_haproxy 2>&1"))
        self.timed("deploy", lambda: self.pyinfra(HAPROXY, "-y", "--diff"))

    def undo(self) -> None:
        """Undo the proxy."""
        asked = ("--data", "chaos_undo=haproxy")
        self.timed("undo", lambda: self.pyinfra("chaos_engine.deploys.undo", "-y", *asked))

    def shown(self) -> list[str]:
        """Return where a marker can be read that was only outside, or was refused."""
        found = [text for text in self.said if MARK in text]
        logs = f"/var/log/remote/{self.cluster.address(NODE)}.log"
        places = "/run /tmp /var/tmp /var/lib/chaos-engine /etc /home /root"
        return [
            *found,
            *self.exec(f"journalctl -q --since {self.since!r} -g {MARK} -o cat || true").split(),
            *self.cluster.exec("etcd3", f"grep -F {MARK} {logs} || true").splitlines(),
            *self.exec(f"grep -rlF {MARK} {places} 2>/dev/null || true").splitlines(),
            # theirs are CONFIG's
            *self.hostile(f"grep -rlF -D skip {MARK} . | grep -v '^./{CONFIG}$' || true").split(),
        ]

    def own(self) -> None:
        """Check that HAProxy runs as deployed, and the share has the deployed copy."""
        own = self.exec("cat /var/lib/chaos-engine/haproxy/haproxy.cfg")
        assert SEALED in own
        assert self.exec("cat /run/chaos-engine/haproxy/config/haproxy.cfg") == own
        assert MARK not in own

    def copied(self) -> bool:
        """Tell whether the share has the copy and the link."""
        look = f'stat -c "%F %a %u:%g" {CONFIG}; cat {CONFIG}; readlink {SOCKETS}'
        found = self.hostile(look).splitlines()
        own = self.exec("cat /var/lib/chaos-engine/haproxy/haproxy.cfg").splitlines()
        return found == ["regular file 644 0:0", *own, "/run/chaos-engine/haproxy/socket"]


@pytest.fixture(scope="module")
def node(deployed: Cluster) -> Iterator[Node]:
    """Put markers outside of the share of a node, and mount the share on a storage node."""
    node = Node(deployed)
    deployed.exec(
        HOSTILE,
        f"mkdir -p {SHARE}; mountpoint -q {SHARE} || mount -t glusterfs {HOSTILE}:/{NODE} {SHARE}",
    )
    node.exec(
        f"mkdir -p {OUTSIDE}; mount -t tmpfs -o strictatime,mode=755 outside {OUTSIDE}; "
        f"cd {OUTSIDE}; mkdir folder; echo {MARK} >file; echo {MARK} >folder/file"
    )
    node.since = node.exec("date '+%F %T'")
    node.exec("systemctl stop var-log-check.timer")  # the tests call what it calls
    node.usual["elsewhere"] = node.elsewhere()
    node.work()
    yield node
    node.hostile("rm -rf program .var-log-mount .chaos-engine-verify haproxy/run.old* journal")
    node.hostile("for one in private apt runit README; do [ -d $one ] || rm -f $one; done")
    node.exec(f"umount {OUTSIDE}; rmdir {OUTSIDE}; systemctl start var-log-check.timer")
    deployed.exec(HOSTILE, f"umount -l {SHARE}; rmdir {SHARE}")
    deployed.pyinfra("deploy.py", "-y", "--limit", NODE)


def test_no_program_on_the_share_is_one(node: Node) -> None:
    options = node.exec("findmnt -no VFS-OPTIONS --mountpoint /var/log").split(",")
    assert {"nosuid", "nodev", "noexec"} <= {*options}
    node.plant({"program": "setuid program"})
    said = node.exec("setpriv --reuid=65534 --clear-groups /var/log/program 2>&1 || true")
    assert "Permission denied" in said
    # kubelet's links to its pods' logs are followed
    node.exec(f"cd /var/log && ln -s {OUTSIDE} followed && test -d followed/folder && rm followed")


def test_a_share_that_lacks_its_flags_gets_them_where_it_is(node: Node) -> None:
    """Check it on a share that an older version mounted. Its writers go on."""
    node.exec(
        "mount -i -o remount,bind,suid,dev,exec /var/log; "
        "systemd-run -q --unit writer "
        "sh -c 'exec >/var/log/writer; while :; do echo x; sleep 0.1; done'"
    )
    one = ("chaos_engine.deploys.log_mount", "--limit", NODE)
    expected = {NODE: {"Log share | Mount the log share"}}
    assert node.cluster.announced(*one) == expected
    assert node.cluster.changed(*one) == expected
    assert node.cluster.announced(*one) == {}
    options = node.exec("findmnt -no VFS-OPTIONS --mountpoint /var/log").split(",")
    assert {"nosuid", "nodev", "noexec"} <= {*options}
    before = node.exec("stat -c %s /var/log/writer")
    wait_for("a writer that goes on", lambda: node.exec("stat -c %s /var/log/writer") != before, 5)
    node.exec("systemctl stop writer; rm /var/log/writer; systemctl stop var-log-check.timer")


@pytest.fixture
def other_graph(node: Node) -> Iterator[None]:
    """Have all servers send a graph with one more volume: an empty folder of the client."""
    sent = f"/var/lib/glusterd/vols/{NODE}/{NODE}.tcp-fuse.vol"
    marker = r"volume marker\n    type storage/posix\n    option directory /srv/empty\nend-volume\n"
    for server in SERVERS:
        node.cluster.exec(
            server, f"cp {sent} /root/volfile; {{ printf '{marker}'; cat /root/volfile; }} >{sent}"
        )
    node.exec("mkdir /srv/empty")
    yield
    node.exec("rm -r /srv/empty")
    for server in SERVERS:
        node.cluster.exec(server, f"cat /root/volfile >{sent}; rm /root/volfile")
    node.exec("var-log-mount start")


def test_a_graph_that_no_client_has_is_not_taken(node: Node, other_graph: None) -> None:
    """Check that a mounted share keeps its graph, and a new mount is refused."""
    graph = node.exec("ls /var/log/.meta/graphs/active")
    assert "marker" not in graph
    said = node.exec("var-log-mount renew 2>&1 || true")
    assert "the type storage/posix, which a log share may not have" in said
    assert node.exec("ls /var/log/.meta/graphs/active") == graph
    source = node.exec("findmnt -no SOURCE --mountpoint /var/log")
    assert source.startswith("checked@")

    said = node.exec("systemctl restart var-log 2>&1 || true; cat /run/chaos-engine/var-log.reason")
    assert "line 2 of the volfile of etcd1 has the type storage/posix" in said
    assert node.exec("findmnt -no SOURCE --mountpoint /var/log") == "var-log-in-ram"
    run = node.pyinfra("chaos_engine.deploys.log_mount", "-y")
    assert "the type storage/posix, which a log share may not have" in run
    assert node.exec("ls -A /srv/empty") == ""


def test_a_volume_that_people_change_is_followed_without_a_new_mount(node: Node) -> None:
    if SUITE.gluster.startswith("10"):
        pytest.skip("Gluster 10 reads its file when it mounts")
    client = "pgrep -x glusterfs"
    option = f"gluster --mode=script volume set {NODE} performance.quick-read"
    graph = "ls /var/log/.meta/graphs/active"
    before = node.exec(client)
    for value, there in (("off", False), ("on", True)):
        node.cluster.exec(HOSTILE, f"{option} {value}")
        node.exec("var-log-mount renew")
        wait_for(
            f"quick-read {value}",
            lambda there=there: (f"{NODE}-quick-read" in node.exec(graph)) == there,  # type: ignore[misc]
            10,
        )
    assert node.exec(client) == before


@pytest.mark.parametrize("name", ROUNDS)
def test_what_others_put_there_leads_nowhere(node: Node, name: str) -> None:
    before = node.outside()
    node.plant(ROUNDS[name])
    node.work()
    assert node.outside() == before
    assert node.shown() == []
    node.own()
    if not FIXED_BY_PEOPLE & {*ROUNDS[name].items()}:
        assert node.copied()
    else:
        assert "cannot be written" in node.said[-1]


def test_a_folder_where_the_copy_belongs_is_told_of_and_harms_nothing(node: Node) -> None:
    node.plant({CONFIG: "full folder"})
    node.hostile(f"rm -rf {STAGED}")
    run = node.cluster.pyinfra(HAPROXY, "-y", "--limit", NODE)
    assert f"/var/log/{CONFIG} is a folder" in run.text
    assert "move the folder away and run again" in run.text
    assert node.cluster.announced(HAPROXY, "--limit", NODE) == {}
    node.hostile(f"rm -rf {CONFIG}")
    assert node.cluster.changed(HAPROXY, "--limit", NODE) == {NODE: {f"HAProxy | {COPY}"}}
    assert node.copied()


def test_undo_leads_nowhere(node: Node) -> None:
    before = node.outside()
    node.undo()  # so long does it take
    node.pyinfra(HAPROXY, "-y")
    for name in ("files", "things that hold who opens them"):
        node.plant(ROUNDS[name])
        node.undo()
        assert "Success" in node.said[-1]
        assert node.exec("grep -c ^haproxy /var/lib/chaos-engine/manifest || true") == "0"
        node.pyinfra(HAPROXY, "-y")
    assert node.outside() == before
    assert node.shown() == []


RACES = {
    "a folder and a link": (
        f"rm -rf {FOLDER}",
        f"ln -s {OUTSIDE}/folder {FOLDER}",
        f"rm -f {FOLDER}",
        f"mkdir {FOLDER}",
    ),
    "a file, a link and a FIFO": (
        f"ln -s {OUTSIDE}/file {CONFIG}",
        f"rm -f {CONFIG}",
        f"mkfifo {CONFIG}",
        f"rm -f {CONFIG} {STAGED}",
        f"ln -s {OUTSIDE}/folder/new {STAGED}",
    ),
    "what is furnished": (
        f"ln -s {OUTSIDE}/folder private; ln -s {OUTSIDE}/file README",
        "rm -rf private README",
    ),
}
"""What is exchanged over and over while root is at work."""


def test_what_is_exchanged_in_mid_run_leads_nowhere(node: Node) -> None:
    before = node.outside()
    for number, race in enumerate(RACES.values()):
        # no faster, for Gluster itself gets confused then
        steps = "; sleep 0.02; ".join(race)
        loop = f"cd {SHARE}; while :; do {steps}; done 2>/dev/null"
        node.cluster.exec(HOSTILE, f"systemd-run -q --unit race-{number} sh -c {shlex.quote(loop)}")
    try:
        node.work()
        node.undo()
        node.timed("deploy again", lambda: node.pyinfra(HAPROXY, "-y"))
    finally:
        node.cluster.exec(HOSTILE, "systemctl stop 'race-*'")
        clear = f"cd {SHARE} && rm -rf {FOLDER} private README && echo done || true"
        wait_for("the share", lambda: node.cluster.exec(HOSTILE, clear) == "done", 60)
    assert node.outside() == before
    assert node.shown() == []
    node.own()


def test_the_proxy_does_its_work_and_nothing_is_left_to_do(node: Node) -> None:
    node.cluster.pyinfra("deploy.py", "-y", "--limit", NODE)
    assert node.copied()
    assert node.cluster.announced("deploy.py", "--limit", NODE) == {}
    for look in seen.PROXY_CONCERNS.values():
        look(node.cluster, NODE, node.cluster.host(NODE))
    mounted = node.exec("findmnt -rno FSTYPE,VFS-OPTIONS --mountpoint /var/log")
    assert mounted == "fuse.glusterfs rw,nosuid,nodev,noexec,relatime"


def test_a_configuration_that_is_not_the_deploys_is_not_run(node: Node) -> None:
    """Check that for a change on the node's own disk, whoever made it."""
    own = "/var/lib/chaos-engine/haproxy/haproxy.cfg"
    began = node.exec("docker inspect -f '{{.State.StartedAt}}' lb-haproxy")
    node.exec(f"sed -i s/maxconn/nomaxconn/ {own}")
    said = node.exec("haproxy_start.sh reload 2>&1 || true")
    assert f"{own} is not as the last deploy wrote it" in said
    assert began == node.exec("docker inspect -f '{{.State.StartedAt}}' lb-haproxy")
    node.exec("systemctl restart docker_haproxy || true")
    state = "systemctl show -p ActiveState --value docker_haproxy"
    wait_for("the end of it", lambda: node.exec(state) == "failed", 10)
    changed = node.cluster.changed("deploy.py", "--limit", NODE)
    assert {name.split(" | ")[-1] for name in changed[NODE]} == {"Run HAProxy"}
    for look in seen.PROXY_CONCERNS.values():
        look(node.cluster, NODE, node.cluster.host(NODE))


def test_there_are_enough_of_them() -> None:
    planted = {(path, what) for things in ROUNDS.values() for path, what in things.items()}
    assert {what for _, what in planted} | {"folder", "full folder"} >= {*OBJECTS} - {"folder"}
    assert len(planted) + len(RACES) >= 25
