"""Test the removal of packages: apt's simulation, refusals, and the script, run with programs that
record how they were called."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.deploys.packages import PackagesSettings
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.facts.apt import PackageState
from chaos_engine.facts.cloud_init import CloudInitState
from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.packages import (
    _MAY_BE_INSTALLED,
    OPTIONS,
    Removal,
    RemovalPlan,
    Simulation,
)
from chaos_engine.facts.systemd import RECORDS
from chaos_engine.operations.engine.shell import NOTES, PRELUDE
from chaos_engine.operations.packages.packages import (
    COMPANIONS,
    NEEDED,
    NEVER_PINNED,
    _pin,
    check_removal,
    compose,
    warnings,
)
from tests.unit.nodes import Nodes
from tests.unit.scripts import Sandbox

# Debian 13, with a package that depends on avahi-daemon
SIMULATED = """\
installed avahi-daemon
installed snapd
Remv libnss-mdns [0.15.1-4+b1]
Remv avahi-daemon [0.8-16] [libnss-mdns:amd64 ]
Remv snapd:amd64 [2.68.3-3+deb13u1+b7]
snap core24
snap lxd
snap snapd
"""
NETWORK = CloudInitState(network=("/etc/netplan/50-cloud-init.yaml",))


def test_reads_a_simulation() -> None:
    assert Simulation().parse(SIMULATED.splitlines()) == Removal(
        installed=("avahi-daemon", "snapd"),
        removes=("avahi-daemon", "libnss-mdns", "snapd"),
        snaps=("lxd",),
    )


def test_nothing_installed_is_an_answer() -> None:
    assert Simulation().parse([]) == Removal()


def test_another_line_is_no_answer() -> None:
    with pytest.raises(LookupError):
        Simulation().parse(["apt: command not found"])


def program(folder: Path, name: str, body: str = "") -> None:
    """Make a program that records how it was called, then does what BODY says."""
    (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/log\n{body}\n')
    (folder / name).chmod(0o755)


def simulate(folder: Path, *names: str, info: str = "snapd.md5sums lvm2.md5sums") -> Removal:
    """Return what the fact says with the programs in a folder.

    + info: the names of the files that dpkg has of packages
    """
    for name in info.split():
        (folder / name).touch()
    command = Simulation().command(names=names).get_raw_value()
    command = command.replace("/var/lib/dpkg/info", str(folder))
    ran = subprocess.run(
        ["sh", "-c", f"PATH={folder}:$PATH\n{command}"], capture_output=True, text=True, check=True
    )
    return Simulation().process(ran.stdout.splitlines())


def test_nothing_is_simulated_where_nothing_is_installed(tmp_path: Path) -> None:
    program(tmp_path, "apt-get")
    program(tmp_path, "dpkg-query", "echo snapd config-files; echo lvm2 not-installed")
    assert simulate(tmp_path, "snapd", "lvm2") == Removal()
    assert "apt-get" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    "info", ["", "snap.md5sums snapd.list lvm2.postrm", "libsnapd:arm64.md5sums snapd:arm64.list"]
)
def test_no_program_is_started_where_none_is_installed(tmp_path: Path, info: str) -> None:
    for name in ("apt-get", "dpkg-query", "lsblk"):
        program(tmp_path, name)
    assert simulate(tmp_path, "snapd", "lvm2", info=info) == Removal()
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("info", ["lvm2.md5sums", "lvm2:arm64.md5sums"])
def test_dpkg_is_asked_where_one_may_be_installed(tmp_path: Path, info: str) -> None:
    program(tmp_path, "dpkg-query")
    simulate(tmp_path, "snapd", "lvm2", info=info)
    assert (tmp_path / "log").read_text().endswith(" snapd lvm2\n")


def test_each_package_of_this_computer_is_found_without_a_program() -> None:
    form = "${db:Status-Status} ${Package}\n"
    known = subprocess.check_output(["dpkg-query", "-W", "-f", form], text=True).splitlines()
    there = [line.split()[1] for line in known if line.startswith("installed ")]
    text = f'{_MAY_BE_INSTALLED} PATH=; for one; do may_be_installed "$one" || echo "$one"; done'
    asked = [*there[:: len(there) // 50 + 1], "libc6", "no-such-package"]
    assert "libc6" in there
    missed = subprocess.check_output(["/bin/sh", "-c", text, "sh", *asked], text=True)
    assert missed == "no-such-package\n"


def test_what_apt_simulates_is_the_plan() -> None:
    one, names = PackageState("1", False, True), ("snapd", "lvm2")
    found = Removal(("snapd",), ("snapd",), lvm_in_use=True)
    assert RemovalPlan().compose(Removal(), {}, names) == Removal()
    assert RemovalPlan().compose(found, {"snapd": one, "lvm2": one}, names) == found


def test_a_package_whose_first_installation_was_interrupted_is_told() -> None:
    half = {"snapd": PackageState("", False, False)}
    found = RemovalPlan().compose(Removal(), half, ("snapd", "lvm2"))
    assert found.installed == ("snapd",)
    with pytest.raises(
        NodeError, match=r"cannot remove snapd: the installation is damaged; see dpkg --audit\."
    ):
        check_removal(found, NETWORK)


def test_only_what_is_installed_is_simulated(tmp_path: Path) -> None:
    program(tmp_path, "dpkg-query", "echo snapd installed; echo plymouth half-configured")
    program(tmp_path, "lsblk")
    program(tmp_path, "apt-get", "echo Reading...; echo 'Remv snapd [2.68]'")
    found = simulate(tmp_path, "snapd", "plymouth", "lvm2")
    assert found.installed == ("plymouth", "snapd")
    assert found.removes == ("snapd",)
    (asked,) = [line for line in (tmp_path / "log").read_text().splitlines() if " -s " in line]
    assert OPTIONS in asked
    assert asked.endswith("remove plymouth snapd")
    # a simulation that leaves nothing behind
    for option in (
        "Dir::Cache::pkgcache=",
        "Dir::Cache::srcpkgcache=",
        "Dir::Log::Planner=/dev/null",
    ):
        assert f"-o {option} " in asked
    with pytest.raises(NodeError, match="apt would leave plymouth installed"):
        check_removal(found, NETWORK)


def test_lvm2_is_left_out_where_there_are_volumes(tmp_path: Path) -> None:
    program(tmp_path, "dpkg-query", "echo snapd installed; echo lvm2 installed")
    program(tmp_path, "lsblk", "echo ext4; echo LVM2_member")
    program(tmp_path, "apt-get", "echo 'Remv snapd [2.68]'")
    found = simulate(tmp_path, "snapd", "lvm2")
    assert found.installed == ("snapd",)
    assert found.lvm_in_use
    assert warnings(found) == ["lvm2 is not removed: the node has logical volumes"]


def test_lvm2_alone_where_there_are_volumes_is_nothing_to_do(tmp_path: Path) -> None:
    program(tmp_path, "dpkg-query", "echo lvm2 installed")
    program(tmp_path, "lsblk", "echo LVM2_member")
    assert simulate(tmp_path, "lvm2") == Removal(lvm_in_use=True)


def test_what_apt_refuses_is_told(tmp_path: Path) -> None:
    program(tmp_path, "dpkg-query", "echo lvm2 installed")
    program(tmp_path, "lsblk")
    program(tmp_path, "apt-get", "echo 'E: Held packages were changed.'; echo 'E: b'; exit 100")
    found = simulate(tmp_path, "lvm2")
    assert found.error == "Held packages were changed."
    with pytest.raises(NodeError, match=r"apt cannot remove lvm2: Held packages were changed\."):
        check_removal(found, CloudInitState())


@pytest.mark.parametrize(
    "name",
    [
        "openssh-server",
        "sudo",
        "netplan.io",
        "network-manager",
        "systemd",
        "systemd-resolved",
        "linux-image-6.8.0-1020-raspi",
        "linux-raspi",
        "flash-kernel",
        "piboot-try",
        "raspi-firmware",
        "docker.io",
        "containerd",
        "kubelet",
        "python3",
        "initramfs-tools-core",
        "udev",
        "dhcpcd-base",
        "glusterfs-client",
        "rpi-eeprom",
        "rpi-connect",
    ],
)
def test_a_node_that_would_lose_what_it_needs_is_refused(name: str) -> None:
    found = Removal(installed=("snapd",), removes=("snapd", name))
    with pytest.raises(NodeError, match=f"removing snapd would also remove {re.escape(name)},"):
        check_removal(found, NETWORK)


@pytest.mark.parametrize(
    "name",
    [
        "ubuntu-server",
        "plymouth-theme-ubuntu-text",
        "libnss-mdns",
        "python3-apt",
        "lxd",
        "rpi-cloud-init-mods",
    ],
)
def test_what_goes_along_is_told(name: str) -> None:
    found = Removal(installed=("snapd",), removes=(name, "snapd"))
    check_removal(found, NETWORK)
    assert warnings(found) == [f"removing snapd also removes dependent packages: {name}"]


def test_the_pattern_means_the_same_to_grep() -> None:
    names = ["udev", "dhcpcd-base", "initramfs-tools", "libudev1", "cpio", "sudo-rs", "xsudo"]
    names += ["rpi-eeprom", "rpi-chromium-mods", "rpi-cloud-init-mods"]
    ran = subprocess.run(
        ["grep", "-xE", NEEDED.pattern], input="\n".join(names), capture_output=True, text=True
    )
    assert ran.stdout.split() == [name for name in names if NEEDED.fullmatch(name)]


@pytest.mark.parametrize(
    ("removes", "more", "reason"),
    [
        (("avahi-daemon",), {"mdns": True}, "the node is reached by a .local name"),
        (
            ("snapd",),
            {"snaps": ("lxd",)},
            "snapd is to be removed, but snaps are installed: lxd; remove",
        ),
        (
            ("cloud-init",),
            {"cloud": CloudInitState(running=True)},
            "cloud-init is still setting the node up; wait for it",
        ),
        (
            ("cloud-init-base",),
            {"cloud": CloudInitState()},
            "cloud-init is to be removed, but nothing else configures the network",
        ),
    ],
)
def test_refuses(removes: tuple[str, ...], more: dict[str, Any], reason: str) -> None:
    found = Removal(installed=removes, removes=removes, snaps=more.get("snaps", ()))
    with pytest.raises(NodeError) as error:
        check_removal(found, more.get("cloud", NETWORK), more.get("mdns", False))
    assert reason in str(error.value)


def test_what_is_gone_already_forbids_nothing() -> None:
    check_removal(Removal(), CloudInitState(running=True), mdns=True)


def test_the_pin_leaves_out_what_others_may_need_again() -> None:
    (file,), absent = _pin(["snapd", "apparmor", "lvm2", "cloud-init"])
    assert absent == []
    assert b"\nPackage: cloud-init cloud-init-base snapd\nPin: release *\n" in file.data
    assert _pin(sorted(NEVER_PINNED)) == ([], ["/etc/apt/preferences.d/chaos-engine-removed"])
    assert "cloud-init" in COMPANIONS


def run(
    folder: Path, installed: list[str], removes: list[str]
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script with programs that record their calls below the folder."""
    for name in ("apt-get", "apt-mark", "apt-cache", "dpkg", "dpkg-query", "systemctl"):
        if not (folder / name).exists():
            program(folder, name)
    text = (PRELUDE + NOTES + compose(installed, removes)).replace(DIRECTORY, f"{folder}/var")
    text = text.replace(RECORDS, f"{folder}/run")
    text = text.replace("export PATH=", f"export PATH={folder}:")
    ran = subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, timeout=60, check=False
    )
    return ran, (folder / "log").read_text().splitlines()


