"""Test kernel modules and parameters."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.sysctl import BootSetting, KernelModules, Sysctl, Sysctls
from chaos_engine.operations.engine.shell import NOTES
from chaos_engine.operations.files import Plan, script
from chaos_engine.operations.sysctl import check_lasting, compose, compose_notes, render
from tests.unit.asking import ask
from tests.unit.scripts import PLACES, Sandbox

WANTED = {"net.ipv4.ip_forward": "1"}


def answer(texts: dict[str, str], *names: str) -> dict[str, Sysctl]:
    """Return the fact's value for files by their paths, and for the names of parameters."""
    return Sysctls().compose({path: text.encode() for path, text in texts.items()}, names=names)


def test_reads_the_value_now_and_what_boot_sets() -> None:
    found = answer(
        {
            "/etc/sysctl.d/99-kubernetes.conf": "# our own\nnet.ipv4.ip_forward = 1\n",
            "/etc/sysctl.d/99-sysctl.conf": "net/ipv4/ip_forward=0\nkernel.sysrq=1\n",
            "/proc/sys/net/ipv4/ip_forward": "0\n",
        },
        "net.ipv4.ip_forward",
        "net.bridge.bridge-nf-call-iptables",
    )
    assert found == {
        "net.ipv4.ip_forward": Sysctl(
            "0",
            (
                BootSetting("/etc/sysctl.d/99-kubernetes.conf", "net/ipv4/ip_forward", "1"),
                BootSetting("/etc/sysctl.d/99-sysctl.conf", "net/ipv4/ip_forward", "0"),
            ),
        ),
        "net.bridge.bridge-nf-call-iptables": Sysctl(),
    }


def test_a_value_of_several_words_and_a_tolerated_failure() -> None:
    texts = {
        "/etc/sysctl.d/a.conf": "-kernel.x = 2\n",
        "/proc/sys/net/ipv4/ping_group_range": "0\t2147483647\n",
    }
    found = answer(texts, "kernel.x", "net.ipv4.ping_group_range")
    assert found["net.ipv4.ping_group_range"].live == "0 2147483647"
    assert found["kernel.x"].boot == (BootSetting("/etc/sysctl.d/a.conf", "kernel/x", "2"),)


def test_this_computers_parameters_and_modules() -> None:
    found = ask(Sysctls, names=("kernel.ostype", "no.such"))
    assert found["kernel.ostype"].live == "Linux"
    assert found["no.such"].live is None
    command = KernelModules().command(names="no_such_module").get_raw_value()
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert KernelModules().parse(ran.stdout.splitlines()) == {"no_such_module": "missing"}


def test_a_module_that_the_kernel_lacks_refuses_the_node() -> None:
    with pytest.raises(NodeError, match=r"no module br_netfilter\. .*reboot.*linux-modules-extra"):
        check_lasting("kubernetes", {"overlay": "loaded", "br_netfilter": "missing"}, {}, {})


