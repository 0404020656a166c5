"""Compare which daemon.json dockerd accepts with what we accept, over generated files."""

from __future__ import annotations

import json
import re
from pathlib import Path

from chaos_engine.operations.docker.daemon_json_keys import KINDS, invalid_keys
from tests.programs.image import package, run
from tests.unit.real_programs import randoms

# Not {}, nor one with keys of dockerd's: Docker 26 accepts that for any key, also an unknown one
VALUES: list[object] = [
    *("x", "", True, False, 3, -1, 1.5, None, [], ["a"], [1], [None], {"a": "b"}, {"a": {}}),
    *([{}], {"a": True}, {"a": 1}, {"a": None}),
]
PROXIES: list[object] = [{"http-proxy": "x"}, {"no-proxy": None}, {"https-proxy": 1}]
# Keys that Docker 26 does not know: from a later release, or removed before
OTHER_RELEASES = re.compile("do(?:n't| not) match any configuration option: (.*)")


def test_dockerd_takes_no_file_that_we_refuse_and_refuses_for_its_form_none_that_we_take(
    tmp_path: Path,
) -> None:
    script = [f"dpkg-deb -x {package('docker.io')} $root"]
    configs: list[dict[str, object]] = []
    for number, random in enumerate(randoms()):
        keys = random.sample([*KINDS, "log-opt", "Debug", "graph", ""], random.randint(1, 2))
        configs.append(
            {key: random.choice([*VALUES, *PROXIES * (key == "proxies")]) for key in keys}
        )
        (tmp_path / f"{number}.json").write_text(json.dumps(configs[-1]))
        script.append(
            f"chroot $root dockerd --validate --config-file /mnt/{number}.json 2>&1 | tail -n1"
        )
    answers = run(tmp_path, script).decode().splitlines()
    wrong = []
    for config, said in zip(configs, answers, strict=True):
        unknown = OTHER_RELEASES.search(said)
        if unknown and any(key in KINDS for key in unknown[1].split(", ")):
            continue
        if (
            unknown and "nri-opts" in config
        ):  # it is of a later release, and its keys are looked for
            continue
        ours = invalid_keys(config)
        form = "cannot unmarshal" in said or unknown
        if (ours and said == "configuration OK") or (form and not ours):
            wrong.append((config, said, ours))
    assert wrong == [], "\n".join(map(str, wrong[:9]))
