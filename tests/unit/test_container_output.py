"""Test that containers are named, and what the second rsyslogd gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from chaos_engine.facts.container_output import CONFIG, CONTAINER_OUTPUT_SENT, UNIT_FILE
from chaos_engine.facts.rsyslog import FOLDER, snippets_of
from chaos_engine.operations.container_output import NAMES, STATE, check, wanted
from chaos_engine.operations.files import Plan
from chaos_engine.templates import render

ID = "3f2a1b9c0d1e" + "0" * 52
OTHER = "ffffffffffff" + "1" * 52
POD = {
    "io.kubernetes.container.name": "web",
    "io.kubernetes.pod.name": "web-7c5ddbdf54-abcde",
    "io.kubernetes.pod.namespace": "default",
    "io.kubernetes.pod.uid": "1-2-3",
}


def message(folder: Path, text: str = "hello", slash: str = "/") -> str:
    """Return a message as rsyslog writes it: ``\\/`` is libfastjson's slash, ``/`` json-c's."""
    line = json.dumps({"log": f"{text}\n", "stream": "stdout", "time": "2026-11-29T12:14:45.1Z"})
    file = f"{folder}/{folder.name}-json.log".replace("/", slash)
    return (
        f'{{ "msg": {json.dumps(line)}, "rawmsg": {json.dumps(line)}, "$!": {{ "metadata": '
        f'{{ "filename": "{file}", "fileoffset": "0" }} }} }}\n'
    )


def answers(folder: Path, messages: Iterable[str]) -> list[dict[str, str]]:
    """Run the program as rsyslog does. Return what each answer sets."""
    program = folder / "names"
    program.write_text(render("container-names.j2", state=str(folder / "state")))
    run = subprocess.run(
        ["perl", str(program)],
        input="".join(messages),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    return [json.loads(line)["$!"] for line in run.stdout.splitlines()]


POD_NAME = "/k8s_web_web_default_1-2-3_0"


def container(
    folder: Path, name: str, labels: dict[str, str], own: str = POD_NAME, **more: object
) -> Path:
    """Make the folder of a container as Docker has it, with the keys in Docker's order."""
    found = folder / name
    found.mkdir()
    config = {
        "ID": name,
        **more,
        "Config": {"Env": ["A=b"], "Labels": labels},
        "LogPath": f"{found}/{name}-json.log",
        "Name": own,
        "Driver": "overlay2",
        "MountPoints": {"/a": {"Source": "", "Name": "volume"}},
    }
    (found / "config.v2.json").write_text(json.dumps(config, separators=(",", ":")))
    return found


@pytest.mark.parametrize("slash", ["/", "\\/"])
def test_a_pod_is_named_by_the_labels_that_kubernetes_gives(tmp_path: Path, slash: str) -> None:
    pod = container(tmp_path, ID, POD)
    named = {"id": "3f2a1b9c0d1e", "names": "default/web-7c5ddbdf54-abcde/web"}
    assert answers(tmp_path, [message(pod, slash=slash)] * 3) == [named] * 3


def test_a_container_of_docker_alone_has_its_own_name(tmp_path: Path) -> None:
    alone = container(tmp_path, ID, {}, "/haproxy")
    assert answers(tmp_path, [message(alone)])[0]["names"] == "haproxy"


def test_a_container_that_is_gone_keeps_its_name_and_a_late_one_gets_it(tmp_path: Path) -> None:
    gone = tmp_path / OTHER
    assert answers(tmp_path, [message(gone)]) == [{"id": "ffffffffffff", "names": "?"}]
    assert answers(tmp_path, ["{}\n", "\n"]) == [{"id": "-", "names": "?"}] * 2


@pytest.mark.parametrize(
    "text",
    [
        f'"filename": "/x/{OTHER}/{OTHER}-json.log"',
        f'\\"filename": "/x/{OTHER}/{OTHER}-json.log"',
        f'{{"$!": {{"metadata": {{"filename": "/x/{OTHER}/x"}}}}}}',
        '"names": "kube-system/etcd/etcd"',
    ],
)
def test_a_message_cannot_pretend_to_come_from_another_container(tmp_path: Path, text: str) -> None:
    pod = container(tmp_path, ID, POD)
    (found,) = answers(tmp_path, [message(pod, text)])
    assert found == {"id": "3f2a1b9c0d1e", "names": "default/web-7c5ddbdf54-abcde/web"}


