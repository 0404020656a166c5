"""Cut the power of nodes again and again, and check them after each cut.

A life begins with a fresh node. In each step a power cut ends a run, and loses what is not on the
card yet. Then the node has to boot, to answer ssh and to have only whole files. The same run again
has to succeed and to leave nothing behind, and the run after it has nothing to do. After an undo
the node has to be as it was when it was fresh.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from chaos_engine.facts.container_output import CONFIG as OUTPUT
from chaos_engine.facts.container_output import UNIT as OUTPUT_UNIT
from chaos_engine.facts.container_output import UNIT_FILE as OUTPUT_UNIT_FILE
from chaos_engine.operations.container_output import NAMES as OUTPUT_NAMES
from chaos_engine.operations.quiet import APT_CONF, MAN_TRIGGER, TIMESYNCD_CONF
from tests.cluster import operations, spared_card
from tests.cluster.interrupted_deploy import make_fresh
from tests.cluster.node_state import AFTER_UNDO, LEFTOVERS, State, differences, take
from tests.cluster.powercut import (
    HasRun,
    Operation,
    Over,
    Point,
    Rebooting,
    Replaced,
    Runs,
    cut_short,
)
from tests.cluster.virtual_cluster import Cluster, wait_for
from tests.lab.errors import LabError

DEPLOY, UNDO = "deploy.py", "chaos_engine.deploys.undo"
MANIFEST = "/var/lib/chaos-engine/manifest"


def _unpacks(package: str, seconds: float = 0) -> Runs:
    # apt may put a number before the name
    return Runs(rf"dpkg-deb .*--fsys-tarfile .*[/-]{package}_", seconds)


def _data(**settings: str) -> tuple[str, ...]:
    return tuple(w for key, value in settings.items() for w in ("--data", f"chaos_{key}={value}"))


@dataclass(frozen=True)
class Step:
    """A run, and the points at which it may be cut."""

    name: str
    points: tuple[Point, ...]
    entry: str = DEPLOY
    data: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    """Operations that take long: the run may also be cut at any time in them."""
    chatty: bool = False
    """Whether a container that writes much runs when the power is cut. No package changes then, so
    no file may be empty after the cut."""
    undoes: str = ""
    """The concerns that are undone; "" for all. Used for an undo only."""

    @property
    def command(self) -> tuple[str, ...]:
        return self.entry, *self.data

    @property
    def is_undo(self) -> bool:
        return self.entry == UNDO

    @property
    def undoes_all(self) -> bool:
        return self.is_undo and not self.undoes


_SLOW = (operations.GLUSTER, operations.DOCKER, operations.PACKAGES, operations.KUBERNETES)
"""Operations that take most of the time of a first deploy, so most real power cuts hit them."""

_ANY_TIME = 0.3
"""Probability that a cut comes at any time of such an operation, and not at a point."""

_DPKG = (
    _unpacks("glusterfs-client"),
    _unpacks("glusterfs-common", 0.3),
    _unpacks("docker.io", 0.5),
    _unpacks("containerd", 0.3),
    _unpacks("kubelet"),
    Runs("dpkg .*--configure .*", 0.4),
    Runs("dpkg .*--unpack .*", 1.0),
)

FIRST = Step(
    "first deploy",
    (
        *_DPKG,
        Runs("apt-get .* update", 0.1),
        HasRun("apt-get .* update"),
        HasRun("apt-get .* install .*glusterfs-client", 1.0),
        HasRun("apt-get .* install .*docker.io", 3.0),
        HasRun("apt-get .* install .*kubelet", 0.5),
        Runs("apt-get .* remove ", 0.5),
        HasRun("apt-get .* remove "),
        Replaced("/etc/hosts"),
        Replaced("/etc/fstab"),
        Replaced("/etc/docker/daemon.json"),
        Replaced("/usr/local/bin/cri-dockerd"),
        Replaced("/etc/kubernetes/client.key"),
        Replaced("/boot/firmware/cmdline.txt"),
        Runs("^sync "),
        Runs("^mv "),
        Runs("^apt-mark hold"),
        Over(),
    ),
    operations=_SLOW,
)
AGAIN = Step(
    "deploy after undo",
    (*_DPKG, HasRun("apt-get .* install .*docker.io"), Replaced("/etc/fstab"), Over(2.0)),
    operations=_SLOW,
)
CHANGE = Step(
    "change of Docker, journal and logs",
    (
        Replaced("/etc/docker/daemon.json"),
        Replaced("/etc/systemd/journald.conf.d/90-chaos-engine.conf"),
        Replaced("/etc/rsyslog.d/10-all.conf"),
        Replaced("/etc/systemd/timesyncd.conf.d/90-chaos-engine-servers.conf"),
        Runs("systemctl .*restart.*docker"),
        Runs("systemctl .*restart.*journald"),
        Runs("^sync "),
        Runs("^mv "),
        Operation(operations.DOCKER, 0.5),
        Over(),
    ),
    data=_data(
        docker_log_max_size="20m",
        journald_max_use="32M",
        ntp_servers='["192.168.1.1"]',
        clock_wait="60",
        log_protocol="tcp",
        etcd_certificates_hosts="controllers",
    ),
)
VERSION = Step(
    "change of Kubernetes' version and of cri-dockerd's",
    (
        _unpacks("kubelet"),
        _unpacks("kubeadm"),
        Runs("dpkg .*--configure .*kube"),
        HasRun("apt-get .* install .*kubelet"),
        HasRun("apt-get .* install .*kubelet", 2.0),
        Replaced("/usr/local/bin/cri-dockerd"),
        Operation(operations.KUBERNETES, 1.0),
        Runs("^apt-mark hold"),
        Over(),
    ),
    data=_data(kubernetes_version="1.28.14", cri_dockerd_version="0.3.25"),
)
BACK = Step(
    "change back",
    (
        _unpacks("kubelet"),
        HasRun("apt-get .* install .*kubelet", 1.0),
        Replaced("/usr/local/bin/cri-dockerd"),
        Operation(operations.CRI_DOCKERD, 0.5),
        Operation(operations.KUBERNETES, 1.5),
        Over(),
    ),
)
REBOOT = Step(
    "reboot",
    (
        Rebooting("down"),
        Rebooting("up"),
        Rebooting("up", 0.5),
        Rebooting("up", 1.5),
        Runs("systemctl.* reboot"),
        Replaced("/boot/firmware/cmdline.txt"),
        Replaced("/boot/firmware/cmdline.txt.chaos-engine.bak"),
    ),
    data=_data(
        kernel_words='["cgroup_enable=cpuset","cgroup_memory=1","cgroup_enable=memory","chaos.cut=1"]'
    ),
)
IMAGE = Step(
    "another image of HAProxy",
    (
        Runs("^docker pull", 0.1),
        Runs("^docker pull", 0.4),
        HasRun("^docker pull"),
        HasRun("^docker pull", 0.7),
        Replaced("/usr/sbin/haproxy_start.sh"),
        Operation(operations.HAPROXY, 0.5),
        Over(),
    ),
    data=_data(haproxy_image="haproxy:2.6"),
)
CONTROLLERS = Step(
    "change of HAProxy's controllers",
    (
        Replaced("/var/lib/chaos-engine/haproxy/haproxy.cfg"),
        Operation(operations.HAPROXY, 0.2),
        Operation(operations.HAPROXY, 0.8),
        Runs("docker .*(kill|exec)"),
        Over(),
    ),
    data=_data(controllers='["pi1","pi4"]'),
)
PULLS = Step(
    "first deploy of the proxy",
    (
        HasRun("^docker pull"),
        Runs("^docker pull", 0.3),
        Operation(operations.NETWORK, 0.3),
        Operation(operations.HAPROXY, 0.5),
        Replaced("/etc/systemd/system/docker_haproxy.service"),
        _unpacks("docker.io"),
        Over(),
    ),
)
BEGIN_UNDO = Step(
    "undo",
    (
        Runs("dpkg .*--(remove|purge)", 0.2),
        Runs("dpkg .*--(remove|purge)", 1.5),
        _unpacks("snapd"),
        _unpacks("snapd", 1.0),
        _unpacks("cloud-init"),
        Runs("dpkg .*--configure ", 0.5),
        Replaced("/boot/firmware/cmdline.txt"),
        Replaced("/etc/fstab"),
        Replaced("/etc/hosts"),
        Replaced(MANIFEST),
        HasRun("apt-get .* install "),
        HasRun("apt-get .* install ", 2.0),
        Operation("Undo Docker", 1.0),
        Operation("Undo Kubernetes", 0.5),
        Operation("Undo Logs"),
        Operation("Remove what was kept"),
        Over(),
    ),
    entry=UNDO,
    operations=("Undo Docker", "Undo Kubernetes", "Undo Packages", "Undo Log share"),
)

_SYSCTL = "/etc/sysctl.d/99-container-logs.conf"
_MOUNT = "Mount the disk of Docker's data with options that reduce writes"
_REMOUNT = "^mount -o remount,"
_ELSEWHERE = "/srv/docker"
_SPARED = {
    **spared_card.SETTINGS,
    "quiet_apt_timers": "off",
    "quiet_apt_cache": "true",
    "quiet_man_db": "true",
    "quiet_clock": "true",
    "quiet_coredumps": "true",
    "docker_log_max_size": "64k",
    "docker_log_max_file": "3",
    "log_containers": "true",
    "log_protocol": "tcp",
}
SPARE = Step(
    "card spared of container logs and other writers",
    (
        Replaced("/etc/fstab"),
        Replaced("/etc/fstab", 0.1),
        Replaced("/etc/docker/daemon.json"),
        Replaced(_SYSCTL),
        Replaced(OUTPUT),
        Replaced(APT_CONF),
        Replaced(MAN_TRIGGER),
        Replaced(MANIFEST),
        Runs(_REMOUNT),
        HasRun(_REMOUNT),
        Runs("systemctl .*restart.*docker"),
        Runs("systemctl .*disable.*timer"),
        Operation(operations.DOCKER, 1.0),
        Operation(_MOUNT, 0.1),
        Operation("Write data later", 0.1),
        Operation("Quieten other writers", 0.3),
        Over(),
    ),
    data=_data(**_SPARED),
    chatty=True,
)
ELSEWHERE = Step(
    "Docker's data elsewhere",
    (
        Replaced("/etc/docker/daemon.json"),
        Replaced("/etc/systemd/system/docker.service.d/60-chaos-engine-data-root.conf"),
        Runs("systemctl .*restart.*docker"),
        Runs("^/usr/sbin/dockerd", 0.3),
        Operation(operations.DOCKER, 1.0),
        Over(),
    ),
    data=_data(**_SPARED, docker_data_root=_ELSEWHERE),
    chatty=True,
)
HOME = replace(
    ELSEWHERE,
    name="Docker's data back",
    points=(*ELSEWHERE.points, Replaced(OUTPUT)),
    data=_data(**_SPARED, docker_data_root="/var/lib/docker"),
)
UNSPARE = Step(
    "undo of container logs and quiet",
    (
        Replaced("/etc/fstab"),
        Replaced("/etc/fstab", 0.1),
        Replaced(_SYSCTL),
        Replaced(APT_CONF),
        Replaced(TIMESYNCD_CONF),
        Replaced(MANIFEST),
        Replaced(MANIFEST, 0.5),
        Runs(_REMOUNT),
        HasRun(_REMOUNT),
        Runs("systemctl .*daemon-reload"),
        Runs("systemctl .*enable.*timer"),
        Operation("Undo Container logs"),
        Operation("Undo Container logs", 0.1),
        Operation("Undo Other writers", 0.3),
        Over(),
    ),
    entry=UNDO,
    data=_data(undo="container_logs,quiet"),
    chatty=True,
    undoes="container_logs,quiet",
)
KEPT = Step(
    "container output kept on the node again",
    (
        Replaced(OUTPUT),
        Replaced(OUTPUT_UNIT_FILE),
        Replaced("/etc/docker/daemon.json"),
        Runs("systemctl .*restart.*docker"),
        Operation(operations.DOCKER, 1.0),
        Over(),
    ),
    chatty=True,
)
UNDO_SPARED = replace(
    BEGIN_UNDO,
    name="undo of all, with the card spared",
    points=(
        Replaced("/etc/fstab"),
        Replaced("/etc/docker/daemon.json"),
        Replaced(_SYSCTL),
        Replaced(OUTPUT_UNIT_FILE),
        Replaced(MANIFEST),
        Runs(_REMOUNT),
        Runs("dpkg .*--(remove|purge)", 0.5),
        _unpacks("snapd"),
        Operation("Undo Container logs", 0.1),
        Operation("Undo Docker", 1.0),
        Operation("Undo Logs", 0.3),
        Over(),
    ),
    operations=(),
)

WORKER = (FIRST, CHANGE, VERSION, BACK, REBOOT, BEGIN_UNDO, AGAIN, BEGIN_UNDO)
PROXY = (PULLS, IMAGE, CONTROLLERS, BACK, REBOOT, BEGIN_UNDO, PULLS, BEGIN_UNDO)
"""The steps of the proxy's life, in order; `WORKER` has those of a worker."""
SPARED = (FIRST, SPARE, UNSPARE, KEPT, SPARE, ELSEWHERE, HOME, VERSION, UNDO_SPARED)
"""The steps of a worker whose card is spared."""


