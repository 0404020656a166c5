"""Compare the addresses that the C library finds in /etc/hosts with those that we expect."""

from __future__ import annotations

from pathlib import Path
from random import Random

from chaos_engine.operations.hosts_file import conflicts, edit, names_in_block, without_block
from tests.programs.image import run
from tests.unit.real_programs import randoms

WANTED = {"pi1": "192.168.1.50", "pi2": "192.168.1.51", "k8s.example": "192.168.1.60"}
ADDRESSES = [
    *("192.168.1.50", "192.168.1.51", "10.0.0.9", "127.0.1.1", "192.168.01.50", "192.168.1", "x"),
    *("::1", "fe80::1", "::ffff:10.0.0.8", "::ffff:192.168.1.50", "#", "192.168.1.50#", "::2%eth0"),
    *("0x0a000009", "192.168.1.50.", "fd00::192.168.1.50", "192.168.1.50/24", "167772169"),
]
NAMES = [
    *("pi1", "PI1", "pi2", "Pi2", "k8s.example", "k8s", "pi1.lan", "other", "pi1.", "#pi1", "pi1#"),
    *("localhost", "pi1,pi2", "pi1;", "xn--pi1"),
]
GAPS = [" ", " ", "\t", "   ", "\xa0", "\v", "\f", " \r", "\u2003", "\x1c", "\x85"]
ENDS = [
    "\n",
    "\n",
    "\n",
    "\r\n",
    " \n",
    " # pi2\n",
    "#\n",
    "\\\n",
    "\n\n",
    "\x0b\n",
    "\u2028",
    "\r",
]


def line(random: Random) -> str:
    """Return a line as people may write it."""
    words = [random.choice(ADDRESSES), *random.choices(NAMES, k=random.choice([0, 1, 1, 2, 3]))]
    head = random.choice(["", "", "", "", " ", "\t", "#", "# ", "\ufeff"])
    return (
        head
        + "".join(
            word + gap
            for word, gap in zip(words, [*random.choices(GAPS, k=len(words) - 1), ""], strict=True)
        )
        + random.choice(ENDS)
    )


def test_the_c_library_finds_what_we_expect(tmp_path: Path) -> None:
    before = []
    script = ["cp $root/etc/hosts $root/tmp/hosts; echo multi on >$root/etc/host.conf"]
    for number, random in enumerate(randoms()):
        text = "".join(line(random) for _ in range(random.randint(0, 3)))
        if random.random() < 0.3:
            text = edit(text.encode(), {"pi1": "10.9.9.9"}).decode()
            text += "".join(line(random) for _ in range(random.randint(0, 2)))
        before.append(text.encode())
        after = edit(before[-1], WANTED)
        assert names_in_block(after) == list(WANTED)
        assert edit(after, WANTED) == after
        assert without_block(after) in (
            without_block(before[-1]),
            without_block(before[-1]) + b"\n",
        )
        (tmp_path / str(number)).write_bytes(after)
        script.append(f"cp $root/mnt/{number} $root/etc/hosts")
        script += [
            f"chroot $root getent -s hosts:files ahostsv4 {name} | cut -d' ' -f1 | sort -u | xargs"
            for name in WANTED
        ]
    answers = iter(run(tmp_path, script).decode().splitlines())
    wrong: list[object] = []
    for data in before:
        told = "\n".join(conflicts(data, WANTED))
        for name, address in WANTED.items():
            found = next(answers).split()
            if (found != [address]) != (f"but the address of {name} is" in told.lower()):
                wrong.append((data, name, found, told))
    assert wrong == [], "\n".join(map(str, wrong[:9]))
