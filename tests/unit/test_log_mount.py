"""Test /var/log on the log share: which share, decisions, and the helper, run by a shell."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.deploys.log_mount import PORTS, LogMountSettings, export_of, volume_of
from chaos_engine.facts.log_mount import LogShare, LogShares
from chaos_engine.facts.mounts import Answer, Mount
from chaos_engine.facts.share import FLAGS, NFS, PATTERN, TARGET, UNCONFINED, confined, uppermost
from chaos_engine.operations.files import Plan, Unit
from chaos_engine.operations.log_mount import (
    CHECKED,
    SHARE,
    UNDO,
    has_unchecked_graph,
    kibibytes,
    missing_flags,
    mount_conflict,
    share_problem,
    with_remount,
)
from chaos_engine.templates import render
from tests.unit.asking import systemctl, value_in

VOLFILES = Path(__file__).parent / "volfiles"
"""What glusterd of a version sends for volumes of several kinds: recordings from the lab."""

NODES = {f"pi{n}": IPv4Address(f"192.168.1.{49 + n}") for n in range(1, 11)}
SERVERS = {f"etcd{n}": IPv4Address(f"192.168.1.{39 + n}") for n in range(1, 4)}


def settings(**values: Any) -> LogMountSettings:
    return LogMountSettings(**{"nodes": NODES, "storage_servers": SERVERS, **values})


def test_each_node_asks_another_server_first() -> None:
    shares = [volume_of(settings(), name) for name in NODES]
    assert [share.volume for share in shares] == list(NODES)
    assert [share.servers[0] for share in shares[:4]] == ["etcd1", "etcd2", "etcd3", "etcd1"]
    assert shares[1].servers == ("etcd2", "etcd3", "etcd1")


def test_a_table_decides_alone() -> None:
    table = {"pi2": {"volume": "logs_pi2", "servers": ["etcd3"]}}
    share = volume_of(settings(log_volumes=table), "pi2")
    assert (share.volume, share.servers) == ("logs_pi2", ("etcd3",))


def mounted(source: str, fstype: str = "fuse.glusterfs") -> Mount:
    return Mount("/var/log", source, fstype, ("rw",), ("rw",), "/", "0:52", 2, 1)


IN_RAM = mounted("var-log-in-ram", "tmpfs")
NOTHING = LogShare((), "")


@pytest.mark.parametrize("there", [None, IN_RAM, mounted("etcd1:/pi1"), mounted("etcd1:/pi2")])
def test_what_is_ours_may_be_mounted_anew(there: Mount | None) -> None:
    assert mount_conflict(there, NOTHING) == ""


@pytest.mark.parametrize(
    ("there", "share", "message"),
    [
        (mounted("log2ram", "tmpfs"), NOTHING, "log2ram (tmpfs) is mounted on /var/log; unmount"),
        (mounted("/dev/sda1", "ext4"), NOTHING, "/dev/sda1 (ext4) is mounted on /var/log; unmount"),
        (None, LogShare((), "", "/mnt/usb/log"), "is a symbolic link to /mnt/usb/log, but"),
        (None, LogShare(("line 7 of /etc/fstab",), ""), "line 7 of /etc/fstab would mount"),
    ],
)
def test_what_others_mount_there_refuses_the_node(
    there: Mount | None, share: LogShare, message: str
) -> None:
    assert message in mount_conflict(there, share)


@pytest.mark.parametrize(
    ("there", "answer", "message"),
    [
        (mounted("etcd1:/pi1"), "answers", ""),
        (mounted("etcd3:/pi1"), "answers", ""),
        (mounted("etcd1:pi1"), "answers", ""),
        (mounted("checked@etcd1:/pi1"), "answers", ""),
        (None, "answers", "/var/log is not on the Gluster volume pi1"),
        (IN_RAM, "answers", "/var/log is not on the Gluster volume pi1"),
        (mounted("etcd1:/pi2"), "answers", "/var/log is on etcd1:/pi2, not on the Gluster"),
        (mounted("etcd1:/pi1"), "hangs", "mounted on /var/log, but hangs"),
        (mounted("etcd1:/pi1"), "fails", "mounted on /var/log, but cannot be read"),
    ],
)
def test_trouble_is_whatever_is_not_the_volume(
    there: Mount | None, answer: Answer, message: str
) -> None:
    found = share_problem(there, answer, "pi1")
    assert message in found
    assert bool(found) == bool(message)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (None, "/var/log is not in RAM"),
        (mounted("etcd1:/pi1"), "/var/log is not in RAM"),
        (replace(IN_RAM, super_options=("rw", "size=16384k", "mode=755")), ""),
        (replace(IN_RAM, super_options=("rw", "size=24576k")), "with size=24576k, not size=16384k"),
        (replace(IN_RAM, super_options=("rw",)), "with no size, not size=16384k"),
    ],
)
def test_trouble_without_a_volume_is_whatever_is_not_ram(there: Mount | None, message: str) -> None:
    found = share_problem(there, "answers", "", "16M")
    assert message in found
    assert bool(found) == bool(message)


def test_ram_is_given_in_whole_pages() -> None:
    assert [kibibytes(size) for size in ("16M", "1G", "5K", "64K")] == [16384, 1 << 20, 8, 64]


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ("rw,nosuid,nodev,noexec,relatime", ()),
        ("rw,relatime", FLAGS),
        ("rw,nosuid,nodev", ("noexec",)),
    ],
)
def test_flags_that_the_share_lacks_are_found(options: str, missing: tuple[str, ...]) -> None:
    there = replace(mounted("etcd1:/pi1"), options=tuple(options.split(",")))
    assert missing_flags(there) == missing
    assert missing_flags(None) == ()


@pytest.mark.parametrize(
    ("there", "is_unchecked"),
    [
        (mounted("etcd1:/pi1"), True),
        (mounted("checked@etcd1:/pi1"), False),
        (IN_RAM, False),
        (None, False),
    ],
)
def test_a_share_with_a_servers_own_graph_is_known(there: Mount | None, is_unchecked: bool) -> None:
    assert has_unchecked_graph(there) == is_unchecked


CHECK = Unit("var-log-check.timer")


@pytest.mark.parametrize(
    ("todo", "trouble", "wanted"),
    [
        (Plan(), "", Plan()),
        (Plan(), "dead", Plan(restart=(SHARE,))),
        (Plan(start=(SHARE,)), "dead", Plan(start=(SHARE,))),
        (Plan(start=(CHECK,)), "dead", Plan(start=(CHECK,), restart=(SHARE,))),
        (Plan(restart=(SHARE, CHECK)), "dead", Plan(restart=(SHARE, CHECK))),
        (Plan(restart=(SHARE, CHECK)), "", Plan(restart=(CHECK,))),
        (Plan(start=(SHARE,)), "", Plan(start=(SHARE,))),
    ],
)
def test_the_share_is_mounted_again_when_it_is_not_right_and_only_then(
    todo: Plan, trouble: str, wanted: Plan
) -> None:
    """systemd takes the unit of a dead share for active."""
    assert with_remount(todo, trouble) == wanted


def test_storage_that_is_away_does_not_fail_the_node() -> None:
    assert not SHARE.required


@pytest.mark.parametrize(
    ("fstab", "claims"),
    [
        ("", ()),
        (
            "# tmpfs /var/log tmpfs\n/dev/sda1 /var/log.hdd ext4\ne:/x /var/log/pods glusterfs\n",
            (),
        ),
        (
            "PARTUUID=1-02 / ext4 defaults 0 1\ntmpfs\t/var/log\ttmpfs size=64M 0 0\n",
            ("line 2 of",),
        ),
        ("etcd1:/pi1 /var/log/ glusterfs _netdev 0 0\n", ("line 1 of",)),
        # systemd-journal-flush.service pulls this mount unit in
        (" tmpfs\t/var//log tmpfs noauto # mine\r\n", ("line 1 of",)),
        ("tmpfs var/log tmpfs\n", ("line 1 of",)),
        ("/swapfile /var/log swap sw 0 0\n/a /var/log\\040 ext4\n\t#/b /var/log ext4\n", ()),
    ],
)
def test_fstab_is_read_by_its_fields(tmp_path: Path, fstab: str, claims: tuple[str, ...]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text(fstab)
    found = value_in(tmp_path, LogShares, systemctl())
    assert tuple(claim[: len("line 1 of")] for claim in found.claims) == claims


@pytest.mark.parametrize(
    ("mount", "log2ram", "claims"),
    [
        ("", "", ()),
        (
            "/run/systemd/generator/var-log.mount",
            "disabled",
            ("a line of /etc/fstab whose target leads to /var/log",),
        ),
        ("/etc/systemd/system/var-log.mount", "masked", ("/etc/systemd/system/var-log.mount",)),
        ("", "enabled", ("log2ram.service",)),
        ("", "enabled-runtime", ("log2ram.service",)),
        ("", "indirect", ("log2ram.service",)),
        ("", "static", ("log2ram.service",)),
        ("", "linked", ()),
    ],
)
def test_units_that_are_enabled_claim_it(
    tmp_path: Path, mount: str, log2ram: str, claims: tuple[str, ...]
) -> None:
    """The file of a mount unit counts; systemd itself writes one for a line of fstab."""
    units = {
        "var-log.mount": {"FragmentPath": mount, "UnitFileState": "generated"},
        "log2ram.service": {"FragmentPath": "/x/log2ram.service", "UnitFileState": log2ram},
    }
    assert value_in(tmp_path, LogShares, systemctl(units)).claims == claims


@pytest.mark.parametrize(("target", "where"), [("usb/log", "usb/log"), ("gone/log", "gone/log")])
def test_var_log_may_be_a_link(tmp_path: Path, target: str, where: str) -> None:
    (tmp_path / "var/usb/log").mkdir(parents=True)
    (tmp_path / "var/log").symlink_to(target)
    assert value_in(tmp_path, LogShares, systemctl()).link.endswith(where)


def test_the_reason_is_read_too(tmp_path: Path) -> None:
    assert value_in(tmp_path, LogShares, systemctl()) == NOTHING
    (tmp_path / "run/chaos-engine").mkdir(parents=True)
    (tmp_path / "run/chaos-engine/var-log.reason").write_text("no answer\nof etcd1\n")
    units = {"log2ram.service": {"UnitFileState": "enabled"}}
    found = value_in(tmp_path, LogShares, systemctl(units))
    assert found == LogShare(("log2ram.service",), "no answer of etcd1")


GRAPH = (VOLFILES / "replicate-11.1.vol").read_text()

PROGRAMS = {
    # `mount [-i] -t TYPE -o OPTIONS SOURCE PATH`, `mount --bind FROM PATH`, and
    # `mount -i -o remount...`; and what a view of a folder takes, which a list of its own notes
    "mount": """\
        case $* in
          *nosymfollow*)
            for last; do :; done
            echo "9 1 0:9 / $last rw,nosymfollow - t s rw" >>$TMP/view
            exit ;;
          --make-private*) exit ;;
          "--bind $2 $2") exit ;;
        esac
        echo "mount $*" >>$CALLS
        case $* in
          *remount*)
            test ! -e $TMP/stubborn || exit 32
            n=$(grep -n " $4 " $TMP/mountinfo | tail -n 1 | cut -d : -f 1)
            sed -i "${n}s/ rw / rw,nosuid,nodev,noexec /" $TMP/mountinfo
            exit ;;
          *tmpfs*) type=tmpfs ;;
          --bind*)
            while read -r line; do
              case $line in *" $2 "*) from=$line ;; esac
            done <$TMP/mountinfo
            echo "${from%% $2 *} $3 ${from#* $2 }" >>$TMP/mountinfo
            exit ;;
        esac
        options=rw
        case $* in *"noexec var-log"*) options=rw,nosuid,nodev,noexec ;; esac
        case $* in
          *"-t nfs4 "*)
            type=nfs4 server=${6#*@} server=${server%%:*}
            test ! -e $TMP/silent/$server || exit 124
            case $5 in vers=4.1,*)
              test ! -e $TMP/v4.0 || { echo "mount: $7: Protocol not supported" >&2; exit 32; } ;;
            esac
            test -e $TMP/sent/$server || { echo "mount: $7: permission denied." >&2; exit 32; } ;;
        esac
        while [ $# -gt 2 ]; do shift; done
        echo "9 1 0:9 / $2 $options - $type $1 rw" >>$TMP/mountinfo""",
    # glusterfs --version; or options and PATH
    "glusterfs": """\
        test "$1" != --version || { echo "glusterfs 11.1"; echo "License: GPL"; exit; }
        echo "glusterfs $*" >>$CALLS
        test -e $TMP/volume || exit 1
        test ! -p $TMP/trying || read _ <$TMP/trying
        for last; do
          case $last in --fs-display-name=*) source=${last#*=} ;; esac
        done
        echo "9 1 0:9 / $last rw - fuse.glusterfs $source rw" >>$TMP/mountinfo""",
    # perl -e PROGRAM SERVER PORT VOLUME OP-VERSION
    "perl": """\
        echo "$3 $5 $6" >>$TMP/asked
        test ! -e $TMP/silent/$3 || exit 124
        test -e $TMP/sent/$3 || { echo "$3 has no volume $5"; exit 1; }
        cat $TMP/sent/$3""",
    "pkill": 'echo "pkill $*" >>$CALLS',
    # unshare --mount --propagation slave PROGRAM...
    "unshare": 'test ! -e $TMP/old || exit 96; shift 3; exec "$@"',
    # `umount -i -c [-l] PATH`
    "umount": """\
        echo "umount $*" >>$CALLS
        case $* in *-l*) ;; *) test ! -e $TMP/busy || exit 32 ;; esac
        while [ $# -gt 1 ]; do shift; done
        n=0 last=
        while read -r line; do
          n=$((n + 1))
          case $line in *" $1 "*) last=$n ;; esac
        done <$TMP/mountinfo
        test -n "$last" && sed -i "${last}d" $TMP/mountinfo""",
    "systemctl": 'echo "systemctl $*" >>$CALLS',
    "systemd-tmpfiles": "",
    # bash -c ": </dev/tcp/SERVER/24007"
    "bash": 'server=${2#*/tcp/}; test -e "$TMP/up/${server%/*}"',
    "getent": 'test "$2" != nameless',
    # stat -f: RAM of 4 MiB, with what is in the folder; or of any other file
    "stat": """\
        test "$1" = -f || exec /usr/bin/stat "$@"
        test ! -e $TMP/roomy || { echo "1024 1024 4096"; exit; }
        echo "1024 $((1024 - $(du -sk $TMP/log | cut -f 1) / 4)) 4096" """,
    # mktemp PATH.XXXXXX
    "mktemp": """\
        case $1 in $TMP/log/*) test ! -e $TMP/dead ;; *) test ! -e $TMP/full ;; esac || exit 1
        test ! -e $TMP/hangs || { trap '' TERM; exec sleep 5 >/dev/null 2>&1; }
        : >"$1"
        echo "$1" """,
    # a time limit of one second for what hangs; the node's is longer
    "timeout": """\
        test "$1" != -k || shift 2
        shift
        test ! -e $TMP/hangs || exec /usr/bin/timeout -k 1 1 "$@"
        exec "$@" """,
}


class Helper:
    """The helper below a folder, where `log` is the card's folder and `run` is RAM.

    Stand-ins for the programs that mount only keep the list of what is mounted."""

    def __init__(self, root: Path, *servers: str, volume: str = "pi1", export: str = "") -> None:
        self.root = root
        for name in ("bin", "log", "run", "up", "sent", "silent"):
            (root / name).mkdir()
        for name, body in PROGRAMS.items():
            head = f"#!/bin/sh\nTMP={root}; CALLS={root}/calls\n"
            (root / "bin" / name).write_text(head + body + "\n")
            (root / "bin" / name).chmod(0o755)
        store = "nfs" if export else "gluster" if volume else "ram"
        (root / "mountinfo").write_text("1 1 8:1 / / rw shared:1 - ext4 /dev/mmcblk0p2 rw\n")
        self.script = root / "bin/var-log-mount"
        self.script.write_text(
            render(
                "var-log-mount.j2",
                store=store,
                words=f"share {volume or export}",
                share=export or (volume and f"/{volume}"),
                ram_size="16m",
                servers=servers or ("etcd1", "etcd2", "etcd3"),
                target=f"{root}/log",
                run=f"{root}/run",
                mounts=f"{root}/mountinfo",
                path=f"{root}/bin:/usr/bin:/bin",
                flags=",".join(FLAGS),
                confined=confined(f"{root}/view"),
                uppermost=uppermost(f"{root}/mountinfo"),
                checked=CHECKED,
                share_port=PORTS.get(store, 0),
                nfs=NFS,
                shares=PATTERN,
                unconfined=UNCONFINED,
            )
        )
        self.script.chmod(0o755)
        self.set("volume")
        for server in servers or ("etcd1", "etcd2", "etcd3"):
            self.set(f"up/{server}")
            self.send(server, GRAPH)

    def send(self, server: str, volfile: str) -> None:
        (self.root / "sent" / server).write_text(volfile)

    @property
    def graph(self) -> str:
        return (self.root / "run/var-log.volfile").read_text()

    def set(self, name: str) -> None:
        (self.root / name).touch()

    def unset(self, name: str) -> None:
        (self.root / name).unlink()

    def mount(
        self,
        source: str,
        fstype: str = "fuse.glusterfs",
        path: str = "log",
        flags: str = "rw,nosuid,nodev,noexec",
    ) -> None:
        with (self.root / "mountinfo").open("a") as file:
            file.write(f"9 1 0:9 / {self.root}/{path} {flags} shared:2 - {fstype} {source} rw\n")

    def __call__(self, verb: str) -> int:
        (self.root / "calls").write_text("")
        ran = subprocess.run(
            [str(self.script), verb], capture_output=True, text=True, timeout=60, check=False
        )
        self.said = ran.stderr
        return ran.returncode

    @property
    def calls(self) -> list[str]:
        text = (self.root / "calls").read_text().replace(f"{self.root}/", "")
        return text.splitlines()

    @property
    def at_target(self) -> list[str]:
        return [line.split(" - ")[1] for line in self._lines()]

    @property
    def options(self) -> list[str]:
        return [line.split()[5] for line in self._lines()]

    def _lines(self) -> list[str]:
        lines = (self.root / "mountinfo").read_text().splitlines()
        return [line for line in lines if line.split()[4] == f"{self.root}/log"]

    @property
    def reason(self) -> str:
        path = self.root / "run/var-log.reason"
        return path.read_text().strip() if path.exists() else ""


@pytest.fixture
def helper(tmp_path: Path) -> Helper:
    return Helper(tmp_path)


def test_the_share_is_tried_aside_and_then_takes_its_place(helper: Helper) -> None:
    assert helper("start") == 0, helper.said
    assert helper.at_target == ["fuse.glusterfs checked@etcd1:/pi1 rw"]
    assert "run/var-log " not in (helper.root / "mountinfo").read_text()
    share = next(call for call in helper.calls if "glusterfs" in call)
    assert "--volfile=run/var-log.volfile " in share
    assert "server" not in share, "it is connected to none that could send another graph"
    assert "ping-timeout=10" in share
    assert "log-file=run/var-log.client" in share, "its log is in RAM"
    assert "--fs-display-name=checked@etcd1:/pi1 " in share
    assert share.endswith(" run/var-log")
    assert helper.calls[-2:] == ["mount --bind run/var-log log", "umount -i -c -l run/var-log"]
    assert helper.reason == ""


def test_one_that_comes_while_another_is_at_work_waits_for_it(helper: Helper) -> None:
    """It would unmount what the other one tries, and the empty folder would be mounted."""
    (helper.root / "calls").write_text("")
    os.mkfifo(helper.root / "trying")
    call = [str(helper.script), "start"]
    first = subprocess.Popen(call)
    with (helper.root / "trying").open("w") as goes_on:  # opens when the client does
        (helper.root / "trying").unlink()
        second = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
        assert second.stderr
        assert second.stderr.readline() == f"waiting for another {helper.script}\n"
        goes_on.write("go on\n")
    assert (first.wait(60), second.wait(60)) == (0, 0)
    second.stderr.close()
    assert helper.at_target == ["fuse.glusterfs checked@etcd1:/pi1 rw"]
    assert sum("glusterfs" in call for call in helper.calls) == 1
    assert not helper.reason


def test_what_is_left_behind_holds_nobody(helper: Helper) -> None:
    """The client, and what waits in the kernel, outlive the script and must not hold its lock."""
    with (helper.root / "bin/glusterfs").open("a") as client:
        client.write("\nsleep 60 </dev/null >/dev/null 2>&1 &\necho $! >$TMP/client\n")
    assert helper("start") == 0, helper.said
    client_id = int((helper.root / "client").read_text())
    try:
        assert not Path(f"/proc/{client_id}/fd/9").exists()
        assert helper("check") == 0
        assert helper.said == ""
    finally:
        os.kill(client_id, signal.SIGTERM)


def test_no_program_on_the_share_is_one(helper: Helper) -> None:
    """It gets its flags before anybody sees it, and so does the RAM that stands in for it."""
    assert helper("start") == 0
    assert helper.options == ["rw,nosuid,nodev,noexec"]
    *_, hardened, _, shown, _ = [call for call in helper.calls if "log" in call.split()[-1]]
    assert hardened == "mount -i -o remount,bind,nosuid,nodev,noexec run/var-log"
    assert shown == "mount --bind run/var-log log"
    helper("stop")
    helper.unset("volume")
    helper("start")
    assert helper.at_target == ["tmpfs var-log-in-ram rw"]
    assert helper.options == ["rw,nosuid,nodev,noexec"]


@pytest.mark.parametrize("verb", ["start", "check"])
@pytest.mark.parametrize("lacking", ["rw,relatime", "rw,nosuid,nodev", "rw,nosuid,noexec"])
def test_a_share_that_lacks_a_flag_gets_it_where_it_is(
    helper: Helper, verb: str, lacking: str
) -> None:
    helper.mount("etcd1:/pi1", flags=lacking)
    assert helper(verb) == 0
    assert helper.calls == ["mount -i -o remount,bind,nosuid,nodev,noexec log"]


def test_a_share_that_cannot_be_hardened_is_none(helper: Helper) -> None:
    helper.set("stubborn")
    assert helper("start") == 1
    assert helper.at_target == ["tmpfs var-log-in-ram rw"]


def test_what_users_mount_does_not_slow_it_down(helper: Helper) -> None:
    """fusermount lets each user make a thousand mounts with names of 3,500 line breaks."""
    helper.mount("etcd1:/pi1")
    with (helper.root / "mountinfo").open("a") as file:
        name = "\\012" * 3500
        for number in range(1000):
            file.write(f"{number} 1 0:9 / /home/u/{name} rw - fuse.any any rw\n")
    began = time.monotonic()
    assert helper("check") == 0, helper.said
    assert time.monotonic() - began < 10, "read byte by byte it takes a minute"
    assert helper.calls == []


def test_a_link_in_the_shares_place_is_left_alone(helper: Helper) -> None:
    """The kernel would mount where the link leads, again and again, and nobody would see it."""
    (helper.root / "usb").mkdir()
    (helper.root / "log").rmdir()
    (helper.root / "log").symlink_to("usb")
    assert helper("start") == 1
    assert helper.calls == []
    assert helper.reason.endswith("/log is a symbolic link; make it a folder")


def test_where_links_could_be_followed_nothing_is_mounted(helper: Helper) -> None:
    """A kernel before 5.10 accepts nosymfollow and ignores it silently."""
    helper.set("old")
    assert helper("start") == 1
    assert helper.at_target == []
    assert "links on the share could be followed: Linux 5.10" in helper.reason


def test_ram_stands_in_before_the_share_is_asked_for(helper: Helper) -> None:
    helper("start")
    kinds = [call for call in helper.calls if call.startswith(("mount -t", "glusterfs"))]
    assert [kind.split()[0] for kind in kinds] == ["mount", "glusterfs"]


def test_folders_are_there_as_on_the_card_and_no_files(helper: Helper) -> None:
    card, ram = helper.root / "log", helper.root / "run/var-log"
    for server in ("etcd1", "etcd2", "etcd3"):
        helper.unset(f"up/{server}")
    for name, mode in {
        "apt": 0o755,
        "private": 0o700,
        "haproxy/run": 0o750,
        "journal/x": 0o755,
    }.items():
        (card / name).mkdir(parents=True)
        (card / name).chmod(mode)
    (card / "pods/uid").mkdir(parents=True)
    (card / "syslog").write_text("old")
    card.chmod(0o775)
    if os.getuid() == 0:
        os.chown(card / "apt", 7, 8)
    assert helper("start") == 1
    found = {str(path.relative_to(ram)) for path in ram.rglob("*")}
    assert found == {"apt", "private", "haproxy", "haproxy/run"}
    assert stat.S_IMODE((ram / "private").stat().st_mode) == 0o700
    assert stat.S_IMODE((ram / "haproxy/run").stat().st_mode) == 0o750
    assert stat.S_IMODE(ram.stat().st_mode) == 0o775
    if os.getuid() == 0:
        assert ((ram / "apt").stat().st_uid, (ram / "apt").stat().st_gid) == (7, 8)


def test_what_is_on_the_share_stays_as_it_is(helper: Helper) -> None:
    (helper.root / "log/private").mkdir(mode=0o700)
    (helper.root / "run/var-log/private").mkdir(parents=True, mode=0o755)
    assert helper("start") == 0
    assert stat.S_IMODE((helper.root / "run/var-log/private").stat().st_mode) == 0o755


def test_links_and_files_on_the_share_in_the_place_of_folders_stay(helper: Helper) -> None:
    """Before HAProxy has started, /var/log/haproxy/run leads nowhere; on the card it is a folder
    where the predecessor was."""
    for folder in ("haproxy/run", "linked/run", "file/run", "after"):
        (helper.root / "log" / folder).mkdir(parents=True)
    share = helper.root / "run/var-log"
    (share / "haproxy").mkdir(parents=True)
    (share / "haproxy/run").symlink_to("/run/nowhere")
    (share / "linked").symlink_to("/run/nowhere")
    (share / "file").write_text("log")
    assert helper("start") == 0
    assert (share / "haproxy/run").readlink() == Path("/run/nowhere")
    assert (share / "linked").readlink() == Path("/run/nowhere")
    assert (share / "file").read_text() == "log"
    assert (share / "after").is_dir()


def test_what_was_written_in_ram_comes_along(helper: Helper) -> None:
    helper.mount("var-log-in-ram", "tmpfs")
    (helper.root / "log/pods").mkdir()
    (helper.root / "log/pods/0.log").symlink_to("/var/lib/docker/containers/x-json.log")
    (helper.root / "log/wtmp").write_text("new")
    (helper.root / "run/var-log").mkdir()
    (helper.root / "run/var-log/wtmp").write_text("on the share")
    assert helper("start") == 0
    assert (helper.root / "run/var-log/pods/0.log").is_symlink()
    assert (helper.root / "run/var-log/wtmp").read_text() == "on the share"
    assert helper.at_target == ["fuse.glusterfs checked@etcd1:/pi1 rw"]


def test_a_server_that_answers_is_asked_first(helper: Helper) -> None:
    helper.unset("up/etcd1")
    assert helper("start") == 0
    assert helper.at_target == ["fuse.glusterfs checked@etcd2:/pi1 rw"]
    assert (helper.root / "asked").read_text() == "etcd2 pi1 119999\n"


def test_a_server_that_answers_but_gives_no_share_is_not_asked_first_again(helper: Helper) -> None:
    helper.unset("volume")
    assert helper("start") == 1
    helper.set("volume")
    assert helper("start") == 0
    assert helper.at_target == ["fuse.glusterfs checked@etcd2:/pi1 rw"]
    helper("stop")
    assert helper("start") == 0
    assert helper.at_target == ["fuse.glusterfs checked@etcd1:/pi1 rw"]


MARKER = "volume marker\n    type storage/posix\n    option directory /srv\nend-volume\n"
"""What no log share has."""

MARKER_FOUND = (
    "line 2 of the volfile of etcd1 has the type storage/posix, which a log share may not"
)


def test_a_graph_that_no_client_has_is_not_mounted(helper: Helper) -> None:
    for server in ("etcd1", "etcd2", "etcd3"):
        helper.send(server, MARKER)
    assert helper("start") == 1
    assert helper.at_target == ["tmpfs var-log-in-ram rw"]
    assert not [call for call in helper.calls if "glusterfs" in call]
    assert f"volume pi1 is not mounted: {MARKER_FOUND}" in helper.reason
    assert "line 2 of the volfile of etcd3" in helper.reason


def test_another_servers_graph_is_taken_instead_and_it_is_said(helper: Helper) -> None:
    helper.send("etcd1", MARKER)
    assert helper("start") == 0
    assert helper.at_target == ["fuse.glusterfs checked@etcd2:/pi1 rw"]
    assert MARKER_FOUND in helper.said
    assert helper.reason == ""


def test_a_server_that_sends_nothing_is_passed_over(helper: Helper) -> None:
    helper.set("silent/etcd1")
    (helper.root / "sent/etcd2").unlink()
    assert helper("start") == 0
    assert helper.at_target == ["fuse.glusterfs checked@etcd3:/pi1 rw"]
    assert "etcd1 sends no volfile within" in helper.said
    assert "etcd2 has no volume pi1" in helper.said


def test_the_graph_is_for_root_alone(helper: Helper) -> None:
    """A volume may need a password, which must not be shown."""
    assert helper("start") == 0
    assert stat.S_IMODE((helper.root / "run/var-log.volfile").stat().st_mode) == 0o600


def test_a_volume_that_was_changed_is_followed_while_it_is_in_use(helper: Helper) -> None:
    assert helper("start") == 0
    assert helper("renew") == 0
    assert helper.calls == []
    changed = GRAPH.replace("option strict-locks off", "option strict-locks on")
    helper.send("etcd1", changed)
    assert helper("renew") == 0
    assert [call.split(" -f ")[0] for call in helper.calls] == ["pkill -HUP -u root"]
    assert "option strict-locks on" in helper.graph
    assert helper("renew") == 0
    assert helper.calls == []


def test_the_servers_are_asked_for_the_graph_every_ten_minutes(helper: Helper) -> None:
    assert helper("start") == 0
    asked = helper.root / "asked"
    asked.unlink()
    assert helper("check") == 0
    assert asked.read_text().split() == ["etcd1", "pi1", "119999"]
    assert helper("check") == 0
    assert len(asked.read_text().splitlines()) == 1
    (helper.root / "run/var-log.volfile.asked").write_text("-600\n")
    assert helper("check") == 0
    assert len(asked.read_text().splitlines()) == 2


def test_a_volume_that_was_changed_into_what_no_client_has_is_not_followed(helper: Helper) -> None:
    """The reason is logged once, not every ten minutes, and again when it changes."""
    assert helper("start") == 0
    graph = helper.graph
    for server in ("etcd1", "etcd2", "etcd3"):
        helper.send(server, MARKER)
    assert helper("renew") == 1
    assert helper.calls == []
    assert helper.graph == graph
    assert MARKER_FOUND in helper.said
    assert helper("renew") == 1
    assert helper.said == ""
    helper.send("etcd1", GRAPH)
    helper.send("etcd2", GRAPH)
    assert helper("renew") == 0
    assert helper.said == ""


def test_a_share_that_an_older_version_mounted_has_no_graph_to_renew(helper: Helper) -> None:
    helper.mount("etcd1:/pi1")
    assert helper("renew") == 0
    assert helper.calls == []
    assert not (helper.root / "asked").exists()


def test_what_a_server_said_reaches_no_terminal_raw(helper: Helper) -> None:
    """The client's log holds texts that the servers have sent."""
    (helper.root / "bin/glusterfs").write_text(
        '#!/bin/sh\nprintf "[2026-11-28] E [x.c:1:x] \\033]0;title\\007said\\n"; exit 1\n'
    )
    assert helper("start") == 1
    assert helper.reason.endswith("; ?]0;title?said")


def test_without_storage_ram_stands_in_and_the_reason_is_kept(tmp_path: Path) -> None:
    helper = Helper(tmp_path, "etcd1", "nameless")
    for server in ("etcd1", "nameless"):
        helper.unset(f"up/{server}")
    assert helper("start") == 1
    assert helper.at_target == ["tmpfs var-log-in-ram rw"]
    assert helper.reason == "no answer on port 24007 from etcd1 nameless; nameless has no address"
    assert helper.reason in helper.said
    assert not any("glusterfs" in call for call in helper.calls), "that would take its time"
    assert helper("start") == 1
    assert helper.at_target == ["tmpfs var-log-in-ram rw"], "never a second one"
    helper.set("up/etcd1")
    assert helper("start") == 0
    assert helper.at_target == ["fuse.glusterfs checked@etcd1:/pi1 rw"]
    assert helper.reason == ""


def test_without_a_volume_ram_is_what_is_wanted(tmp_path: Path) -> None:
    helper = Helper(tmp_path, volume="")
    assert helper("start") == 0, helper.said
    assert helper.at_target == ["tmpfs var-log-in-ram rw"]
    assert helper.reason == ""
    assert not any("glusterfs" in call for call in helper.calls)
    for verb in ("check", "stop", "start"):
        assert helper(verb) == 0
        assert helper.at_target == ["tmpfs var-log-in-ram rw"], "never a second one"
    assert not (helper.root / "asked").exists(), "nobody is there to be asked"


def test_ram_takes_the_place_of_a_share_that_was_there_before(tmp_path: Path) -> None:
    helper = Helper(tmp_path, volume="")
    helper.mount("checked@etcd1:/pi1")
    assert helper("check") == 0
    assert helper.calls == ["systemctl --no-block restart var-log.service"]
    assert helper("stop") == 0
    assert helper("start") == 0, helper.said
    assert helper.at_target == ["tmpfs var-log-in-ram rw"]


class Ram:
    """RAM of 4 MiB that stands in for the share, with files in it."""

    def __init__(self, helper: Helper) -> None:
        self.helper = helper
        self.log = helper.root / "log"
        helper.mount("var-log-in-ram", "tmpfs")

    def write(self, name: str, mib: float, hours: float = 0) -> Path:
        """Write a file, and have it last changed some hours ago."""
        path = self.log / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * int(mib * (1 << 20)))
        then = time.time() - hours * 3600
        os.utime(path, (then, then))
        return path

    def trim(self) -> list[str]:
        """Have the helper look after the RAM. Return the names of the files that are left."""
        self.helper("check")
        return sorted(path.name for path in self.log.rglob("*") if path.is_file())

    def kib(self, name: str) -> int:
        """Return how many KiB of RAM a file takes."""
        return (self.log / name).stat().st_blocks // 2


@pytest.fixture
def ram(helper: Helper) -> Ram:
    return Ram(helper)


def test_the_oldest_files_in_ram_go_when_it_fills_up_and_it_is_said(ram: Ram) -> None:
    for hours in (4, 3, 2, 1):
        ram.write(f"{hours}", 0.8, hours)
    assert ram.trim() == ["1", "2"]
    assert "<4>" in ram.helper.said
    assert "in RAM and was 80 % full: the oldest files were removed (4, 3)" in ram.helper.said
    assert "now it is 40 % full" in ram.helper.said


def test_ram_that_has_room_is_left_alone(ram: Ram) -> None:
    ram.write("old", 2.8, 48)
    assert (ram.trim(), ram.helper.said) == (["old"], "")


def test_the_newest_file_keeps_its_end_even_if_nothing_else_is_there(ram: Ram) -> None:
    path = ram.write("only", 3.5, 5)
    with path.open("ab") as file:
        file.write(b"the last line")
    os.utime(path, (1, 1))
    assert ram.trim() == ["only"]
    assert 64 <= ram.kib("only") <= 68
    assert path.read_bytes().endswith(b"xthe last line")
    assert "files in use lost their beginning (only)" in ram.helper.said


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_a_file_in_use_stays_and_its_writer_goes_on_at_its_end(ram: Ram, mode: str) -> None:
    ram.write("older", 0.3, 6)
    ram.write("newest", 0.2, 1)
    path = ram.write("in-use", 3, 5)
    with path.open(mode) as writer:
        writer.seek(0, os.SEEK_END)
        assert ram.trim() == ["in-use", "newest"]
        assert 64 <= ram.kib("in-use") <= 68
        writer.write(b"goes on")
    assert path.read_bytes().endswith(b"xgoes on")
    assert path.stat().st_size == (3 << 20) + len("goes on")


def mount_of(path: Path) -> str:
    """Return the kernel's number of the mount that a path is on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fields = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
    finally:
        os.close(descriptor)
    return fields[fields.index("mnt_id:") + 1]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("log", ["newest", "old"]),
        ("/proc", ["newest"]),
        # as of a mount that was unmounted lazily, and that a process still uses
        ("4294967295", ["newest", "old"]),
    ],
)
def test_a_file_of_the_same_number_that_is_open_elsewhere_does_not_count(
    ram: Ram, where: str, left: list[str]
) -> None:
    """Have a process use a file with the number of the oldest file, on a given mount."""
    number = ram.write("old", 3, 5).stat().st_ino
    ram.write("newest", 0.2, 1)
    mount = where if where.isdecimal() else mount_of(ram.helper.root / where)
    find = ram.helper.root / "bin/find"
    find.write_text(
        f"#!/bin/sh\ncase $* in */fdinfo*) printf 'mnt_id:\\t{mount}\\nino:\\t{number}\\n' ;; "
        f'*) exec {shutil.which("find")} "$@" ;; esac\n'
    )
    find.chmod(0o755)
    assert ram.trim() == left


