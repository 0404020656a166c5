"""Deploy nodes on which root is harder to get.

A password for sudo is asked for once, and works through the reboot. Other ways to become root, and
login shells that interfere, work or are refused with the reason.
"""

from __future__ import annotations

import os
import pty
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import pytest

from tests.acceptance.suites import OPTIONS
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster

NODE = "pi7"
PASSWORD = "ubuntu"
KNOWS_ASKPASS = (0, 2, 11)
"""The first sudo-rs that takes a password from a program (its CHANGELOG)."""


@pytest.fixture(scope="module")
def asking() -> Iterator[Cluster]:
    """Start a lab with one worker whose sudo asks for a password."""
    cluster = Cluster("password")
    cluster.down()
    cluster.up("--workers", NODE, "--sudo-password", NODE, *OPTIONS)
    yield cluster
    cluster.down()


def at_terminal(
    cluster: Cluster, *arguments: str, password: str = PASSWORD
) -> tuple[int, str, int]:
    """Run pyinfra at a terminal, and type the password when it asks.

    Returns the exit status, what it printed, and how often it asked.
    """
    command = [str(LAB), "--name", cluster.name, "run", "--", "pyinfra", "inventory.py", *arguments]
    child, terminal = pty.fork()
    if not child:
        os.chdir(CHECKOUT)
        os.execv(command[0], command)
    printed, asked = "", 0
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side has closed
            break
        if not data:
            break
        printed += data.decode(errors="replace")
        if printed.count("sudo password: ") > asked:
            asked += 1
            os.write(terminal, f"{password}\n".encode())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed, asked


@cache
def sudo_rs(cluster_name: str, program: str = "sudo") -> tuple[int, ...]:
    """Return the version of sudo-rs if a program of the node is that, else ""."""
    found = Cluster(cluster_name).exec(NODE, f"{program} --version 2>&1", ok=False)
    match = re.match(r"sudo-rs (\d+)\.(\d+)\.(\d+)", found)
    return tuple(int(number) for number in match.groups()) if match else ()


@contextmanager
def between(cluster: Cluster, before: str, after: str) -> Iterator[None]:
    """Change the node by a shell command as root before the body, and back after it."""
    cluster.exec(NODE, before)
    try:
        yield
    finally:
        cluster.exec(NODE, after)


@pytest.fixture(autouse=True)
def takes_password(asking: Cluster) -> None:
    """Skip the test if pyinfra cannot give a password to the node's own sudo."""
    version = sudo_rs(asking.name)
    if version and version < KNOWS_ASKPASS:
        pytest.skip(f"the node's sudo is sudo-rs {version}, which knows no -A")


def test_password_is_asked_once_for_a_deploy_with_a_reboot(asking: Cluster) -> None:
    before = asking.boot_id(NODE)
    arguments = ("deploy.py", "-y", "--limit", NODE, "--use-sudo-password")
    status, printed, asked = at_terminal(asking, *arguments)
    assert status == 0, printed
    assert asked == 1
    # the password is the user's name, and that of a system which warnings name
    assert PASSWORD not in re.sub(r"ubuntu(@| [0-9])", "", printed)
    assert asking.boot_id(NODE) != before
    status, printed, asked = at_terminal(asking, *arguments)
    assert status == 0, printed
    assert "Success" not in printed.split("Results:")[0]


def install(*packages: str) -> str:
    """Return the shell command that installs packages."""
    return f"apt-get -qq update && apt-get -qq -y install {' '.join(packages)} >/dev/null 2>&1"


def begins(text: str) -> str:
    """Return the shell command that puts a text before the user's `.bashrc`."""
    return (
        "cp -p /home/ubuntu/.bashrc /root/bashrc; "
        f"(cat <<'END'\n{text}\nEND\ncat /root/bashrc) >/home/ubuntu/.bashrc"
    )


BASHRC = "cp -p /root/bashrc /home/ubuntu/.bashrc"
RULE = "/etc/sudoers.d/90-cloud-init-users"

PRINTS = """\
echo Welcome; printf 'Last login: never'; echo careful >&2
trap 'echo Good bye' EXIT"""


@dataclass(frozen=True)
class Way:
    """A way to become root: commands for the node before and after it, and pyinfra's options."""

    before: str = ":"
    after: str = ":"
    options: tuple[str, ...] = ()
    asked: int = 1


def data(**values: object) -> tuple[str, ...]:
    """Return pyinfra's options for these data."""
    return tuple(word for key, value in values.items() for word in ("--data", f"{key}={value}"))


DOAS = data(_sudo=False, _doas=True)
WORK = {
    "a login shell that prints": Way(begins(PRINTS), BASHRC),
    "the same, and the password given": Way(begins(PRINTS), BASHRC, ("--same-sudo-password",)),
    "su by sudo": Way(options=data(_su_user="root", _use_su_login=True)),
    "doas": Way(
        f"{install('opendoas')}; echo permit nopass ubuntu >/etc/doas.conf",
        "rm /etc/doas.conf",
        DOAS,
        asked=0,
    ),
}


