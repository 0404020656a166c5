"""Test packages: dpkg's answers, decisions, and the scripts, run with an apt that records calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chaos_engine.facts.apt import UNFINISHED, Installed, Packages, PackageState
from chaos_engine.facts.manifest import CHANGING, DIRECTORY
from chaos_engine.operations.apt import APT, compose, plan
from tests.unit.scripts import forbid_mounts

DPKG_QUERY = [  # Debian 12
    "docker.io hold installed ok arm64 20.10.24+dfsg1-1+deb12u1+b2",
    "snapd deinstall config-files ok arm64 2.57.6-1+b7",
    "kubelet install half-configured ok arm64 1.28.15-1.1",
    "modemmanager unknown not-installed ok  ",
    "sudo install installed ok arm64 1.9.13p3-1+deb12u1",
]


def installed(version: str, held: bool = False, complete: bool = True) -> PackageState:
    return PackageState(version, held, complete, "arm64")


def test_removed_packages_do_not_count() -> None:
    assert Installed().parse(DPKG_QUERY) == {
        "docker.io": installed("20.10.24+dfsg1-1+deb12u1+b2", held=True),
        "kubelet": installed("1.28.15-1.1", complete=False),
        "sudo": installed("1.9.13p3-1+deb12u1"),
    }


def test_this_computers_packages() -> None:
    fact = Packages()
    command = fact.command(names=("dpkg", "no-such-package")).get_raw_value()
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    found = fact.parse(ran.stdout.splitlines())
    assert list(found) == ["dpkg"]
    assert found["dpkg"].complete
    native = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    assert found["dpkg"].architecture == native


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("sudo", "snapd", UNFINISHED), ["kubelet", "runc", "sudo"]),
        ((UNFINISHED,), ["kubelet", "runc"]),
        (("docker.io", "kube*"), ["docker.io"]),
    ],
)
def test_what_is_unfinished_is_found_among_all(
    tmp_path: Path, names: tuple[str, ...], found: list[str]
) -> None:
    """dpkg-query prints all packages if it is given no name."""
    lines = [*DPKG_QUERY, "runc install installed reinstreq arm64 1.1.15"]
    (tmp_path / "all").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "dpkg-query").write_text(
        "#!/bin/sh\n[ $# = 3 ] || shift 3\n"
        f'for name; do grep "^$name " {tmp_path}/all; done; [ "$1" != -W ] || cat {tmp_path}/all\n'
    )
    (tmp_path / "dpkg-query").chmod(0o755)
    command = Installed().command(names).get_raw_value()
    ran = subprocess.run(
        ["sh", "-c", f"PATH={tmp_path}:$PATH\n{command}"],
        capture_output=True,
        text=True,
        check=True,
    )
    value = Installed().parse(ran.stdout.splitlines())
    assert sorted(value) == found
    assert sorted(Installed.share(value, names)) == found


def test_each_read_gets_what_it_asked_of_an_answer_with_unfinished_packages() -> None:
    value = {"a": installed("1"), "b": installed("1", complete=False), "c": installed("2")}
    assert [*Installed.share(value, ("a", "d"))] == ["a"]
    assert [*Installed.share(value, (UNFINISHED, "a"))] == ["a", "b"]


def test_a_package_that_may_not_be_on_the_card_yet_is_not_complete() -> None:
    found = {"kubelet": installed("1"), "kubeadm": installed("1"), "runc": installed("1")}
    changing: dict[str, bytes | None] = {CHANGING: b"kubelet\nrun\n+runc=1.2-1\n"}
    assert Packages().compose(found, changing, tuple(found)) == {
        "kubelet": installed("1", complete=False),
        "kubeadm": installed("1"),
        "runc": installed("1", complete=False),
    }
    assert Packages().compose(found, {}, tuple(found)) == found


@pytest.mark.parametrize(
    ("found", "missing", "unheld"),
    [
        ({"a": installed("1", held=True)}, {}, ()),
        ({"a": installed("1")}, {}, ("a",)),
        ({}, {"a": "1"}, ("a",)),
        ({"a": installed("2", held=True)}, {"a": "1"}, ("a",)),
        ({"a": installed("1", complete=False)}, {"a": "1"}, ("a",)),
    ],
)
def test_decides(
    found: dict[str, PackageState], missing: dict[str, str], unheld: tuple[str, ...]
) -> None:
    assert plan({"a": "1"}, ["a"], found) == (missing, unheld)


def test_any_version_will_do_where_none_is_wanted() -> None:
    assert plan({"a": None}, [], {"a": installed("7")}) == ({}, ())


def program(folder: Path, name: str, body: str = "") -> None:
    """Make a program that records how it was called, then does what BODY says."""
    log = folder / "log"
    environment = "env | grep -E '^(DEBIAN_FRONTEND|NEEDRESTART_SUSPEND)=' | sort"
    (folder / name).write_text(
        f'#!/bin/sh\necho "{name} $*" >> {log}\n{environment} >> {log}\n{body}\n'
    )
    (folder / name).chmod(0o755)


def run(script: str, folder: Path, before: str = "") -> tuple[int, list[str], str]:
    """Run a script with an apt that only records how it was called."""
    for name in ("apt-get", "apt-mark", "dpkg"):
        if not (folder / name).exists():
            program(folder, name)
    forbid_mounts(folder)
    text = before + script.replace("export PATH=", f"export PATH={folder}:")
    text = text.replace("/run/chaos-engine", str(folder / "run"))
    text = text.replace(DIRECTORY, f"{folder}/var")
    ran = subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, timeout=60, check=False
    )
    return ran.returncode, (folder / "log").read_text().splitlines(), ran.stderr


def test_installs_at_the_version_and_holds(tmp_path: Path) -> None:
    status, log, _ = run(compose({"kubelet": "1.2-1", "a b": None}, ["kubelet"]), tmp_path)
    assert status == 0
    calls = [line for line in log if "=" not in line.split()[0]]
    assert log.count("NEEDRESTART_SUSPEND=1") == len(calls)
    assert log.count("DEBIAN_FRONTEND=noninteractive") == len(calls)
    calls = [line for line in calls if " -s " not in line and "showhold" not in line]
    assert calls[0].startswith("dpkg --configure -a")
    assert calls[1] == "apt-get -q -o Acquire::Retries=1 update"
    assert calls[2].endswith("-- kubelet=1.2-1 a b")
    assert "-o DPkg::Lock::Timeout=300" in calls[2]
    assert "--no-install-recommends" in calls[2]
    assert calls[3:] == ["apt-mark hold kubelet"]


SIMULATED = """\
Reading package lists...
Remv snapd [2.63+24.04] [squashfs-tools:arm64 ]
Remv squashfs-tools [1:4.6]
Inst runc [1.1.12] (1.2.5 Ubuntu:24.04 [arm64]) []
Inst docker.io (27.5.1 Ubuntu:24.04 [arm64])
Inst tini (0.19 Ubuntu:24.04 [arm64])
Conf runc (1.2.5 Ubuntu:24.04 [arm64])
"""


def test_what_apt_will_do_is_noted_with_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "said").write_text(SIMULATED)
    program(tmp_path, "apt-get", f'case "$*" in *-s*) cat {tmp_path}/said ;; esac')
    program(tmp_path, "apt-mark", '[ "$1" != showauto ] || echo squashfs-tools')
    dpkg = "printf '%s\\n' 'config-files tini' 'installed runc' 'config-files other'"
    program(tmp_path, "dpkg-query", dpkg)
    status, _, errors = run(compose({"docker.io": None}, []), tmp_path)
    assert status == 0, errors
    lines = (tmp_path / "var/manifest").read_text().splitlines()
    assert [line.split("\t")[1:4] for line in lines] == [
        ["removed", "2.63+24.04 manual -", "snapd"],
        ["removed", "1:4.6 auto -", "squashfs-tools"],
        ["package", "1.1.12", "runc"],
        ["package", "absent", "docker.io"],
        ["package", "config", "tini"],
    ]


NEW = "Inst docker.io (27.5.1 Ubuntu:24.04 [arm64])\n"
UPGRADE = "Inst runc [1.1.12] (1.2.5 Ubuntu:24.04 [arm64]) []\n"


@pytest.mark.parametrize(
    ("simulated", "waits"),
    [
        (NEW, False),
        (NEW + UPGRADE, True),
        (NEW + "Remv snapd [2.63]\n", True),
        ("Remv snapd [2.63]\n", True),
        ("E: no idea\n", True),
    ],
)
def test_dpkg_waits_for_each_file_unless_all_its_packages_are_known_and_new(
    tmp_path: Path, simulated: str, waits: bool
) -> None:
    (tmp_path / "said").write_text(simulated)
    program(tmp_path, "apt-get", f'case "$*" in *-s*) cat {tmp_path}/said ;; esac')
    _, log, _ = run(compose({"docker.io": None}, []), tmp_path)
    (install,) = [line for line in log if "Dpkg::Options" in line]
    assert ("--force-unsafe-io" not in install) == waits
    without = "Dpkg::Options::=--path-exclude=/usr/share/doc/*/changelog*" in install.split()
    assert without != waits, "only new packages come without changelogs"


def test_new_packages_are_noted_with_their_versions(tmp_path: Path) -> None:
    """A run after a power cut cannot ask dpkg for them."""
    (tmp_path / "said").write_text(NEW + "Inst a:armhf (2:1-1 x [armhf])\n")
    copied = f"cp {tmp_path}/var/packages-changing {tmp_path}/noted 2>/dev/null"
    said = f"cat {tmp_path}/said"
    program(tmp_path, "apt-get", f'case "$*" in -s*) {said} ;; *install*) {copied} ;; esac')
    status, _, errors = run(compose({"docker.io": None}, []), tmp_path)
    assert status == 0, errors
    assert (tmp_path / "noted").read_text() == "+docker.io=27.5.1\n+a=2:1-1\n"


def test_what_an_interruption_has_left_damaged(tmp_path: Path) -> None:
    """dpkg does not know all new packages, because its notes of them were in RAM."""
    known = [
        "docker.io install ok installed",
        "runc install reinstreq half-installed",
        "snapd deinstall ok config-files",
        "kmod deinstall ok half-installed",
        "sudo install ok installed",
    ]
    program(tmp_path, "dpkg-query", f"printf '%s\\n' {' '.join(map(repr, known))}")
    (tmp_path / "changing").write_text("+docker.io=1\n+tini=0.19\n+snapd=2:1\nkmod\nufw\n")
    text = APT[: APT.index("\nconfigure || ")] + f"\nCHANGING={tmp_path}/changing; damaged"
    ran = subprocess.run(
        ["sh", "-c", f"PATH={tmp_path}:$PATH; {text}"], capture_output=True, text=True, check=True
    )
    assert sorted(ran.stdout.split()) == ["+snapd=2:1", "+tini=0.19", "docker.io", "runc"]


@pytest.mark.parametrize(("available", "size"), [(1000, "744"), (512, "256"), (511, "")])
def test_downloads_go_to_ram_where_it_has_256_mib_for_them_and_as_much_for_others(
    tmp_path: Path, available: int, size: str
) -> None:
    (tmp_path / "meminfo").write_text(f"MemFree: 5 kB\nMemAvailable: {available << 10} kB\n")
    text = APT[: APT.index("\nconfigure || ")].replace("/proc/meminfo", f"{tmp_path}/meminfo")
    ran = subprocess.run(
        ["sh", "-c", f'{text}\necho "room=$(archives_in_ram)"'],
        capture_output=True,
        text=True,
        check=True,
    )
    room = f"{size}m:/var/cache/apt/archives" if size else ""
    assert ran.stdout.splitlines()[-1] == f"room={room}"


UPDATED = "apt-get -q -o Acquire::Retries=1 update"


@pytest.mark.parametrize(
    ("between", "apt", "updates"),
    [
        ("", 'case "$*" in *"-s "*) echo "Inst a (1)" ;; esac', 1),
        ("echo deb new >> SOURCES", 'case "$*" in *"-s "*) echo "Inst a (1)" ;; esac', 2),
        ("echo newer > LISTS/a_Packages", 'case "$*" in *"-s "*) echo "Inst a (1)" ;; esac', 2),
        ("", 'case "$*" in *"-s "*) exit 100 ;; esac', 2),
        (
            "",
            'case "$*" in *update) echo "W: Failed to fetch a" ;; *) echo "Inst a (1)" ;; esac',
            2,
        ),
        ("", 'case "$*" in *"-s "*) echo "Inst a (1)" ;; *update) ;; *) exit 100 ;; esac', 2),
        ("sed -i s/^/-/ REFRESHED", 'case "$*" in *"-s "*) echo "Inst a (1)" ;; esac', 2),
    ],
    ids=[
        "at once",
        "another source",
        "another list",
        "not in the lists",
        "a list not fetched",
        "not installed",
        "ten minutes later",
    ],
)
def test_lists_are_fetched_again_only_where_they_may_be_old(
    tmp_path: Path, between: str, apt: str, updates: int
) -> None:
    for folder in ("apt/sources.list.d", "lists"):
        (tmp_path / folder).mkdir(parents=True)
    sources = tmp_path / "apt/sources.list.d/debian.sources"
    sources.write_text("deb old\n")
    (tmp_path / "lists/a_Packages").write_text("a\n")
    program(tmp_path, "apt-get", apt)
    script = compose({"a": None}, []).replace("/etc/apt", f"{tmp_path}/apt")
    script = script.replace("/var/lib/apt/lists", f"{tmp_path}/lists")
    run(script, tmp_path)
    for word, path in (
        ("SOURCES", sources),
        ("LISTS", tmp_path / "lists"),
        ("REFRESHED", tmp_path / "run/refreshed"),
    ):
        between = between.replace(word, str(path))
    subprocess.run(["sh", "-c", between], check=True)
    _, log, _ = run(script, tmp_path)
    assert log.count(UPDATED) == updates


def test_holding_alone_needs_no_lists(tmp_path: Path) -> None:
    _, log, _ = run(compose({}, ["a"]), tmp_path)
    assert not [line for line in log if "update" in line]


# apt 2.8 of Ubuntu 24.04
NO_RELEASE = """\
Hit:1 http://archive.ubuntu.com/ubuntu noble InRelease
Err:2 https://apt.kubernetes.io kubernetes-xenial Release
  404  Not Found [IP: 34.107.204.206 443]