def test_a_file_that_was_just_written_counts_as_in_use(ram: Ram) -> None:
    ram.write("written", 3.2)
    ram.write("old", 0.3, 2)
    assert ram.trim() == ["written"]
    assert ram.kib("written") <= 68


def test_the_journal_and_haproxys_configuration_are_left_alone(ram: Ram) -> None:
    for name in ("journal/1/system.journal", "haproxy/haproxy.cfg"):
        ram.write(name, 1.6, 9)
    assert ram.trim() == ["haproxy.cfg", "system.journal"]
    assert "nothing there can be removed" in ram.helper.said
    ram.trim()
    assert ram.helper.said == "", "the same is said once"


def test_links_to_logs_of_containers_that_are_gone_go_first(ram: Ram) -> None:
    gone = ram.log / "pods/ns_gone_1/app/0.log"
    runs = ram.log / "pods/ns_runs_1/app/0.log"
    log = ram.helper.root / "app-json.log"
    log.touch()
    for link, to in (
        (gone, Path(f"{log}.gone")),
        (runs, log),
        (ram.log / "containers/gone.log", gone),
        (ram.log / "containers/runs.log", runs),
    ):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(to)
    fresh = runs.with_name("1.log")
    fresh.symlink_to(f"{log}.will-come")
    for link in ram.log.rglob("*.log"):
        if link != fresh:
            os.utime(link, (1, 1), follow_symlinks=False)
    ram.write("old", 3.2, 5)
    ram.trim()
    left = sorted(str(link.relative_to(ram.log)) for link in ram.log.rglob("*.log"))
    assert left == [
        "containers/runs.log",
        "pods/ns_runs_1/app/0.log",
        "pods/ns_runs_1/app/1.log",
    ]
    assert "2 links to logs of containers that are gone were removed" in ram.helper.said