@dataclass(frozen=True)
class Cut:
    """A step, and the point at which it is cut."""

    step: Step
    point: Point


def choose(seed: str, lives: Mapping[str, Sequence[Step]]) -> dict[str, list[Cut]]:
    """Choose a point for each step of each node. No point comes again before all others came."""
    dice = random.Random(seed)
    left: dict[str, list[Point]] = {}
    chosen: dict[str, list[Cut]] = {node: [] for node in lives}
    for node, steps in lives.items():
        for step in steps:
            points = left.setdefault(step.name, [])
            if not points:
                points += dice.sample(step.points, len(step.points))
            point = points.pop()
            if step.operations and dice.random() < _ANY_TIME:
                point = Operation(dice.choice(step.operations), 2)
            seconds = round(dice.uniform(0, 2 * point.seconds), 2)
            chosen[node].append(Cut(step, replace(point, seconds=seconds)))
    return chosen


_OURS = f"""
cut -f 2,4 {MANIFEST} 2>/dev/null | sed -n 's/^file\\t//p; s/^wrote\\t[0-9a-f]* //p' |
  grep -v '^/var/log/'
find /var/lib/chaos-engine/*/ /boot/firmware -type f \\
  ! -name '*.new' ! -name '*.chaos' ! -name '*.chaos-old' \\
  ! -path '*/stage.*' ! -path '*/packages/new.*' 2>/dev/null || :
"""
"""Lists files on the node's card that this package wrote, by the node's manifest."""
_SUMS = (
    "find /etc /usr/local /usr/sbin/haproxy_start.sh /boot/firmware /var/lib/chaos-engine "
    "-type f -exec sha256sum {} + 2>/dev/null | sed -E 's/^(.{64}) .(.*)/\\2\\t\\1/' || :"
)
"""Lists the checksums of all files in the folders that this package writes to."""
_AUDIT = (
    "dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | "
    "grep -vE '^([ihr][ic]|[a-z]n) ' || :"
)
_STAYS = (
    re.escape(_ELSEWHERE),
    r"/etc/docker/daemon\.json$",
    "/etc/systemd/system/docker.service.d/60-chaos-engine-data-root",
    re.escape(OUTPUT),
    re.escape(OUTPUT_NAMES),
    rf"/etc/systemd/system/(.*/)?{re.escape(OUTPUT_UNIT)}",
    "/etc/rsyslog.d/10-all.conf$",
    "/var/lib/chaos-engine/",
)
"""Paths that `UNSPARE` leaves, because they belong to other concerns that `SPARE` changes."""
_MAY_BE_EMPTY = re.compile(
    # What containers print, and what Docker writes anew when it starts them
    rf"({_ELSEWHERE}|/var/lib/docker)/containers/|"
    # These are marks, which have no content
    rf"/var/lib/chaos-engine/unfinished\.[a-z_]+$|(/var/lib/chaos-engine/originals)?{MAN_TRIGGER}$"
)
_BOOTED = "systemctl is-system-running --wait || true"
_VERIFY = "dpkg --verify || :"
_GONE = ("/etc/apparmor.d/disable",)
"""Paths of other packages that docker.io removes when it is purged."""
_EMPTY_FILES = (
    "find / /boot/firmware -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /dev "
    "-o -path /var/lib/systemd \\) -prune -o -type f -empty -print"
)
_UNITS = """
for unit in $(systemctl list-units --plain --no-legend --failed | cut -d ' ' -f 1); do
  echo "$unit has failed"; journalctl -q -b -u "$unit" -n 5 -o cat
done
systemctl list-jobs --no-legend
"""