def position(log: list[str], text: str) -> int:
    return next(n for n, line in enumerate(log) if text in line)


OFFERED = 'shift; for one; do echo "$one | 1 | http://archive Packages"; done'
VERSIONS = 'case "$*" in *Version*) shift 3; for one; do printf "%s=2.68 " "$one"; done ;; esac'


def test_removes_all_at_once_with_the_timers_stopped(tmp_path: Path) -> None:
    program(tmp_path, "apt-cache", OFFERED)
    program(tmp_path, "dpkg-query", VERSIONS)
    ran, log = run(tmp_path, ["plymouth", "snapd"], ["plymouth", "plymouth-label", "snapd"])
    assert ran.returncode == 0, ran.stderr
    removal = position(log, f"{OPTIONS} remove -- plymouth snapd")
    assert position(log, "systemctl stop apt-daily.timer") < removal
    assert log[-1] == "systemctl start apt-daily.timer apt-daily-upgrade.timer"
    removals = [line for line in log if f"{OPTIONS} remove --" in line and " -s " not in line]
    assert len(removals) == 1
    assert not [line for line in log if "update" in line]


def test_records_each_package_once(tmp_path: Path) -> None:
    program(tmp_path, "apt-cache", OFFERED)
    program(tmp_path, "dpkg-query", VERSIONS)
    program(tmp_path, "apt-mark", 'test "$1" != showauto || echo snapd')
    run(tmp_path, ["snapd"], ["snapd", "a.b"])
    first = ["removed 2.68 auto - snapd", "removed 2.68 manual - a.b"]
    assert Sandbox(tmp_path).manifest == first
    program(tmp_path, "dpkg-query", VERSIONS.replace("2.68", "3"))
    run(tmp_path, ["snapd"], ["axb", "snapd"])
    assert Sandbox(tmp_path).manifest == [*first, "removed 3 manual - axb"]
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700