def test_names_of_any_kind_are_trimmed_and_shown_harmless(ram: Ram) -> None:
    ram.write("a\nb", 0.1, 9)
    ram.write("-rf \x1b[31m *\\n<0>", 1, 8)
    in_use = " two  blanks "
    ram.write(in_use, 2.5)
    assert ram.trim() == [in_use, "a\nb"]
    assert ram.kib(in_use) <= 68
    assert ram.helper.said.count("\n") == 1
    assert "\x1b" not in ram.helper.said


def test_what_is_on_the_share_is_never_trimmed(helper: Helper) -> None:
    helper.mount("checked@etcd1:/pi1")
    (helper.root / "log/large").write_bytes(b"x" * (4 << 20))
    helper("check")
    assert (helper.root / "log/large").stat().st_size == 4 << 20
    assert helper.said == ""


def test_a_share_that_cannot_be_written_is_none(helper: Helper) -> None:
    helper.set("full")
    assert helper("start") == 1
    assert helper.at_target == ["tmpfs var-log-in-ram rw"]
    assert "volume pi1 cannot be written" in helper.reason
    assert "run/var-log " not in (helper.root / "mountinfo").read_text()


def test_a_share_that_answers_is_left_alone(helper: Helper) -> None:
    helper.mount("etcd3:/pi1")
    assert helper("start") == 0
    assert not [call for call in helper.calls if "mount" in call]