@pytest.mark.parametrize("way", WORK.values(), ids=list(WORK))
def test_a_way_to_be_root_that_works(asking: Cluster, way: Way) -> None:
    size = f"{list(WORK.values()).index(way) + 33}M"
    with between(asking, way.before, way.after):
        status, printed, asked = change(asking, size, *way.options)
    assert (status, asked) == (0, way.asked), printed
    assert f"RuntimeMaxUse={size}" in asking.exec(NODE, JOURNALD)


def change(
    cluster: Cluster, size: str, *options: str, password: str = PASSWORD
) -> tuple[int, str, int]:
    """Change something on the node by pyinfra. Return what `at_terminal` returns."""
    arguments = ("chaos_engine.deploys.journald", "-y", "--limit", NODE)
    sized = data(chaos_journald_max_use=size)
    return at_terminal(cluster, *arguments, *sized, *options, password=password)


JOURNALD = "cat /etc/systemd/journald.conf.d/*"


@dataclass(frozen=True)
class Refused(Way):
    """A way to become root that cannot work, and what a run says about it."""

    says: str = ""
    password: str = PASSWORD


REFUSED = {
    "a wrong password": Refused(
        says=r"incorrect (password|authentication) attempts: the password for sudo is wrong",
        password="wrong",
    ),
    "sudo -i": Refused(
        options=data(_use_sudo_login=True), asked=0, says="_use_sudo_login is set, but sudo -i"
    ),
    "requiretty": Refused(
        "echo Defaults requiretty >/etc/sudoers.d/99",
        "rm /etc/sudoers.d/99",
        asked=0,
        says="you must have a tty to run sudo: sudo requires a terminal",
    ),
    "no rule": Refused(
        f"cp -p {RULE} /root/rule; echo >{RULE}; gpasswd -d ubuntu sudo",
        f"cp -p /root/rule {RULE}; gpasswd -a ubuntu sudo",
        says="ubuntu is not in the sudoers file.*: sudo must allow this user all",
    ),
    "doas without a rule": Refused(
        f"{install('opendoas')}; echo permit ubuntu >/etc/doas.conf",
        "rm /etc/doas.conf",
        DOAS,
        asked=0,
        says="doas: Authentication required: doas must let this user become root",
    ),
    "a login shell that ends": Refused(
        begins("exit"), BASHRC, asked=0, says="the login shell did not run the command"
    ),
    "a login shell that reads": Refused(
        begins("read line"), BASHRC, says="the first line of the script is missing"
    ),
    "fish": Refused(
        f"{install('fish')}; chsh -s /usr/bin/fish ubuntu",
        "chsh -s /bin/bash ubuntu",
        says="scripts arrive changed on the node: .*chsh -s /bin/bash",
    ),
}


@pytest.mark.parametrize("way", REFUSED.values(), ids=list(REFUSED))
def test_a_way_to_be_root_that_cannot_work_is_refused(asking: Cluster, way: Refused) -> None:
    before = asking.exec(NODE, JOURNALD)
    with between(asking, way.before, way.after):
        status, printed, asked = change(asking, "44M", *way.options, password=way.password)
    assert (status, asked) == (1, way.asked), printed
    assert re.search(way.says, " ".join(printed.split())), printed
    assert "Traceback" not in printed
    assert asking.exec(NODE, JOURNALD) == before


def test_sudo_rs_takes_a_password_or_says_why_not(asking: Cluster) -> None:
    if sudo_rs(asking.name):
        pytest.skip("the node's sudo is sudo-rs anyhow")
    if "sudo-rs" not in asking.exec(NODE, "apt-get update >/dev/null; apt-cache pkgnames sudo-rs"):
        pytest.skip("this Debian has none")
    before = f"{install('sudo-rs')}; mv /usr/bin/sudo /usr/bin/sudo.ws; ln -s sudo-rs /usr/bin/sudo"
    with between(asking, before, "mv /usr/bin/sudo.ws /usr/bin/sudo"):
        known = sudo_rs(asking.name, "sudo-rs") >= KNOWS_ASKPASS
        status, printed, asked = change(asking, "55M")
        assert (status, asked) == (0 if known else 1, 1), printed
        if not known:
            said = " ".join(printed.split())
            assert "invalid option provided: the node's sudo is sudo-rs before 0.2.11" in said
            assert "RuntimeMaxUse=55M" not in asking.exec(NODE, JOURNALD)
        # without a password each of them does
        asking.exec(NODE, f"cp -p {RULE} /root/rule; sed -i s/ALL$/NOPASSWD:ALL/ {RULE}")
        try:
            status, printed, asked = change(asking, "56M")
        finally:
            asking.exec(NODE, f"cp -p /root/rule {RULE}")
    assert (status, asked) == (0, 0), printed
    assert "RuntimeMaxUse=56M" in asking.exec(NODE, JOURNALD)
