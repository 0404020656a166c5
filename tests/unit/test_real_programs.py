"""What real programs take their files for, and what our readers do: over generated files.

``PROPERTY_FILES=2000 PROPERTY_SEED=7 pytest tests/unit/test_real_programs.py`` tries more and other
files. Where a program is not on this computer its test is skipped, and says so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from chaos_engine.facts.rsyslog import snippets_of
from chaos_engine.facts.sysctl import BootSetting, boot_settings, last_at_boot
from chaos_engine.facts.systemd_files import (
    effective,
    listing,
    parse_listing,
    settings,
)
from chaos_engine.operations.daemon_json_keys import KINDS, misfits
from tests.unit.real_programs import image_with, lab_package, needed, randoms, root_needed

T = TypeVar("T")


def chunks(items: list[T], size: int) -> Iterator[list[T]]:
    """The items, so many at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def pieces(random: Random, alphabet: list[str], most: int) -> str:
    """A text of so many pieces at most."""
    return "".join(random.choices(alphabet, k=random.randint(0, most)))


LINES = [
    *("Description", "Description=", "Description = ", "description=", "Other=", "=", "x", "y z"),
    *(" ", "\t", "\\", "\\\\", "\n", "\n", "\n", "\r\n", "\r", "\\\n", " \\\n", "#", ";", "[", "]"),
    *("\n[Unit]\n", "\n[Service]\n", "\n[X-Ours]\n", "\n[Unit", "\ufeff", "\udcff", '"', "'"),
    *("\n# a\n", "\n; b\\\n", "é"),
]


