"""Test keepalived itself with the configuration of a proxy."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from chaos_engine.deploys.vrrp import vrrp_files
from chaos_engine.facts.haproxy import RUN, SEVERAL
from chaos_engine.facts.vrrp import CONFIG
from tests.programs.image import images, run
from tests.unit.rendered import PROXIES, VRRP

PACKAGES = (
    "keepalived libnl-* libsnmp40* libnftnl* libglib2* libpci3 libsensors5 libwrap0 libperl5* "
    "libatomic1"
)
OWN = next(one for one in PROXIES if one.name == "pi5")
PEER = next(one for one in PROXIES if one != OWN)
STRANGER = "192.168.1.99"
OTHERS = (STRANGER, str(PEER.address))


def advert(source: str) -> bytes:
    """Return a VRRPv3 advert of priority 200 for the proxies' number (RFC 5798, 5.2)."""
    text = bytes((0x31, VRRP.vrrp_number, 200, 1, 0, 10, 0, 0)) + VRRP.marker.packed
    pseudo = socket.inet_aton(source) + OWN.address.packed + bytes((0, 112, 0, len(text)))
    words = memoryview(pseudo + text).cast("H")
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return text[:6] + total.to_bytes(2, "little") + text[8:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with keepalived's configuration, and a program that sends adverts."""
    (config, *_) = vrrp_files(VRRP, PROXIES, OWN.name)
    (tmp_path / "config").write_text(str(config.content))
    (tmp_path / "send").write_text(
        f"""\
from socket import *
import sys, time
sender = socket(AF_INET, SOCK_RAW, 112)
sender.setsockopt(IPPROTO_IP, IP_TTL, 255)
sender.bind((sys.argv[1], 0))
for _ in range(int(sys.argv[3])):
    sender.sendto(bytes.fromhex(sys.argv[2]), ("{OWN.address}", 0))
    time.sleep(0.1)
"""
    )
    return tmp_path


def send(folder: Path, source: str, times: int) -> str:
    """Return the command that sends adverts from the other machine."""
    return f"nsenter -t $other -n python3 {folder}/send {source} {advert(source).hex()} {times}"


# A network namespace with the proxy's link, and one of another machine with the addresses OTHERS
LAN = [
    "unshare --net sleep 60 & other=$!",
    # Until the process has a namespace of its own, v1 is here too
    "until ip link add v0 type veth peer name v1 netns $other && ! ip link show v1; do",
    "  ip link delete v0",
    "done >/dev/null 2>&1",
    f"ip link set lo up; ip link set v0 name {VRRP.parent_interface}",
    f"ip address add {OWN.address}/24 dev {VRRP.parent_interface}",
    f"ip link set {VRRP.parent_interface} up",
    *(f"nsenter -t $other -n ip address add {one}/24 dev v1" for one in (*OTHERS, VRRP.vip)),
    "nsenter -t $other -n ip link set v1 up",
]


def test_an_owner_gives_way_to_its_peers_alone(folder: Path) -> None:
    script = [
        f"pool={images().archive}/debian/pool/main",
        f"for name in {PACKAGES}; do for deb in $pool/${{name}}_*.deb; do",
        '[ ! -e "$deb" ] || dpkg-deb --fsys-tarfile "$deb" |',
        'tar -xC "$root" --keep-directory-symlink; done; done',
        f"mkdir -p $root{RUN}; echo 0 >$root{RUN}/down",
        f"printf '#!/bin/sh\\n' >$root{SEVERAL}; chmod 755 $root{SEVERAL}",
        "export root; exec unshare --net sh -s <<'END'",
        *LAN,
        "chroot $root keepalived --vrrp --dont-fork --log-console --no-syslog \\",
        "  --use-file /mnt/config >$root/mnt/log 2>&1 & keepalived=$!",
        "tries=100; until grep -q 'Entering MASTER' $root/mnt/log || [ $tries = 0 ]; do",
        "  tries=$((tries - 1)); sleep 0.1",
        "done",
        *(f"{send(folder, one, 8)}; grep -c 'Entering BACKUP' $root/mnt/log" for one in OTHERS),
        "kill $keepalived $other; wait",
        "END",
    ]
    # The first time is the start
    assert run(folder, script).decode().splitlines() == ["1", "2"]


@pytest.mark.parametrize("source", OTHERS)
def test_a_proxy_waits_for_an_owner_that_is_no_peer(folder: Path, source: str) -> None:
    """The owner may be a former proxy. It still knows this one, so it sends adverts."""
    program = str(vrrp_files(VRRP, PROXIES, OWN.name)[1].content).replace(
        CONFIG, f"{folder}/config"
    )
    functions = program.partition("case ${1-} in")[0]
    script = [
        "mount -t sysfs sysfs /sys",
        *LAN,
        f"{send(folder, source, 50)} & sends=$!",
        functions,
        "owner || true",
    ]
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-s"],
        input="\n".join([*script, "kill $other $sends"]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    waits = "a machine that is no proxy, or sends this node no adverts, has 192.168.1.60"
    assert (done.stdout.startswith(waits), done.stderr) == (source == STRANGER, "")