@pytest.mark.parametrize("source", ["etcd1:/pi1", "etcd1:/pi2"])
def test_a_dead_share_and_that_of_another_volume_are_replaced(helper: Helper, source: str) -> None:
    helper.mount(source)
    helper.set("dead")
    helper.set("busy")
    assert helper("start") == 0, helper.said
    assert "umount -i -c -l log" in helper.calls, "it is in use"
    assert helper.at_target == ["fuse.glusterfs checked@etcd1:/pi1 rw"]


def test_what_others_have_mounted_is_not_touched(helper: Helper) -> None:
    helper.mount("log2ram", "tmpfs")
    assert helper("start") == 1
    assert not [call for call in helper.calls if "mount" in call]
    assert helper.reason.startswith(
        f"something else is mounted on {helper.root}/log: tmpfs log2ram"
    )


@pytest.mark.parametrize("path", ["log.hdd", "log/pods", "log2"])
def test_mounts_on_other_paths_do_not_count(helper: Helper, path: str) -> None:
    helper.mount("etcd1:/pi1", path=path)
    assert helper("start") == 0
    assert helper.at_target == ["fuse.glusterfs checked@etcd1:/pi1 rw"]


def test_a_share_that_hangs_holds_nobody(helper: Helper) -> None:
    """Real children wait in the kernel, where no signal ends them; these ignore signals."""
    helper.mount("etcd1:/pi1")
    helper.set("hangs")
    helper.set("busy")
    assert helper("check") == 0
    assert helper.calls == ["systemctl --no-block restart var-log.service"]
    assert helper("stop") == 0
    assert helper.at_target == []