def test_what_is_still_there_afterwards_is_an_error(tmp_path: Path) -> None:
    program(tmp_path, "apt-cache", OFFERED)
    program(tmp_path, "dpkg-query", 'case "$*" in *Status*) echo snapd half-installed ;; esac')
    ran, log = run(tmp_path, ["snapd"], ["snapd"])
    assert ran.returncode == 1
    assert "still installed after" not in ran.stdout
    assert "still installed: snapd" in ran.stderr
    assert log[-1].startswith("systemctl start apt-daily.timer")


def test_a_removal_that_fails_starts_the_timers_again(tmp_path: Path) -> None:
    program(tmp_path, "apt-cache", OFFERED)
    program(tmp_path, "dpkg-query", VERSIONS)
    program(tmp_path, "apt-get", 'case "$*" in *false*) exit 100 ;; esac')
    ran, log = run(tmp_path, ["snapd"], ["snapd"])
    assert ran.returncode == 100
    assert log[-1].startswith("systemctl start apt-daily.timer")


def test_programs_get_the_usual_umask(tmp_path: Path) -> None:
    program(tmp_path, "apt-cache", OFFERED)
    program(tmp_path, "dpkg-query", VERSIONS)
    program(tmp_path, "apt-get", f"umask > {tmp_path}/umask")
    run(tmp_path, ["snapd"], ["snapd"])
    assert (tmp_path / "umask").read_text() == "0022\n"


