"""Compare what systemd-sysctl sets with what we expect, over generated files."""

from __future__ import annotations

from pathlib import Path
from random import Random

from chaos_engine.facts.sysctl import BootSetting, boot_settings, last_at_boot
from tests.programs.image import run
from tests.unit.real_programs import randoms

KEYS = [
    *("net.ipv4.ip_forward", "net/ipv4/ip_forward", "net.ipv4.conf.all.forwarding"),
    *(
        "net.ipv4.conf.*.forwarding",
        "net.ipv4.*",
        "net/ipv4/ip_f*",
        "net.*.conf.[a-b]ll.forwarding",
    ),
    *(
        "net.ipv4.conf.eth0/1.forwarding",
        "net.ipv4.conf.default.forwarding",
        "/net/ipv4/ip_forward",
    ),
    *("net..ipv4.ip_forward", "net.ipv4.conf.[!a]*.forwarding", "net.ipv4.conf.a?l.forwarding"),
    *("net/ipv4.ip_forward", "net.ipv4/conf/all.forwarding", "kernel.other", ""),
]
SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.default.forwarding",
    "net.ipv4.conf.eth0/1.forwarding",
)


def sysctl_line(random: Random) -> str:
    """Return a line as people may write it."""
    head = random.choice(["", "", "", "-", " ", "#", ";", "\t", " - "])
    equals = random.choice(["=", " = ", "\t=", "= ", "", " "])
    tail = random.choice(["\n", "\n", " \n", "\r\n", "\\\n", " # a\n", "\r"])
    return f"{head}{random.choice(KEYS)}{equals}{random.choice('012')}{tail}"


def test_systemd_sysctl_sets_what_we_expect(tmp_path: Path) -> None:
    tree = tmp_path / "tree/net/ipv4"
    for name in ("all", "default", "eth0.1"):
        (tree / "conf" / name).mkdir(parents=True)
    # The kernel has one variable under these two names
    (tree / "conf/all/forwarding").symlink_to("../../ip_forward")
    own = [tree / "ip_forward", tree / "conf/default/forwarding", tree / "conf/eth0.1/forwarding"]
    script = [f"mount --bind {tmp_path}/tree $root/proc/sys"]
    files = {}
    for number, random in enumerate(randoms()):
        files[number] = [
            "".join(sysctl_line(random) for _ in range(random.randint(0, 5))) for _ in range(2)
        ]
        paths = [tmp_path / f"{number}-{letter}.conf" for letter in "ab"]
        for path, text in zip(paths, files[number], strict=True):
            path.write_text(text, newline="")
        script += [f"for f in {' '.join(map(str, own))}; do echo none >$f; done"]
        names = " ".join(f"/mnt/{path.name}" for path in paths)
        script += [f"chroot $root /usr/lib/systemd/systemd-sysctl {names} 2>/dev/null"]
        script += [f"head -qn1 {' '.join(map(str, own))} | paste -sd '|'"]
    said = run(tmp_path, script).decode().split("\n")[:-1]
    wrong = []
    for texts, line in zip(files.values(), said, strict=True):
        settings = [
            BootSetting(str(n), key, value)
            for n, text in enumerate(texts)
            for key, value in boot_settings(text)
        ]
        for name, value in zip(SYSCTLS, line.split("|"), strict=True):
            last = last_at_boot(name, settings)
            if (last.value if last else "none") != value:
                wrong.append((name, value, last, texts))
    assert wrong == [], "\n".join(map(str, wrong[:9]))