def test_check_is_silent_while_the_share_answers(helper: Helper) -> None:
    helper.mount("etcd1:/pi1")
    assert helper("check") == 0
    assert helper.calls == []
    assert helper.said == ""


@pytest.mark.parametrize("there", [None, "var-log-in-ram", "dead"])
def test_check_tries_again(helper: Helper, there: str | None) -> None:
    if there == "dead":
        helper.mount("etcd1:/pi1")
        helper.set("dead")
    elif there:
        helper.mount(there, "tmpfs")
    assert helper("check") == 0
    assert helper.calls == ["systemctl --no-block restart var-log.service"]


def test_the_client_s_log_does_not_fill_the_ram(helper: Helper) -> None:
    helper.mount("etcd1:/pi1")
    log = helper.root / "run/var-log.client"
    log.write_text("x" * 1_000_001)
    helper("check")
    assert log.read_text() == ""


def test_stop_unmounts_the_share_and_leaves_what_stands_in(helper: Helper) -> None:
    helper.mount("etcd1:/pi1")
    assert helper("stop") == 0
    assert helper.at_target == []
    helper.mount("var-log-in-ram", "tmpfs")
    assert helper("stop") == 0
    assert helper.at_target == ["tmpfs var-log-in-ram rw"]


def test_another_word_explains_the_three(helper: Helper) -> None:
    assert helper("help") == 2
    for verb in ("start", "stop", "check"):
        assert f"var-log-mount {verb} " in helper.said