def test_what_the_node_needs_is_marked_against_autoremove(tmp_path: Path) -> None:
    program(tmp_path, "apt-cache", OFFERED)
    program(tmp_path, "dpkg-query", VERSIONS)
    program(
        tmp_path,
        "apt-get",
        'case "$*" in *--auto-remove*) printf "Remv %s [1]\\n" cpio udev dhcpcd-base ;; esac',
    )
    _, log = run(tmp_path, ["snapd"], ["snapd"])
    assert position(log, "apt-mark manual udev dhcpcd-base") < position(log, f"{OPTIONS} remove")
    marked = [line for line in Sandbox(tmp_path).manifest if line.startswith("manual ")]
    assert marked == ["manual auto udev", "manual auto dhcpcd-base"]


def test_lists_are_refreshed_before_a_package_counts_as_lost(tmp_path: Path) -> None:
    program(tmp_path, "apt-cache", f"grep -q 'apt-get .* update' {tmp_path}/log || exit; {OFFERED}")
    program(tmp_path, "dpkg-query", VERSIONS)
    ran, log = run(tmp_path, ["snapd"], ["snapd", "plymouth"])
    assert ran.returncode == 0, ran.stderr
    assert len([line for line in log if line.endswith(" update")]) == 1
    assert list((tmp_path / "var/packages").iterdir()) == []


def test_a_package_that_no_archive_has_is_kept(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/tool.conf").write_text("changed\n")
    (tmp_path / "prerm").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "prerm").chmod(0o755)
    control = (
        "Package: tool\nStatus: install ok installed\nMaintainer: A <a@example.org>\n"
        "Architecture: all\nVersion: 1\nConffiles:\n /etc/tool.conf 0123\nDescription: a tool\n a b"
    )
    program(
        tmp_path,
        "dpkg-query",
        f"""case "$*" in
  *Conffiles*) printf '\\n {tmp_path}/etc/tool.conf 0123\\n {tmp_path}/etc/gone.conf 0123\\n' ;;
  *Version*) printf tool=1 ;;
  -L*) printf '%s\\n' /. {tmp_path}/etc {tmp_path}/etc/tool.conf /no/such/file 'diverted by x' ;;
  -s*) printf '%s\\n' '{control}' ;;
  *prerm) echo {tmp_path}/prerm ;;
esac""",
    )
    ran, _ = run(tmp_path, ["tool"], ["tool"])
    assert ran.returncode == 0, ran.stderr
    kept = tmp_path / "var/packages/tool.deb"
    assert [path.name for path in kept.parent.iterdir()] == ["tool.deb"]

    def deb(*words: str) -> str:
        return subprocess.run(
            ["dpkg-deb", *words], capture_output=True, text=True, check=True
        ).stdout

    assert "Conffiles" not in deb("-f", str(kept))
    assert "Description: a tool\n a b" in deb("-f", str(kept))
    deb("-x", str(kept), str(tmp_path / "out"))
    assert (tmp_path / f"out{tmp_path}/etc/tool.conf").read_text() == "changed\n"
    deb("-e", str(kept), str(tmp_path / "control"))
    assert (tmp_path / "control/conffiles").read_text() == f"{tmp_path}/etc/tool.conf\n"
    assert (tmp_path / "control/prerm").exists()


def test_by_default_apparmor_stays() -> None:
    assert "apparmor" not in PackagesSettings().packages_absent
    assert len(PackagesSettings().packages_absent) == 7


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["snapd", "sudo"], "a work node needs sudo; do not list packages"),
        (["docker.io"], "a work node needs docker.io"),
        (["snapd; rm"], "it has to be the name of a Debian package"),
    ],
)
def test_a_package_that_the_node_needs_cannot_be_named(names: list[str], message: str) -> None:
    with (
        Nodes("pi1", data={"chaos_packages_absent": names}).on(),
        pytest.raises(SettingsError) as error,
    ):
        PackagesSettings.resolve()
    assert message in str(error.value)
    assert "chaos_packages_absent" in str(error.value)
    assert "wanted: names of packages to remove" in str(error.value)
