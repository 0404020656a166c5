"""Compare which sources apt fetches from with what we expect, over generated files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from chaos_engine.facts.apt_sources import Entry, entries
from tests.programs.image import run
from tests.unit.real_programs import randoms

NAMES = [*["a.list"] * 20, "a b.list", "a:b.list", "é.list", "a+b.list", ".c.list", "A_1-2.list"]
LINE_HEADS = ["", "", "", "", " ", "\t", "#", "# ", " #"]
OPTIONS = ["", "", "[trusted=yes]", "[ arch=amd64  trusted=yes ]", "[trusted=yes#]", "[arch=amd64]"]
TAILS = [
    "/",
    "./",
    "/ # mine",
    "/#",
    "sid main",
    "sid main #/",
    "\tsid   main contrib",
    "/ #[",
    "/ ",
]
ENDS = ["\n", "\n", "\n", "\n\n", " \n", "\r\n"]


def one_line(random: Random, number: int) -> str:
    """Return a line of a .list file with an address of its own."""
    address = random.choice(
        [
            f"https://h{number}.io/",
            f"https://h{number}%2eio/x",
            f'https://"h{number}.io"/x',
            f"http://h{number}.io",
            f"https://[::{number}]/h{number}.io/",
        ]
    )
    kind = random.choice(["deb", "deb", "deb", "deb-src"])
    gap = random.choice([" ", " ", "  ", "\t"])
    options = random.choice(OPTIONS)
    words = [kind, *([options] if options else []), address, random.choice(TAILS)]
    return random.choice(LINE_HEADS) + gap.join(words) + random.choice(ENDS)


ENABLED = [
    *("yes", "no", "NO", "false", "without", "off", "Disable", "0", "00", "0x0", "-0", "1", "2"),
    *("maybe", "", "no ", "no way", "no\n yes", "\n no", "none", "0.", "of", "f", "no\r", "nö"),
]


def stanza(random: Random, number: int) -> str:
    """Return a stanza of a .sources file with addresses of its own."""
    gap = random.choice([" ", " ", "", "\t", "\n ", "\n\t", "\n#x\n  "])
    lines = [
        f"{random.choice(['Types', 'types', 'TYPES'])}:{random.choice([' deb', 'deb deb-src'])}",
        f"{random.choice(['URIs', 'uris', 'Uris'])}:{gap}https://h{number}.io"
        + random.choice(["", f" https://h{number}b.io/", f"\n https://h{number}b.io/x", "\n "]),
        "Suites: /",
        "X-Note: a\n .\n #b\n c",
        "#URIs: https://no.io",
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQI\n -----END PGP-----",
    ]
    lines = lines[:3] + random.sample(lines[3:], random.randint(0, 2))
    for _ in range(random.choice([0, 1, 1, 1, 2])):
        name = random.choice(["Enabled", "Enabled", "enabled", "#Enabled", "X-Enabled"])
        lines.append(f"{name}:{random.choice([' ', ''])}{random.choice(ENABLED)}")
    random.shuffle(lines)
    end = random.choice(["\n", "\n", "\n", "\r\n", " \n"])
    gaps = ["\n", "\n", "\n\n", " \n", "\r\n", "#\n", "\n#\n", "\n\n# a\n\n", "\t\n\n", ""]
    return end.join(lines) + "\n" + random.choice(gaps)


def fetched(entry: Entry) -> Iterator[str]:
    """Yield the addresses that apt fetches first for an entry."""
    for uri in entry.uris:
        for suite in entry.suites:
            place = suite.removeprefix("/") if suite.endswith("/") else f"dists/{suite}/"
            yield f"{uri.rstrip('/')}/{place}InRelease"


def test_apt_fetches_from_where_we_expect(tmp_path: Path) -> None:
    script = []
    files = []
    # apt takes long to start, so there are fewer files than for the other programs
    for number, random in enumerate(randoms()[::2]):
        made, suffix = random.choice([(one_line, ".list"), (stanza, ".sources")])
        name = random.choice(NAMES).replace(".list", suffix)
        text = "".join(made(random, n) for n in range(random.randint(1, 3)))
        folder = tmp_path / str(number) / "sources.list.d"
        folder.mkdir(parents=True)
        (folder / name).write_text(text, newline="")
        files.append((name, text))
        script.append(
            f"chroot $root apt-get -q -o Dir::Etc=/mnt/{number} update --print-uris 2>&1; echo end"
        )
    answers = run(tmp_path, script).decode().split("end\n")[:-1]
    wrong: list[object] = []
    understood = 0
    for (name, text), answer in zip(files, answers, strict=True):
        if "E: " in answer:
            continue
        understood += 1
        theirs = {line.split("'")[1] for line in answer.splitlines() if "InRelease'" in line}
        ours = {uri for entry in entries(name, text) for uri in fetched(entry)}
        if ours != theirs:
            wrong.append((name, text, sorted(theirs), sorted(ours)))
    assert understood > len(files) / 2
    assert wrong == [], "\n".join(map(str, wrong[:9]))