@pytest.mark.parametrize("store", ["gluster", "nfs", "ram"])
def test_docker_and_kubelet_start_after_the_first_attempt(store: str) -> None:
    unit = render("var-log.service.j2", store=store, words="it")
    before = next(line for line in unit.splitlines() if line.startswith("Before="))
    assert {"docker.service", "kubelet.service", "cri-docker.service"} <= set(before[7:].split())
    assert "rsyslog" not in unit, "it writes no file"
    assert "Requires" not in unit


EXPORT = "/srv/log/pi1"
ON_NFS = f"nfs4 var-log@10.0.0.1:{EXPORT} rw"


@pytest.fixture
def nfs(tmp_path: Path) -> Helper:
    return Helper(tmp_path, "10.0.0.1", "10.0.0.2", volume="", export=EXPORT)


def of_nfs(**values: Any) -> LogMountSettings:
    servers = {f"nas{n}": f"10.0.0.{n}" for n in range(1, 3)}
    return settings(**{"log_store": "nfs", "log_nfs_servers": servers, **values})


def test_each_node_asks_another_nfs_server_first_for_its_own_folder() -> None:
    assert export_of(of_nfs(), "pi1") == (EXPORT, ("10.0.0.1", "10.0.0.2"))
    assert export_of(of_nfs(), "pi2") == ("/srv/log/pi2", ("10.0.0.2", "10.0.0.1"))
    assert export_of(of_nfs(log_nfs_folder="/volume1/logs", nodes={}), "pi9") == (
        "/volume1/logs/pi9",
        ("10.0.0.1", "10.0.0.2"),
    )