Reading package lists...
E: The repository 'https://apt.kubernetes.io kubernetes-xenial Release' does not have a Release file.
N: Updating from such a repository can't be done securely, and is therefore disabled by default.
"""  # noqa: E501
WARNING = f"""\
warning: not all package lists could be refreshed:
{NO_RELEASE.splitlines()[4]}
"""


def test_a_bad_source_is_told_of_and_keeps_nothing_from_being_installed(tmp_path: Path) -> None:
    (tmp_path / "said").write_text(NO_RELEASE)
    program(tmp_path, "apt-get", f'case "$*" in *update) cat {tmp_path}/said; exit 100 ;; esac')
    status, log, errors = run(compose({"a": None}, ["a"]), tmp_path)
    assert (status, errors) == (0, WARNING)
    assert [line for line in log if line.endswith("-- a")]
    assert log[-3].startswith("apt-mark hold a")


def test_a_package_that_cannot_be_had_fails_after_the_lists_errors(tmp_path: Path) -> None:
    (tmp_path / "said").write_text(NO_RELEASE)
    failing = f"cat {tmp_path}/said; exit 100"
    program(
        tmp_path,
        "apt-get",
        f'case "$*" in *update) {failing} ;; *) echo "E: no package a" >&2; exit 100 ;; esac',
    )
    status, log, errors = run(compose({"a": None}, ["a"]), tmp_path)
    assert status == 100
    assert errors.startswith(f"{WARNING}E: no package a\napt-get failed: fix what it says")
    assert not [line for line in log if line.startswith("apt-mark")]


def test_an_update_that_fails_in_other_words_is_told_in_these(tmp_path: Path) -> None:
    program(tmp_path, "apt-get", 'case "$*" in *update) echo killed >&2; exit 137 ;; esac')
    status, _, errors = run(compose({"a": None}, []), tmp_path)
    assert status == 0
    assert errors.endswith("refreshed:\nkilled\n")


@pytest.mark.parametrize(("busy", "status"), [(1, 0), (9, 1)])
def test_a_locked_list_is_waited_for_and_then_given_up(
    tmp_path: Path, busy: int, status: int
) -> None:
    program(
        tmp_path,
        "apt-get",
        f'[ "$(grep -c update {tmp_path}/log)" -gt {busy} ] || '
        '{ echo "E: Could not get lock /var/lib/apt/lists/lock"; exit 100; }',
    )
    script = compose({"a": None}, []).replace("APT_SECONDS=300", "APT_SECONDS=2")
    # each look at the clock is a second later
    clock = f"cut() {{ echo x >> {tmp_path}/clock; wc -l < {tmp_path}/clock; }}\n"
    ended, log, errors = run(script.replace("sleep 2", ":"), tmp_path, before=clock)
    assert ended == status, errors
    assert any("install" in line for line in log) == (status == 0)
    assert ("E: Could not get lock /var/lib/apt/lists/lock" in errors) == (status != 0)
    assert ("wait for its end, or end it, and run again" in errors) == (status != 0)


def test_dpkg_is_waited_for_where_another_installs(tmp_path: Path) -> None:
    program(
        tmp_path,
        "dpkg",
        f'[ "$(grep -c "^dpkg " {tmp_path}/log)" -gt 2 ] || '
        '{ echo "dpkg: error: dpkg frontend lock was locked by apt process"; exit 2; }',
    )
    ended, log, errors = run(compose({}, ["a"]).replace("sleep 2", ":"), tmp_path)
    assert ended == 0, errors
    assert len([line for line in log if line.startswith("dpkg --configure")]) == 3


def test_a_dpkg_that_fails_stops_the_script(tmp_path: Path) -> None:
    program(tmp_path, "dpkg", "echo dpkg: error processing package docker.io; exit 1")
    ended, log, errors = run(compose({}, ["a"]), tmp_path)
    assert ended == 1
    assert "error processing package docker.io" in errors
    assert not [line for line in log if line.startswith("apt-mark")]