@dataclass
class Life:
    """A node that goes through its steps. `problems` has a text for each cut it did not survive."""

    cluster: Cluster
    node: str
    suite: str
    seed: str
    problems: list[str] = field(default_factory=list)
    cuts: int = 0
    _fresh: State = field(default_factory=dict)
    _verified: frozenset[str] = frozenset()
    _empty: frozenset[str] = frozenset()
    _look: dict[str, str] = field(default_factory=dict)
    _unspared: dict[str, str] = field(default_factory=dict)
    """The checksums of files before the card was spared."""

    def live(self, cuts: Iterable[Cut]) -> None:
        """Go through all cuts. Make the node fresh after a cut that it did not survive."""
        self._begin()
        deployed = False
        for cut in cuts:
            if not deployed and cut.step.name not in (FIRST.name, PULLS.name, AGAIN.name):
                self._deploy()
            survived = self._survives(cut)
            deployed = survived and not cut.step.undoes_all
            if not survived:
                self._begin()

    def _begin(self) -> None:
        """Make the node fresh, and take its state."""
        make_fresh(self.cluster, self.node)
        # Every real node has it. Docker would install it, and Debian does not let it be removed
        self._exec("apt-get -q update && apt-get install -q -y --no-install-recommends e2fsprogs")
        self._unspared = {}
        self._exec(spared_card.ADD)
        self._fresh = self._settled()
        spared_card.ready_kernel(self.cluster, self.node)
        self._look = spared_card.look(self.cluster, self.node)
        self._verified = frozenset(self._exec(_VERIFY).splitlines())
        self._empty = frozenset(self._exec(_EMPTY_FILES).splitlines())
        self._exec("sync -f / /boot/firmware")

    def _deploy(self) -> None:
        run = self._run(FIRST.command)
        assert not run, f"{self.node}: a first deploy without a cut fails:\n{run}"

    def _settled(self) -> State:
        """Return the node's state after its boot, when snapd, which has no snaps, has ended too."""
        self._exec(_BOOTED)
        snapd = "systemctl is-active snapd.service || true"
        wait_for("snapd to end", lambda: self._exec(snapd) == "inactive", 90)
        return take(self.cluster, self.node)

    def _exec(self, command: str) -> str:
        return self.cluster.exec(self.node, command)

    def _run(self, command: Sequence[str]) -> str:
        """Run pyinfra to its end. Return its output if it failed, else ""."""
        run = self.cluster.pyinfra("-y", *command, "--limit", self.node, ok=False)
        return run.text if run.status else ""

    def _survives(self, cut: Cut) -> bool:
        """Cut the node's power at the point, and check the node. Tell whether it survived."""
        begin = time.monotonic()
        problems: list[str] = []
        reached = False
        try:
            spared_card.ready_kernel(self.cluster, self.node)
            root = spared_card.start_chatty(self.cluster, self.node) if cut.step.chatty else ""
            empty = self._empty_files()
            before, ours = self._files()
            if cut.step is SPARE:
                self._unspared = before
            reached = cut_short(self.cluster, self.node, cut.point, *cut.step.command)
            self.cluster.power(self.node, "on")
            login = self.cluster.run("ssh", self.node, _BOOTED, ok=False)
            if login.status:
                problems.append(f"ssh after the cut: {login.text}")
            spared_card.ready_kernel(self.cluster, self.node)
            if cut.step.chatty:
                problems += spared_card.problems_after_boot(self.cluster, self.node, root)
                problems += [f"{path} is EMPTY" for path in self._empty_files() - empty]
            self._recover(cut, before, ours, problems)
        except (AssertionError, LabError, OSError, subprocess.TimeoutExpired) as error:
            problems.append(f"then: {error}")
        self.cuts += 1
        where = "" if reached else " (not reached: cut at the end of the run)"
        print(
            f"{self.suite} {self.node}: {time.monotonic() - begin:5.1f} s "
            f"{'FAILED' if problems else 'ok'}  {cut.step.name}: {cut.point}{where}",
            *problems,
            sep="\n",
            flush=True,
        )
        if problems:
            self.problems.append(
                f"seed {self.seed}, {self.suite}, {self.node}, cut {self.cuts}, "
                f"{cut.step.name}: {cut.point}{where}\n" + "\n".join(problems)
            )
        return not problems

    def _recover(
        self, cut: Cut, before: Mapping[str, str], ours: set[str], problems: list[str]
    ) -> None:
        """Run pyinfra twice on the node, which is on again, and add to PROBLEMS what is wrong."""
        after, noted = self._files()
        failed = self._run(cut.step.command)
        if failed:
            problems.append(f"the run after the cut fails: {_error_lines(failed)}")
            problems += self._evidence()
        end, more = self._files()
        ours |= noted | more
        problems += broken(ours, before, after, end)
        if failed:
            return
        for what, found in (
            ("left over", self._exec(LEFTOVERS)),
            ("dpkg --audit", self._exec(_AUDIT)),
            ("dpkg --verify", "\n".join(self._damaged(ours))),
        ):
            if found:
                problems.append(f"{what}, after the run that ended well: {_first_lines(found)}")
        changed = self.cluster.changed(*cut.step.command, "--limit", self.node)
        if changed:
            problems.append(f"the run after that changes {changed}")
        if not cut.step.is_undo:
            problems += self._proxy(cut)
        else:
            problems += self._not_restored(cut.step, end)
        if cut.step.undoes_all:
            problems += self._undone()

    def _evidence(self) -> list[str]:
        """Return what may explain why a node does not converge."""
        empty = [f for f in self._exec(_EMPTY_FILES).splitlines() if f not in self._empty]
        found = {
            "packages that are not well": self._exec(_AUDIT),
            "empty files that a fresh node has not": "\n".join(empty),
            "damaged files of packages": "\n".join(self._damaged(set())),
            "units": self._exec(_UNITS),
        }
        return [f"{what}: {_first_lines(lines)}" for what, lines in found.items() if lines]

    def _files(self) -> tuple[dict[str, str], set[str]]:
        """Return the checksums of files by path, and the paths that this package wrote."""
        lines = self._exec(_SUMS).splitlines()
        return dict(line.split("\t", 1) for line in lines), set(self._exec(_OURS).splitlines())

    def _damaged(self, ours: set[str]) -> list[str]:
        """List files that dpkg finds changed since the node was fresh, but for those of OURS."""
        expected = tuple(f" {path}" for path in (*ours, *_GONE))
        lines = self._exec(_VERIFY).splitlines()
        return [
            one
            for one in lines
            if one not in self._verified
            and not one.endswith(expected)
            # New packages come without them
            and not re.fullmatch("missing +/usr/share/doc/[^/]+/changelog[^/]*", one)
        ]

    def _proxy(self, cut: Cut) -> list[str]:
        """Return the problems of HAProxy, if the node is the proxy."""
        if self._exec(f"grep -q '^haproxy' {MANIFEST} || echo no"):
            return []
        wanted = "2.6" if cut.step is IMAGE else "3.0"

        def runs() -> bool:
            version = self._exec("docker exec lb-haproxy haproxy -v")
            assert f"version {wanted}" in version, version
            return True

        try:
            wait_for("HAProxy", runs, 30)
        except AssertionError as error:
            log = self._exec("docker logs --tail 5 lb-haproxy 2>&1 || :")
            return [f"{error}; its log: {log}"]
        return []

    def _empty_files(self) -> set[str]:
        """Return the paths of all empty files, but for those that may be empty."""
        paths = self._exec(_EMPTY_FILES).splitlines()
        return {path for path in paths if not _MAY_BE_EMPTY.match(path)}

    def _not_restored(self, step: Step, end: Mapping[str, str]) -> list[str]:
        """Return how mounts, the kernel and timers differ from the fresh node, after an undo.

        After an undo of some concerns, also return which files differ from before them.

        + end: checksums of the files now, by path
        """
        now = spared_card.look(self.cluster, self.node)
        wrong = [
            f"{name} is {now.get(name)} after undo, and was {was}"
            for name, was in self._look.items()
            if now.get(name) != was
        ]
        if step.undoes and self._unspared:
            wrong += [
                f"{path} is not as it was before: {_content(end.get(path, ''))}"
                for path in sorted({*self._unspared, *end})
                if self._unspared.get(path) != end.get(path)
                and not any(re.match(one, path) for one in _STAYS)
            ]
        return wrong

    def _undone(self) -> list[str]:
        """Reboot the node after an undo, and return how it differs from the fresh node."""
        self.cluster.power(self.node, "cycle")
        known = (*AFTER_UNDO[self.suite], rf"(files|contents) {_ELSEWHERE}(/|:)")
        left = differences(self._fresh, self._settled(), known)
        return [f"not as it was, after undo: {_first_lines(chr(10).join(left))}"] if left else []


