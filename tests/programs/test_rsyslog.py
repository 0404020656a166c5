"""Compare which files rsyslogd includes with what we expect, over generated files."""

from __future__ import annotations

from pathlib import Path
from random import Random

from chaos_engine.facts.rsyslog import snippets_of
from tests.programs.image import run
from tests.unit.real_programs import randoms

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
    """Return a piece of a configuration. Most pieces are valid."""
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


def test_rsyslog_includes_what_we_expect(tmp_path: Path) -> None:
    script = [
        "cd $root/etc/rsyslog.d; rm -rf -- *; mkdir sub",
        f"for one in {' '.join(SNIPPETS)}; do echo '*.* /var/log/x' >$one; done",
    ]
    texts = []
    for number, random in enumerate(randoms()):
        texts.append("".join(rsyslog_piece(random) for _ in range(random.randint(1, 6))))
        (tmp_path / f"{number}.conf").write_text(texts[-1])
        script += [
            f"cp {tmp_path}/{number}.conf $root/etc/rsyslog.conf; rm -f $root/out",
            "chroot $root rsyslogd -N1 -o /out >$root/said 2>&1",
            "grep -q 2207 $root/said && echo invalid || echo valid",
            "sed -n 's|^##### BEGIN CONFIG: /etc/*rsyslog.d/*\\(.*\\) (put.*|\\1|p' $root/out",
            "echo end",
        ]
    answers = run(tmp_path, script).decode().split("end\n")[:-1]
    wrong = []
    for text, answer in zip(texts, answers, strict=True):
        verdict, *included = answer.splitlines()
        paths = [f"/etc/rsyslog.d/{name}" for name in SNIPPETS]
        ours = {path.removeprefix("/etc/rsyslog.d/") for path in snippets_of(text, paths)}
        if verdict == "valid" and ours != set(included):
            wrong.append((text, included, ours))
    assert wrong == [], "\n".join(map(str, wrong[:9]))