def unit_dump(folder: Path, names: list[str]) -> str:
    """What systemd's own test mode says of these units of a folder."""
    for target in ("basic.target", "shutdown.target"):
        (folder / target).write_text("[Unit]\n")
    for slice_ in ("-.slice", "app.slice"):
        (folder / slice_).write_text("[Slice]\n")
    (folder / "all.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={' '.join(names)}\n")
    runtime = folder / "runtime/systemd"
    runtime.mkdir(parents=True, exist_ok=True)
    command = [needed("systemd"), "--test", "--user", "--unit=all.target"]
    if os.geteuid() == 0:  # "Don't run test mode as root"
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
    where = {"SYSTEMD_UNIT_PATH": str(folder), "XDG_RUNTIME_DIR": str(runtime.parent)}
    done = subprocess.run(
        command,
        env={"HOME": str(folder), "PATH": os.environ["PATH"], **where},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return done.stdout.decode(errors="surrogateescape")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that another user may come to, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_systemd_reads_settings_as_we_do(open_path: Path) -> None:
    texts = {
        f"u{number}.service": f"[Unit]\n{pieces(random, LINES, 24)}"
        for number, random in enumerate(randoms())
    }
    wrong = []
    for number, some in enumerate(chunks(list(texts), 200)):
        folder = open_path / str(number)
        folder.mkdir()
        open_path.chmod(0o755)
        for name in some:
            (folder / name).write_text("[Unit]\nDescription=none\n[Service]\nExecStart=/bin/true\n")
            (folder / f"{name}.d").mkdir()
            text = texts[name].encode("utf-8", "surrogateescape")
            (folder / f"{name}.d" / "a.conf").write_bytes(text)
        dump = re.finditer(
            r"-> Unit (u\d+\.service):\n\t\tDescription: (.*?)\n\t\tInstance:",
            unit_dump(folder, some),
            re.DOTALL,
        )
        said = {match[1]: match[2] for match in dump}
        for name in some:
            found = [
                value
                for section, key, value in settings(texts[name])
                if (section, key) == ("Unit", "Description")
            ]
            ours = (["none", *found][-1]) or name
            if said.get(name) != ours:
                wrong.append((texts[name], said.get(name), ours))
    assert wrong == [], "\n".join(map(str, wrong[:9]))


NAMES = ["a.conf", "b.conf", "B.conf", "é.conf", ".c.conf", "d", "10-x.conf"]


def test_systemd_takes_the_drop_ins_that_we_take(tmp_path: Path) -> None:
    analyze = needed("systemd-analyze")
    tops = ("etc", "run", "usr/local/lib", "usr/lib")
    wrong = []
    for number, random in enumerate(randoms()):
        root = tmp_path / str(number)
        for top in random.sample(tops, random.randint(1, 4)):
            folder = root / top / "systemd/journald.conf.d"
            folder.mkdir(parents=True)
            for name in random.sample(
                ["a.conf", "b.conf", "B.conf", "é.conf", ".c.conf", "d", "10-x.conf"], 4
            ):
                path = folder / name
                match random.choice("fffemr"):
                    case "f":
                        path.write_text(f"[Journal]\nA={top}/{name}\n")
                    case "e":
                        path.touch()
                    case "m":
                        path.symlink_to("/dev/null")
                    case _:
                        (root / "real").write_text("[Journal]\nA=real\n")
                        path.symlink_to(os.path.relpath(root / "real", folder))
        (root / "etc/systemd").mkdir(parents=True, exist_ok=True)
        (root / "etc/systemd/journald.conf").write_text("")
        said = subprocess.run(
            [analyze, "cat-config", f"--root={root}", "systemd/journald.conf"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        heads = re.split(rf"^# {root}(/.*)\n", said, flags=re.MULTILINE)[1:]
        theirs = list(zip(heads[::2], heads[1::2], strict=True))
        folders = tuple(f"{root}/{top}/systemd/journald.conf.d" for top in tops)
        encoded = subprocess.check_output(["sh", "-c", listing(folders)], text=True)
        ours = [
            (path.removeprefix(str(root)), text + "\n")
            for path, text in effective(parse_listing(encoded), folders)
            if text
        ]
        theirs = [(path, text.rstrip("\n") + "\n") for path, text in theirs if text.strip()]
        if ours != theirs:
            wrong.append((number, theirs, ours))
    assert wrong == [], "\n".join(map(str, wrong[:9]))


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
    """A line as people may write it."""
    head = random.choice(["", "", "", "-", " ", "#", ";", "\t", " - "])
    equals = random.choice(["=", " = ", "\t=", "= ", "", " "])
    tail = random.choice(["\n", "\n", " \n", "\r\n", "\\\n", " # a\n", "\r"])
    return f"{head}{random.choice(KEYS)}{equals}{random.choice('012')}{tail}"


def test_systemd_sysctl_sets_what_we_expect(tmp_path: Path) -> None:
    program = needed("systemd-sysctl")
    root_needed()
    tree = tmp_path / "tree/net/ipv4"
    for name in ("all", "default", "eth0.1"):
        (tree / "conf" / name).mkdir(parents=True)
    # one variable of the kernel's under two names
    (tree / "conf/all/forwarding").symlink_to("../../ip_forward")
    own = [tree / "ip_forward", tree / "conf/default/forwarding", tree / "conf/eth0.1/forwarding"]
    script = [f"mount --bind {tmp_path}/tree /proc/sys"]
    files = {}
    for number, random in enumerate(randoms()):
        files[number] = [
            "".join(sysctl_line(random) for _ in range(random.randint(0, 5))) for _ in range(2)
        ]
        paths = [tmp_path / f"{number}-{letter}.conf" for letter in "ab"]
        for path, text in zip(paths, files[number], strict=True):
            path.write_text(text, newline="")
        script += [f"for f in {' '.join(map(str, own))}; do echo none >$f; done"]
        script += [f"{program} {' '.join(map(str, paths))} 2>/dev/null"]
        script += [f"head -qn1 {' '.join(map(str, own))} | paste -sd '|'"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-s"],
        input="\n".join(script).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    said = done.stdout.decode().split("\n")[:-1]
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


INCLUDES = [
    *("/etc/rsyslog.d/*.conf", "/etc/rsyslog.d/", "/etc/rsyslog.d", "/etc/rsyslog.d/*"),
    *(
        "/etc//rsyslog.d/1*.conf",
        "/etc/rsyslog.d/[0-1]*",
        "/etc/rsyslog.d/sub/*",
        "/etc/rsyslog.d/?0*",
    ),
    *("/etc/rsyslog.d/?0*", "/etc/rsyslog.d/.*.conf"),
    *("/etc/rsyslog.d/*/", "/etc/rsyslog.d/10-all.conf", "/etc/rs*.d/"),
]
SNIPPETS = ("10-all.conf", "20-b.conf", "notes", ".hidden.conf", "sub/x.conf", "sub/y")


def rsyslog_piece(random: Random) -> str:
    """A piece of a configuration; most of them are valid."""
    path = random.choice(INCLUDES)
    gap = random.choice(["", " ", "\n", "\n  ", " # a\n", "/* ( */", "\t\\\n"])
    mode = random.choice(["", f' mode{gap}={gap}"optional"'])
    return random.choice(
        [
            f"$IncludeConfig {path}\n",
            f" $includeconfig \t{path} # mine\n",
            f"$IncludeConfig\\\n  {path}\n",
            f'include({gap}file="{path}"{gap}{mode}{gap})\n',
            f'Include{gap.replace("#", " ").replace("/* ( */", " ")}(FILE{gap}={gap}"{path}")',
            f'# include(file="{path}")\n',
            f"# $IncludeConfig {path} \\\n",
            f"/* $IncludeConfig {path}\n",
            "*/\n",
            "*.* /var/log/a # */\n",
            "mail.*;kern.none\t-/var/log/a\n& stop\n",
            f':msg, contains, "$IncludeConfig {path}" /var/log/a\n',
            f'if $msg == "include(file=\\"{path}\\")" then /var/log/b\n',
            f"if $msg contains 'a' then {{\n include(file=\"{path}\")\n}}\n",
            f'ruleset(name="r{random.random()}") {{ action(type="omfile" file="/x") }}\n',
            f'*.* action(type="omfile"\n file="{path}")\n',
            f'$template T{random.randrange(99)},"%msg% {path} {{\\n"\n',
            f'template(name="t{random.random()}" type="string" string="%msg% ) {path}")\n',
            'module(load="imuxsock" # ")\n )\n',
            "\n",
        ]
    )


def test_rsyslog_takes_in_what_we_expect(tmp_path: Path) -> None:
    image = image_with("/usr/sbin/rsyslogd")
    root = tmp_path / "root"
    script = [
        f"mkdir {root} {tmp_path}/rw; mount -t tmpfs tmpfs {tmp_path}/rw",
        f"mkdir {tmp_path}/rw/upper {tmp_path}/rw/work",
        "mount -t overlay overlay -o "
        f"lowerdir={image},upperdir={tmp_path}/rw/upper,workdir={tmp_path}/rw/work {root}",
        f"cd {root}/etc/rsyslog.d; rm -rf -- *; mkdir sub",
        f"for one in {' '.join(SNIPPETS)}; do echo '*.* /var/log/x' >$one; done",
    ]
    texts = []
    for number, random in enumerate(randoms()):
        texts.append("".join(rsyslog_piece(random) for _ in range(random.randint(1, 6))))
        (tmp_path / f"{number}.conf").write_text(texts[-1])
        script += [
            f"cp {tmp_path}/{number}.conf {root}/etc/rsyslog.conf; rm -f {root}/out",
            f"chroot {root} rsyslogd -N1 -o /out >{root}/said 2>&1",
            f"grep -q 2207 {root}/said && echo invalid || echo valid",
            f"sed -n 's|^##### BEGIN CONFIG: /etc/*rsyslog.d/*\\(.*\\) (put.*|\\1|p' {root}/out",
            "echo end",
        ]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-s"],
        input="\n".join(script),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    wrong = []
    for text, answer in zip(texts, done.stdout.split("end\n"), strict=False):
        verdict, *taken = answer.splitlines()
        paths = [f"/etc/rsyslog.d/{name}" for name in SNIPPETS]
        ours = {path.removeprefix("/etc/rsyslog.d/") for path in snippets_of(text, paths)}
        if verdict == "valid" and ours != set(taken):
            wrong.append((text, taken, ours))
    assert wrong == [], "\n".join(map(str, wrong[:9]))


# Not {}: Docker 26 takes it for any name, also one that it does not know
VALUES: list[object] = [
    *("x", "", True, False, 3, -1, 1.5, None, [], ["a"], [1], [None], {"a": "b"}, {"a": {}}),
    *([{}], {"a": True}, {"a": 1}, {"a": None}),
]
# What Docker 26 does not know, being of a later release or gone before
OTHER_RELEASES = re.compile("do(?:n't| not) match any configuration option: (.*)")


def test_dockerd_takes_no_file_that_we_refuse_and_refuses_for_its_form_none_that_we_take(
    tmp_path: Path,
) -> None:
    image = image_with("/usr/sbin/rsyslogd")  # any of them
    package = lab_package("docker.io")
    root = tmp_path / "root"
    script = [
        f"mkdir {root} {tmp_path}/rw; mount -t tmpfs tmpfs {tmp_path}/rw",
        f"mkdir {tmp_path}/rw/upper {tmp_path}/rw/work",
        "mount -t overlay overlay -o "
        f"lowerdir={image},upperdir={tmp_path}/rw/upper,workdir={tmp_path}/rw/work {root}",
        f"dpkg-deb -x {package} {root}; mount --bind {tmp_path} {root}/mnt",
    ]
    configs: list[dict[str, object]] = []
    for number, random in enumerate(randoms()):
        keys = random.sample([*KINDS, "log-opt", "Debug", "graph", ""], random.randint(1, 2))
        configs.append({key: random.choice(VALUES) for key in keys})
        (tmp_path / f"{number}.json").write_text(json.dumps(configs[-1]))
        script.append(
            f"chroot {root} dockerd --validate --config-file /mnt/{number}.json 2>&1 | tail -n1"
        )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-s"],
        input="\n".join(script),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    wrong = []
    for config, said in zip(configs, done.stdout.splitlines(), strict=True):
        unknown = OTHER_RELEASES.search(said)
        if unknown and any(key in KINDS for key in unknown[1].split(", ")):
            continue
        ours = misfits({key: value for key, value in config.items() if key != "default-runtime"})
        form = "cannot unmarshal" in said or unknown
        if (ours and said == "configuration OK") or (form and not ours):
            wrong.append((config, said, ours))
    assert wrong == [], "\n".join(map(str, wrong[:9]))