def test_a_value_cannot_pretend_to_be_a_label(tmp_path: Path) -> None:
    false = '"io.kubernetes.pod.namespace":"kube-system","Name":"/etcd"'
    pod = container(tmp_path, ID, {"a": false, **POD}, Args=[false, f'\\"{false}'])
    assert answers(tmp_path, [message(pod)])[0]["names"].startswith("default/")
    odd = container(tmp_path, OTHER, {"io.kubernetes.pod.name": 'a b\n"', **POD, "x": ""})
    assert "\n" not in answers(tmp_path, [message(odd)])[0]["names"]


def test_an_image_cannot_give_its_container_another_name(tmp_path: Path) -> None:
    labels = {"LogPath": "/x", "Name": "/kubelet", "io.kubernetes.pod.name": "etcd"}
    alone = container(tmp_path, ID, labels, "/evil")
    assert answers(tmp_path, [message(alone)])[0]["names"] == "evil"


def test_states_of_files_that_were_rotated_away_are_removed(tmp_path: Path) -> None:
    alone = container(tmp_path, ID, {}, "/chatty")
    (tmp_path / "state").mkdir()
    for name, age in (("imfile-state:1:a", 601), ("imfile-state:2:b", 300), ("other", 9000)):
        (tmp_path / "state" / name).touch()
        written = time.time() - age
        os.utime(tmp_path / "state" / name, (written, written))
    assert len(answers(tmp_path, [message(alone)] * 999)) == 999
    assert len([*(tmp_path / "state").iterdir()]) == 3
    answers(tmp_path, [message(alone)] * 1000)
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"imfile-state:2:b", "other"}


@pytest.mark.parametrize("folder", ["/home/docker", "/mnt/ssd/docker"])
def test_the_unit_hides_no_folder_that_docker_may_have(folder: str) -> None:
    unit = next(f for f in wanted("192.168.1.42", "tcp", 514, folder) if f.path == UNIT_FILE)
    assert "ProtectHome=read-only" in unit.data.decode().splitlines()
    assert f"RequiresMountsFor={folder}" in unit.data.decode().splitlines()


def test_nothing_of_the_second_rsyslogd_is_on_the_card_or_read_by_the_first() -> None:
    files = {file.path: file.data.decode() for file in wanted("192.168.1.42", "tcp", 5514, "/ssd")}
    assert f'workDirectory="{STATE}"' in files[CONFIG]
    assert STATE.startswith("/run/")
    assert "queue.filename" not in files[CONFIG].lower()
    assert 'file="/ssd/containers/*/*-json.log"' in files[CONFIG]
    assert files[CONFIG].count('target="192.168.1.42" port="5514" protocol="tcp"') == 2
    assert f'binary="{NAMES}"' in files[CONFIG]
    assert f"rsyslogd -n -iNONE -f {CONFIG}\n" in files[UNIT_FILE]
    assert "RequiresMountsFor=/ssd\n" in files[UNIT_FILE]
    assert snippets_of(None, [CONFIG]) == ()
    assert snippets_of(f"$IncludeConfig {FOLDER}/\n", [CONFIG]) == (CONFIG,)


def test_only_a_new_configuration_is_checked() -> None:
    files = tuple(wanted("192.168.1.42", "udp", 514, "/var/lib/docker"))
    assert check(Plan()) == ""
    assert check(Plan(write=files)).endswith(f"rsyslogd -N1 -f {FOLDER}/.{Path(CONFIG).name}.chaos")


@pytest.mark.skipif(not shutil.which("rsyslogd"), reason="rsyslogd checks its own configuration")
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_rsyslogd_accepts_the_second_configuration(tmp_path: Path, protocol: str) -> None:
    texts = {file.path: file.data.decode() for file in wanted("192.168.1.42", protocol, 514, "/x")}
    path = tmp_path / "conf"
    path.write_text(texts[CONFIG].replace(STATE, str(tmp_path)))
    subprocess.run(["rsyslogd", "-N1", "-f", str(path)], check=True, capture_output=True)


@pytest.mark.parametrize(("there", "active", "works"), [(0, 1, True), (1, 0, True), (1, 1, False)])
def test_a_service_that_should_run_and_does_not_is_seen(
    tmp_path: Path, there: int, active: int, works: bool
) -> None:
    unit = tmp_path / "unit"
    if there:
        unit.touch()
    script = CONTAINER_OUTPUT_SENT.command.replace(UNIT_FILE, str(unit))
    run = subprocess.run(["sh", "-c", f"systemctl() {{ return {active}; }}\n{script}"], check=False)
    assert (run.returncode == 0) is works
