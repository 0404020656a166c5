"""Test keepalived itself with the configuration of a proxy."""

from __future__ import annotations

import socket
from pathlib import Path

from chaos_engine.deploys.vrrp import vrrp_files
from chaos_engine.facts.haproxy import RUN, SCRIPT
from tests.programs.image import images, run
from tests.unit.rendered import PROXIES, VRRP

PACKAGES = (
    "keepalived libnl-* libsnmp40* libnftnl* libglib2* libpci3 libsensors5 libwrap0 libperl5* "
    "libatomic1"
)
OWN = next(one for one in PROXIES if one.name == "pi5")
PEER = next(one for one in PROXIES if one != OWN)
STRANGER = "192.168.1.99"


def advert(source: str) -> bytes:
    """Return a VRRPv3 advert of priority 200 for the proxies' number (RFC 5798, 5.2)."""
    text = bytes((0x31, VRRP.vrrp_number, 200, 1, 0, 10, 0, 0)) + VRRP.marker.packed
    pseudo = socket.inet_aton(source) + OWN.address.packed + bytes((0, 112, 0, len(text)))
    words = memoryview(pseudo + text).cast("H")
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return text[:6] + total.to_bytes(2, "little") + text[8:]


def test_an_owner_gives_way_to_its_peers_alone(tmp_path: Path) -> None:
    (config, *_) = vrrp_files(VRRP, PROXIES, OWN.name)
    (tmp_path / "config").write_text(str(config.content))
    (tmp_path / "send").write_text(
        f"""\
from socket import *
import sys, time
sender = socket(AF_INET, SOCK_RAW, 112)
sender.setsockopt(IPPROTO_IP, IP_TTL, 255)
sender.bind((sys.argv[1], 0))
for _ in range(8):
    sender.sendto(bytes.fromhex(sys.argv[2]), ("{OWN.address}", 0))
    time.sleep(0.1)
"""
    )
    parent = VRRP.parent_interface
    others = [STRANGER, str(PEER.address)]
    script = [
        f"pool={images().archive}/debian/pool/main",
        f"for name in {PACKAGES}; do for deb in $pool/${{name}}_*.deb; do",
        '[ ! -e "$deb" ] || dpkg-deb --fsys-tarfile "$deb" |',
        'tar -xC "$root" --keep-directory-symlink; done; done',
        f"mkdir -p $root{RUN}; echo 0 >$root{RUN}/down",
        f"printf '#!/bin/sh\\n' >$root{SCRIPT}; chmod 755 $root{SCRIPT}",
        "export root; exec unshare --net sh -s <<'END'",
        "unshare --net sleep 60 & other=$!",
        # Until the process has a namespace of its own, v1 is here too
        "until ip link add v0 type veth peer name v1 netns $other && ! ip link show v1; do",
        "  ip link delete v0",
        "done >/dev/null 2>&1",
        f"ip link set lo up; ip link set v0 name {parent}",
        f"ip address add {OWN.address}/24 dev {parent}; ip link set {parent} up",
        *(f"nsenter -t $other -n ip address add {one}/24 dev v1" for one in others),
        "nsenter -t $other -n ip link set v1 up",
        "chroot $root keepalived --vrrp --dont-fork --log-console --no-syslog \\",
        "  --use-file /mnt/config >$root/mnt/log 2>&1 & keepalived=$!",
        "tries=100; until grep -q 'Entering MASTER' $root/mnt/log || [ $tries = 0 ]; do",
        "  tries=$((tries - 1)); sleep 0.1",
        "done",
        *(
            f"nsenter -t $other -n python3 {tmp_path}/send {one} {advert(one).hex()}; "
            "grep -c 'Entering BACKUP' $root/mnt/log"
            for one in others
        ),
        "kill $keepalived $other; wait",
        "END",
    ]
    # The first time is the start
    assert run(tmp_path, script).decode().splitlines() == ["1", "2"]