def on_nfs(source: str) -> Mount:
    return mounted(source, "nfs4")


@pytest.mark.parametrize(
    ("there", "answer", "message"),
    [
        (on_nfs("var-log@10.0.0.1:/srv/log/pi1"), "answers", ""),
        (on_nfs("var-log@10.0.0.2:/srv/log/pi1"), "answers", ""),
        (
            on_nfs("var-log@10.0.0.1:/srv/log/pi2"),
            "answers",
            "/var/log is on var-log@10.0.0.1:",
        ),
        (on_nfs("var-log@10.0.0.1:srv/log/pi1"), "answers", "/var/log is on var-log@10.0.0.1:"),
        (mounted("checked@etcd1:/srv/log/pi1"), "answers", "/var/log is on checked@etcd1:/srv"),
        (IN_RAM, "answers", "/var/log is not on the NFS export /srv/log/pi1"),
        (None, "answers", "/var/log is not on the NFS export /srv/log/pi1"),
        (on_nfs("var-log@10.0.0.1:/srv/log/pi1"), "hangs", "mounted on /var/log, but hangs"),
    ],
)
def test_trouble_is_whatever_is_not_the_export(
    there: Mount | None, answer: Answer, message: str
) -> None:
    found = share_problem(there, answer, EXPORT, "16M")
    assert message in found
    assert bool(found) == bool(message)


@pytest.mark.parametrize("volume", ["pi1", ""])
def test_an_export_is_neither_a_volume_nor_ram(volume: str) -> None:
    assert share_problem(on_nfs("var-log@10.0.0.1:/pi1"), "answers", volume)


def test_an_nfs_share_of_somebody_else_refuses_the_node() -> None:
    assert mount_conflict(on_nfs("var-log@10.0.0.1:/srv/log/pi1"), NOTHING) == ""
    assert "nas:/x (nfs4) is mounted on /var/log; unmount" in mount_conflict(
        on_nfs("nas:/x"), NOTHING
    )


def test_the_kernel_mounts_the_export_without_a_helper(nfs: Helper) -> None:
    assert nfs("start") == 0, nfs.said
    assert nfs.at_target == [ON_NFS]
    assert nfs.options == ["rw,nosuid,nodev,noexec"]
    share = next(call for call in nfs.calls if "nfs4" in call)
    assert share.startswith("mount -i -t nfs4 -o vers=4.1,addr=10.0.0.1,proto=tcp,sec=sys,soft,")
    assert share.endswith(f",nosuid,nodev,noexec var-log@10.0.0.1:{EXPORT} run/var-log")
    assert "run/var-log " not in (nfs.root / "mountinfo").read_text()
    assert nfs.reason == ""


def test_an_old_nfs_server_is_asked_for_what_it_has(nfs: Helper) -> None:
    nfs.set("v4.0")
    assert nfs("start") == 0, nfs.said
    assert [call.split(",")[0][-3:] for call in nfs.calls if "nfs4" in call] == ["4.1", "4.0"]


@pytest.mark.parametrize("lacks", ["up/10.0.0.1", "sent/10.0.0.1", "silent/10.0.0.1"])
def test_another_nfs_server_stands_in(nfs: Helper, lacks: str) -> None:
    nfs.set(lacks) if lacks.startswith("silent") else nfs.unset(lacks)
    assert nfs("start") == 0, nfs.said
    assert nfs.at_target == [f"nfs4 var-log@10.0.0.2:{EXPORT} rw"]
    assert nfs.reason == ""


def test_why_no_nfs_server_has_the_export_is_said_of_each(nfs: Helper) -> None:
    nfs.unset("sent/10.0.0.1")
    nfs.set("silent/10.0.0.2")
    assert nfs("start") == 1
    assert nfs.at_target == ["tmpfs var-log-in-ram rw"]
    assert nfs.reason == (
        f"export {EXPORT} cannot be used: 10.0.0.1: permission denied.; 10.0.0.2: no answer in time"
    )