def broken(
    paths: Iterable[str],
    before: Mapping[str, str],
    after: Mapping[str, str],
    end: Mapping[str, str],
) -> list[str]:
    """Name the files that are neither as before the cut run nor as after the run that ended."""
    return [
        f"{path} is {_content(after.get(path, ''))} after the cut; it was "
        f"{_content(before.get(path, ''))}, and is to be {_content(end.get(path, ''))}"
        for path in sorted(paths)
        if after.get(path, "") not in (before.get(path, ""), end.get(path, ""))
    ]


_LINES = 20
_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _content(sha256: str) -> str:
    return {"": "absent", _EMPTY: "EMPTY"}.get(sha256, sha256[:8])


def _first_lines(text: str) -> str:
    lines = text.splitlines()
    more = [f"... and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return "\n    ".join([*lines[:_LINES], *more])


def _error_lines(output: str) -> str:
    """Return the lines of a run's output that tell of its failure."""
    lines = [
        line
        for line in output.splitlines()
        if re.search(r"Error|error|E: |fail|again|refus|empty|missing|not ", line)
        and "No change" not in line
    ]
    return "\n    ".join(lines[-25:] or output.splitlines()[-25:])


def live_at_once(lives: Mapping[str, Life], cuts: Mapping[str, Sequence[Cut]]) -> list[str]:
    """Let all nodes live at the same time. Return the problems of all."""
    with ThreadPoolExecutor(len(lives)) as pool:
        futures = [pool.submit(life.live, cuts[node]) for node, life in lives.items()]
        for node, future in zip(lives, futures, strict=True):
            error = future.exception()
            if error is not None:
                lives[node].problems.append(f"{node}: the life ended early: {error!r}")
    return [problem for life in lives.values() for problem in life.problems]
