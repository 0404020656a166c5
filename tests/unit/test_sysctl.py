"""Kernel modules and parameters."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.sysctl import KernelModules, Sysctl, Sysctls, parse_sysctls
from chaos_engine.operations.originals import KEEP
from chaos_engine.operations.sysctl import compose, refuse, render

WANTED = {"net.ipv4.ip_forward": "1"}

# `systemd-sysctl --cat-config` of Ubuntu 24.04, its lines that matter
UBUNTU = [
    "name net.ipv4.ip_forward",
    "name net.bridge.bridge-nf-call-iptables",
    "/proc/sys/net/ipv4/ip_forward:0",
    "# /usr/lib/sysctl.d/10-apparmor.conf",
    "# /etc/sysctl.d/10-kernel-hardening.conf",
    "# /etc/sysctl.d/99-kubernetes.conf",
    "net.ipv4.ip_forward = 1",
    "# /etc/sysctl.d/99-sysctl.conf",
    "net/ipv4/ip_forward=0",
]


def test_reads_the_value_now_and_what_boot_sets_last() -> None:
    assert parse_sysctls(UBUNTU) == {
        "net.ipv4.ip_forward": Sysctl("0", "0", "/etc/sysctl.d/99-sysctl.conf"),
        "net.bridge.bridge-nf-call-iptables": Sysctl(),
    }


def test_a_value_of_several_words_and_a_tolerated_failure() -> None:
    lines = ["/proc/sys/net/ipv4/ping_group_range:0\t2147483647", "# /a.conf", "-kernel.x = 2"]
    found = parse_sysctls(lines)
    assert found["net.ipv4.ping_group_range"].live == "0 2147483647"
    assert found["kernel.x"].configured == "2"


def test_this_computers_parameters_and_modules() -> None:
    command = Sysctls().command(names=("kernel.ostype", "no.such")).get_raw_value()
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    found = Sysctls().parse(ran.stdout.splitlines())
    assert found["kernel.ostype"].live == "Linux"
    assert found["no.such"].live is None
    command = KernelModules().command(names="no_such_module").get_raw_value()
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert KernelModules().parse(ran.stdout.splitlines()) == {"no_such_module": "missing"}


def test_a_module_that_the_kernel_lacks_refuses_the_node() -> None:
    with pytest.raises(NodeError, match=r"no module br_netfilter; .*reboot.*linux-modules-extra"):
        refuse("kubernetes", {"overlay": "loaded", "br_netfilter": "missing"}, {}, {})


@pytest.mark.parametrize(
    ("file", "value", "refused"),
    [
        ("/etc/sysctl.d/99-sysctl.conf", "0", True),
        ("/usr/lib/sysctl.d/99-zz.conf", "0", True),
        ("/etc/sysctl.d/99-sysctl.conf", "1", False),
        ("/etc/sysctl.d/10-network.conf", "0", False),
        ("/etc/sysctl.d/99-kubernetes.conf", "0", False),
    ],
)
def test_a_file_that_undoes_a_parameter_at_boot_refuses_the_node(
    file: str, value: str, refused: bool
) -> None:
    found = {"net.ipv4.ip_forward": Sysctl("1", value, file)}
    if not refused:
        refuse("kubernetes", {}, WANTED, found)
        return
    with pytest.raises(NodeError, match=rf"{file} sets net.ipv4.ip_forward = 0 at each boot"):
        refuse("kubernetes", {}, WANTED, found)


def test_the_files_are_read_by_systemd_at_boot() -> None:
    modules, parameters = render("kubernetes", ["overlay", "br_netfilter"], WANTED)
    assert modules.path == "/etc/modules-load.d/kubernetes.conf"
    assert str(modules.content).endswith("\noverlay\nbr_netfilter\n")
    assert parameters.path == "/etc/sysctl.d/99-kubernetes.conf"
    assert str(parameters.content).endswith("\nnet.ipv4.ip_forward = 1\n")


def run(load: list[str], tmp_path: Path, modprobe: str = ":") -> tuple[int, str]:
    script = KEEP + compose(load, {"net.ipv4.ip_forward": "1"})
    script = script.replace("/proc/sys", str(tmp_path)).replace(DIRECTORY, f"{tmp_path}/var")
    ran = subprocess.run(
        ["sh", "-ec", f"modprobe() {{ {modprobe}; }}\n{script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stderr


def test_modules_come_before_parameters(tmp_path: Path) -> None:
    create = f"mkdir -p {tmp_path}/net/ipv4"
    assert run(["br_netfilter"], tmp_path, create) == (0, "")
    assert (tmp_path / "net/ipv4/ip_forward").read_text() == "1\n"


def test_a_module_that_cannot_be_loaded_fails(tmp_path: Path) -> None:
    assert run(["br_netfilter"], tmp_path, "false") == (1, "br_netfilter cannot be loaded\n")


def test_a_parameter_that_does_not_keep_its_value_fails(tmp_path: Path) -> None:
    (tmp_path / "net/ipv4").mkdir(parents=True)
    (tmp_path / "net/ipv4/ip_forward").symlink_to("/dev/null")
    status, errors = run([], tmp_path)
    assert status == 1
    assert "net.ipv4.ip_forward does not become 1" in errors