def test_an_export_that_root_cannot_write_is_none(nfs: Helper) -> None:
    """Exports have root_squash by default, which denies root."""
    nfs.set("full")
    assert nfs("start") == 1
    assert nfs.at_target == ["tmpfs var-log-in-ram rw"]
    assert nfs.reason.endswith(
        "10.0.0.1: root cannot write there; 10.0.0.2: root cannot write there"
    )
    assert "run/var-log " not in (nfs.root / "mountinfo").read_text()


def test_without_nfs_servers_ram_stands_in_until_one_is_back(nfs: Helper) -> None:
    for server in ("10.0.0.1", "10.0.0.2"):
        nfs.unset(f"up/{server}")
    assert nfs("start") == 1
    assert nfs.at_target == ["tmpfs var-log-in-ram rw"]
    assert nfs.reason == "no answer on port 2049 from 10.0.0.1 10.0.0.2"
    nfs.set("up/10.0.0.2")
    assert nfs("check") == 0
    assert nfs.calls == ["systemctl --no-block restart var-log.service"]
    assert nfs("start") == 0, nfs.said
    assert nfs.at_target == [f"nfs4 var-log@10.0.0.2:{EXPORT} rw"]


def test_an_export_that_answers_is_left_alone_whoever_serves_it(nfs: Helper) -> None:
    nfs.mount(f"var-log@10.0.0.2:{EXPORT}", "nfs4")
    for verb in ("start", "check"):
        assert nfs(verb) == 0
        assert not [call for call in nfs.calls if "mount" in call or "systemctl" in call]


@pytest.mark.parametrize("state", ["dead", "hangs"])
def test_an_export_that_is_dead_is_detached(nfs: Helper, state: str) -> None:
    nfs.mount(f"var-log@10.0.0.1:{EXPORT}", "nfs4")
    nfs.set(state)
    nfs.set("busy")
    assert nfs("check") == 0
    assert nfs.calls == ["systemctl --no-block restart var-log.service"]
    assert nfs("stop") == 0
    assert nfs.at_target == []
    assert nfs.calls[-1] == "umount -i -c -l log"


@pytest.mark.parametrize("source", ["nas:/srv/log/pi1", "10.0.0.1:/srv/log/pi1"])
def test_what_others_have_mounted_by_nfs_is_not_touched(nfs: Helper, source: str) -> None:
    nfs.mount(source, "nfs4")
    assert nfs("start") == 1
    assert nfs("stop") == 0
    assert not [call for call in nfs.calls if "mount" in call]


@pytest.mark.parametrize(
    ("fstype", "source"),
    [
        ("fuse.glusterfs", "checked@etcd1:/pi1"),
        ("nfs4", f"var-log@10.0.0.1:{EXPORT}"),
        ("tmpfs", "var-log-in-ram"),
    ],
)
@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ({}, "fuse.glusterfs checked@etcd1:/pi1 rw"),
        ({"volume": "", "export": EXPORT}, f"nfs4 var-log@etcd1:{EXPORT} rw"),
        ({"volume": ""}, "tmpfs var-log-in-ram rw"),
    ],
)
def test_each_store_takes_the_place_of_each(
    tmp_path: Path, fstype: str, source: str, wanted: dict[str, str], there: str
) -> None:
    helper = Helper(tmp_path, "etcd1", **wanted)
    helper.mount(source, fstype)
    helper("stop")
    assert helper("start") == 0, helper.said
    assert [line.partition(" ")[0] for line in helper.at_target] == [there.partition(" ")[0]]
    assert helper("check") == 0
    assert not [call for call in helper.calls if "systemctl" in call]


def test_a_script_has_only_what_its_store_needs(tmp_path: Path) -> None:
    lines = {}
    for name, values in (
        ("gluster", {}),
        ("nfs", {"volume": "", "export": EXPORT}),
        ("ram", {"volume": ""}),
    ):
        (tmp_path / name).mkdir()
        lines[name] = Helper(tmp_path / name, **values).script.read_text()
    assert "volfile" not in lines["nfs"] + lines["ram"]
    assert "tcp" not in lines["ram"]
    assert "mount -i -t nfs4" not in lines["gluster"] + lines["ram"]


CARD = "20 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw"


def line(at: str, what: str) -> str:
    """Return a line of the kernel's list of mounts, for a type and a source."""
    return f"90 20 0:52 / {at} rw,nosuid shared:7 master:2 - {what} rw,size=16384k"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], ""),
        ([line("/var/log/journal", "tmpfs a"), line("/var", "tmpfs b")], ""),
        ([line(TARGET, "tmpfs var-log-in-ram"), line("/var", "tmpfs b")], "tmpfs var-log-in-ram"),
        (
            [line(TARGET, "tmpfs var-log-in-ram"), line(TARGET, "fuse.glusterfs etcd1:/pi1")],
            "fuse.glusterfs etcd1:/pi1",
        ),
        ([line(TARGET, r"nfs4 var-log@nas:/srv/my\040logs")], r"nfs4 var-log@nas:/srv/my\040logs"),
    ],
)
def test_the_uppermost_mount_at_a_path_is_told(tmp_path: Path, lines: list[str], said: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("".join(f"{one}\n" for one in (CARD, *lines)))
    script = f"set -eu\n{uppermost(str(mounts))}uppermost {TARGET}"
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{said}\n"


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (["fuse.glusterfs etcd1:/pi1"], []),
        (["tmpfs var-log-in-ram", "fuse.glusterfs etcd1:/pi1"], []),
        (["nfs4 var-log@nas:/srv/log/pi1"], []),
        (["tmpfs log2ram", "tmpfs var-log-in-ram"], ["tmpfs log2ram"]),
        (["fuse.glusterfs etcd1:/pi1", "nfs4 nas:/logs"], None),
        (["fuse.sshfs etcd1:/pi1"], None),
    ],
)
def test_undo_unmounts_the_share_and_the_ram_alone(
    tmp_path: Path, lines: list[str], left: list[str] | None, busy: bool
) -> None:
    """Whatever a user has mounted there stays, and what is below it."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "".join(f"{one}\n" for one in (CARD, *(line(TARGET, what) for what in lines)))
    )
    umount = tmp_path / "bin/umount"
    umount.parent.mkdir()
    umount.write_text(f"""#!/bin/sh
        case "{busy} $*" in "True "*" -l "*) ;; True*) exit 32 ;; esac
        for at do :; done
        awk -v "at=$at" '{{ all[NR] = $0 }} $5 == at {{ last = NR }}
            END {{ for (n = 1; n <= NR; n++) if (n != last) print all[n] }}' {mounts} >{mounts}.new
        mv {mounts}.new {mounts}
    """)
    umount.chmod(0o755)
    script = f"set -eu\nRUN_DIR={tmp_path}/run\n{uppermost(str(mounts))}{UNDO.stopped}"
    environment = {**os.environ, "PATH": f"{umount.parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", script], env=environment, check=True)
    stays = [line(TARGET, what) for what in (lines if left is None else left)]
    assert mounts.read_text().splitlines() == [CARD, *stays]