@pytest.mark.parametrize(
    ("file", "text", "refused"),
    [
        ("/etc/sysctl.d/99-sysctl.conf", "net.ipv4.ip_forward = 0", True),
        ("/usr/lib/sysctl.d/99-zz.conf", "net.ipv4.ip_forward = 0", True),
        ("/etc/sysctl.d/99-sysctl.conf", "net.ipv4.ip_forward = 1", False),
        ("/etc/sysctl.d/10-network.conf", "net.ipv4.ip_forward = 0", False),
        ("/usr/lib/sysctl.d/99-kubernetes.conf", "net.ipv4.ip_forward = 0", False),
        # other names of it
        ("/etc/sysctl.d/99-z.conf", "net.ipv4.conf.all.forwarding = 0", True),
        ("/etc/sysctl.d/99-z.conf", "-net/ipv4/conf/all/forwarding=0", True),
        ("/etc/sysctl.d/99-z.conf", "  net.ipv4.conf.*.forwarding = 0", True),
        ("/etc/sysctl.d/99-z.conf", "net.*.conf.[a-c]ll.forwarding = 0", True),
        ("/etc/sysctl.d/99-z.conf", "net.ipv4.conf.*.forwarding = 1", False),
        ("/etc/sysctl.d/99-z.conf", "net.ipv4.conf.eth0.forwarding = 0", False),
        ("/etc/sysctl.d/10-a.conf", "net.ipv4.conf.*.forwarding = 0", False),
        # what a line names itself, a glob leaves alone
        ("/etc/sysctl.d/99-z.conf", "net.ipv4.ip_forw* = 0", False),
        (
            "/etc/sysctl.d/99-z.conf",
            "-net.ipv4.conf.all.forwarding\nnet.ipv4.conf.*.forwarding = 0",
            False,
        ),
        (
            "/etc/sysctl.d/99-z.conf",
            "net.ipv4.conf.all.forwarding = 0\nnet.ipv4.ip_forward = 1",
            True,
        ),
        ("/etc/sysctl.d/99-z.conf", "#net.ipv4.ip_forward = 0\n; net.ipv4.ip_forward = 0", False),
        ("/etc/sysctl.d/99-z.conf", "net.ipv4.ip_forward = \\\n0", True),
    ],
)
def test_a_file_that_undoes_a_parameter_at_boot_refuses_the_node(
    file: str, text: str, refused: bool
) -> None:
    found = answer({file: text}, "net.ipv4.ip_forward")
    if not refused:
        check_lasting("kubernetes", {}, WANTED, found)
        return
    with pytest.raises(NodeError, match=rf"^{file} sets net\..* at each boot, and so overrides"):
        check_lasting("kubernetes", {}, WANTED, found)


def test_the_files_are_read_by_systemd_at_boot() -> None:
    modules, parameters = render("kubernetes", ["overlay", "br_netfilter"], WANTED)
    assert modules.path == "/etc/modules-load.d/kubernetes.conf"
    assert str(modules.content).endswith("\noverlay\nbr_netfilter\n")
    assert parameters.path == "/etc/sysctl.d/99-kubernetes.conf"
    assert str(parameters.content).endswith("\nnet.ipv4.ip_forward = 1\n")


def run(load: list[str], tmp_path: Path, modprobe: str = ":") -> tuple[int, str]:
    text = "\n".join([PLACES + NOTES, compose_notes(load, WANTED), "settle", compose(WANTED)])
    text = text.replace("/proc/sys", str(tmp_path)).replace(DIRECTORY, f"{tmp_path}/var")
    ran = subprocess.run(
        ["sh", "-ec", f"modprobe() {{ {modprobe}; }}\n{text}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stderr


def test_modules_come_before_parameters(tmp_path: Path) -> None:
    create = f"mkdir -p {tmp_path}/net/ipv4"
    assert run(["br_netfilter"], tmp_path, create) == (0, "")
    assert (tmp_path / "net/ipv4/ip_forward").read_text() == "1\n"


def test_a_value_is_noted_before_the_file_that_sets_it_at_boot(tmp_path: Path) -> None:
    """As the power may be cut in between: the next run then finds the wanted value."""
    box = Sandbox(tmp_path)
    (tmp_path / "net/ipv4").mkdir(parents=True)
    (tmp_path / "net/ipv4/ip_forward").write_text("0\n")
    todo = Plan(write=(box.file("99-kubernetes.conf", "ours"),))
    text = script.compose(todo, apply=compose(WANTED), before=compose_notes([], WANTED))
    cut = f'mv() {{ command mv "$@"; case $* in *{tmp_path}/99*) kill -9 $$ ;; esac; }}'

    ran = box.run(text.replace("/proc/sys", str(tmp_path)), todo.write, before=cut)

    assert ran.returncode == -9
    assert (tmp_path / "99-kubernetes.conf").read_text() == "ours"
    assert "sysctl 0 net/ipv4/ip_forward" in box.manifest


def test_a_module_that_cannot_be_loaded_fails(tmp_path: Path) -> None:
    assert run(["br_netfilter"], tmp_path, "false") == (1, "br_netfilter cannot be loaded\n")


def test_a_parameter_that_does_not_keep_its_value_fails(tmp_path: Path) -> None:
    (tmp_path / "net/ipv4").mkdir(parents=True)
    (tmp_path / "net/ipv4/ip_forward").symlink_to("/dev/null")
    status, errors = run([], tmp_path)
    assert status == 1
    assert "net.ipv4.ip_forward does not become 1" in errors
