"""Test Docker: the merged daemon.json, refusals, the installation, and what is read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.facts.apt import PackageState
from chaos_engine.facts.docker import DockerInfo, Engine
from chaos_engine.facts.docker_service import (
    DEFAULTS,
    DockerService,
    Service,
    parse_service,
)
from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import NodeError, Read
from chaos_engine.facts.observe.batch import PROBE, script, split
from chaos_engine.operations.apt import APT
from chaos_engine.operations.docker.daemon_json import (
    CONFIG,
    Options,
    conflicts,
    contradictions,
    merge,
    refusals,
)
from chaos_engine.operations.docker.daemon_json_keys import invalid_keys
from chaos_engine.operations.docker.install import (
    UNIT,
    compose,
    packages_to_change,
    reads,
    warnings,
)
from chaos_engine.operations.engine.shell import NOTES
from tests.unit.asking import systemctl, value_in
from tests.unit.nodes import Nodes
from tests.unit.scripts import PLACES, Sandbox

OPTIONS = Options("10m", 3)
WANTED = {
    "exec-opts": ["native.cgroupdriver=systemd"],
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
    "storage-driver": "overlay2",
}
INSTALLED = PackageState("26.1.5+dfsg1-9+deb13u1", held=True, complete=True)
ALL = {"docker.io": INSTALLED, "docker-cli": INSTALLED, "ca-certificates": INSTALLED}

# systemctl show on Debian 13 and Ubuntu 24.04, whose package is laid out alike
EXEC_START = (
    "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// "
    "--containerd=/run/containerd/containerd.sock $DOCKER_OPTS ; ignore_errors=no ; "
    "start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
)
# of Debian's package docker.io, shortened
DEFAULTS_TEXT = "# Here in Debian, this file is sourced by:\n#   - systemd's docker.service\n\n"


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def merged(found: str | dict[str, Any] | None, options: Options = OPTIONS) -> dict[str, Any]:
    text = json.dumps(found) if isinstance(found, dict) else found
    result: dict[str, Any] = json.loads(merge(None if text is None else text.encode(), options))
    return result


INSTALLED_UNIT = {"LoadState": "loaded", "Environment": "", "ExecStart": EXEC_START}
ABSENT_UNIT = {"LoadState": "not-found", "Environment": ""}
DROP_INS = "/etc/systemd/system/docker.service.d"
PACKAGES_UNIT = "docker.io's docker.service"
DAEMONS = ("/usr/sbin/dockerd", "/sbin/dockerd")


def service(
    unit: dict[str, str],
    defaults: str = "",
    drop_ins: dict[str, str] | None = None,
    programs: tuple[str, ...] = DAEMONS,
) -> Service:
    """Return how systemd starts Docker; `drop_ins` are given by their names."""
    found = [(f"{DROP_INS}/{name}", text) for name, text in (drop_ins or {}).items()]
    return parse_service(unit, found, defaults, programs)


@pytest.mark.parametrize("found", [None, "", " \n", "{}"])
def test_a_node_without_configuration_gets_all_options(found: str | None) -> None:
    assert merged(found) == WANTED


def test_other_keys_stay_in_their_order() -> None:
    found = {"registry-mirrors": ["https://m.example"], "log-driver": "json-file", "mtu": 1400}
    result = merged(found)
    assert list(result)[:3] == list(found)
    assert result == {**found, **WANTED}


def test_other_options_of_the_same_lists_stay() -> None:
    found = {
        "exec-opts": ["native.cgroupdriver=cgroupfs", "other=1"],
        "log-opts": {"max-size": "100m", "labels": "a"},
    }
    result = merged(found)
    assert result["exec-opts"] == ["other=1", "native.cgroupdriver=systemd"]
    assert result["log-opts"] == {"max-size": "10m", "labels": "a", "max-file": "3"}


def test_options_of_another_log_driver_go_with_it() -> None:
    """Docker refuses json-file with an address to send to."""
    found = {"log-driver": "syslog", "log-opts": {"syslog-address": "udp://192.168.1.42"}}
    assert merged(found) == WANTED


def test_numbers_are_written_as_strings() -> None:
    """Docker refuses `"max-file": 3` with "cannot unmarshal number"."""
    result = merged({"log-opts": {"max-size": 100, "max-file": 3}})
    assert result["log-opts"] == {"max-size": "10m", "max-file": "3"}


def test_a_data_root_and_live_restore_are_written_only_if_set() -> None:
    assert merged({"data-root": "/ssd", "live-restore": True})["data-root"] == "/ssd"
    options = Options("10m", 3, "/mnt/ssd/docker", False)
    result = merged({"data-root": "/ssd", "live-restore": True}, options)
    assert result == {**WANTED, "data-root": "/mnt/ssd/docker", "live-restore": False}


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_a_file_that_says_the_same_stays_as_it_is(indent: int | None) -> None:
    text = json.dumps({"mtu": 1400, **WANTED}, indent=indent).encode()
    assert merge(text, OPTIONS) is text


@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda key: key not in WANTED),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda x: st.lists(x, max_size=3),
            max_leaves=4,
        ),
        max_size=5,
    )
)
def test_merging_twice_is_merging_once_and_loses_no_key(found: dict[str, Any]) -> None:
    once = merge(json.dumps(found).encode(), OPTIONS)
    assert merge(once, OPTIONS) is once
    assert json.loads(once) == {**found, **WANTED}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ('{"a": ', "is not JSON: .*fix it, or move it away"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1,}', "is not JSON"),
        ("\xff", "is not JSON"),
        ('{"a": NaN}', "is not JSON"),
        ("[" * 100000, "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"exec-opts": "native.cgroupdriver=systemd"}', "exec-opts is not a list"),
        ('{"log-opts": []}', "log-opts is not an object"),
        ('{"log-opts": {"labels": 1}}', "each value in log-opts has to be a string"),
    ],
)
def test_a_file_that_docker_would_not_take_refuses_the_node(found: str, message: str) -> None:
    with pytest.raises(NodeError, match=f"^{CONFIG}.*{message}"):
        merge(found.encode("latin-1"), OPTIONS)


def test_the_distributions_own_flags_clash_with_nothing() -> None:
    found = service(INSTALLED_UNIT, DEFAULTS_TEXT)
    assert found == Service({"-H": "docker.service", "--containerd": "docker.service"})
    assert conflicts(WANTED, found.flags) == []
    assert contradictions(WANTED, found.flags) == []
    assert invalid_keys(WANTED) == []


def test_a_docker_that_is_not_there_yet_will_have_the_packages_flags() -> None:
    flags = service(ABSENT_UNIT).flags
    (clash,) = conflicts({**WANTED, "hosts": ["tcp://0.0.0.0:2375"]}, flags)
    assert clash == (
        "-H in docker.io's docker.service and hosts in /etc/docker/daemon.json are the same "
        "option; remove hosts"
    )


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ("--log-driver=journald", ["log-driver"]),
        ("--log-driver journald --debug", ["log-driver"]),
        ("-s overlay2", ["storage-driver"]),
        ("--exec-opt native.cgroupdriver=systemd", ["exec-opts"]),
        ("--log-opt max-size=1m --storage-driver=vfs", ["log-opts", "storage-driver"]),
        ("--dns 1.1.1.1", []),
    ],
)
@pytest.mark.parametrize("unit", [INSTALLED_UNIT, ABSENT_UNIT], ids=["installed", "not yet"])
def test_an_option_that_is_also_a_flag_is_named_with_its_place(
    unit: dict[str, str], options: str, keys: list[str]
) -> None:
    text = f"{DEFAULTS_TEXT}#DOCKER_OPTS='--log-opt x'\nDOCKER_OPTS=\"{options}\"\n"
    flags = service(unit, text).flags
    found = conflicts(WANTED, flags)
    assert [clash.split(" and ")[1].split()[0] for clash in found] == keys
    for clash in found:
        assert "in /etc/default/docker and" in clash
        assert clash.endswith("are the same option; remove the flag")


OVERRIDE = "/etc/systemd/system/docker.service.d/override.conf"


def test_a_drop_in_counts_as_systemd_has_merged_it() -> None:
    """It replaces the command line, so the options in /etc/default/docker are not used."""
    merged = EXEC_START.replace("$DOCKER_OPTS", "--data-root /x")
    text = "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --data-root /x\n"
    more = ('DOCKER_OPTS="--log-driver=none"', {"override.conf": text})
    flags = service({**INSTALLED_UNIT, "ExecStart": merged}, *more).flags
    assert conflicts({**WANTED, "data-root": "/y"}, flags) == [
        f"--data-root in {OVERRIDE} and data-root in {CONFIG} are the same option; remove the flag"
    ]
    before = service(ABSENT_UNIT, *more)
    assert before.flags["--data-root"] == OVERRIDE, "also before Docker is installed"
    assert before.problem == ""


@pytest.mark.parametrize(
    ("text", "hosts", "problem"),
    [
        ("[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --debug\n", "", ""),
        (
            "[Service]\nExecStart =\n ExecStart = \\\n  # mine\n  dockerd \\\n -H tcp://x\n",
            "there",
            "",
        ),
        ("[Service]\nEnvironment=HTTP_PROXY=http://x\n", "package", ""),
        (
            "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -H fd://\n",
            "there",
            "override.conf starts /usr/bin/dockerd, which does not exist; the package docker.io",
        ),
        (
            "[Service]\nExecStart=\nExecStart=-/usr/bin/dockerd \\\n  -H fd:// \\\n  --debug\n",
            "there",
            "override.conf starts /usr/bin/dockerd, which does not exist",
        ),
        (
            "[Service]\nExecStart=/usr/sbin/dockerd --debug\n",
            "",
            "override.conf gives docker.service a second ExecStart, so systemd would refuse",
        ),
        ("[Service]\nExecStart=\n", "", "override.conf leaves docker.service without an ExecStart"),
        ("[Unit]\nExecStart=\n", "package", ""),
    ],
)
def test_drop_ins_that_are_there_before_docker(text: str, hosts: str, problem: str) -> None:
    """docker-ce leaves such drop-ins on Debian, whose own dockerd is in /usr/sbin."""
    found = service(ABSENT_UNIT, drop_ins={"override.conf": text})
    places = {"": None, "there": OVERRIDE, "package": PACKAGES_UNIT}
    assert found.flags.get("-H") == places[hosts]
    assert problem in found.problem
    assert bool(found.problem) == bool(problem)


@pytest.mark.parametrize(
    ("system", "program", "problem"),
    [
        ("debian", "/opt/wrap/dockerd", True),
        ("debian", "/opt/there/dockerd", False),
        ("debian", "/usr/bin/dockerd", True),
        ("ubuntu", "/usr/bin/dockerd", False),
        ('"ubuntu"', "/usr/bin/dockerd", False),
    ],
)
def test_a_program_that_is_there_may_be_started(
    tmp_path: Path, system: str, program: str, problem: bool
) -> None:
    there = tmp_path / "opt/there/dockerd"
    if "there" in program:
        program = str(there)
    texts = {
        f"{DROP_INS}/a.conf": f"[Service]\nExecStart=\nExecStart=-'{program}' -H fd://",
        "/etc/os-release": f"NAME='A system'\nID={system}\n",
        str(there.relative_to(tmp_path)): "",
    }
    for name, text in texts.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    there.chmod(0o755)
    found = value_in(tmp_path, DockerService, systemctl())
    assert bool(found.problem) == problem
    assert found.flags == {"-H": f"{DROP_INS}/a.conf"}


def test_a_unit_that_systemd_refuses_is_a_problem() -> None:
    assert "systemd refuses" in service({"LoadState": "bad-setting"}).problem


def test_options_from_the_units_environment_are_seen() -> None:
    unit = {**INSTALLED_UNIT, "Environment": 'A=b "DOCKER_OPTS=-H tcp:// -s vfs"'}
    assert service(unit).flags["-s"] == "docker.service"
    text = "[Service]\nEnvironment=DOCKER_OPTS=-D\nEnvironment='DOCKER_OPTS=-s vfs'\n"
    flags = service(ABSENT_UNIT, drop_ins={"a.conf": text}).flags
    assert "-s" in flags
    assert "-D" not in flags, "the last one counts"
    flags = service(unit, "DOCKER_OPTS=-D\nDOCKER_OPTS=--icc=false\n").flags
    assert flags.keys() == {"-H", "--containerd", "--icc"}, "and what a file says counts more"


SNAPSHOTTER = {"features": {"containerd-snapshotter": True}}


@pytest.mark.parametrize(
    ("config", "flags", "words"),
    [
        (SNAPSHOTTER, {}, "daemon.json turns on the feature containerd-snapshotter"),
        ({"features": {"containerd-snapshotter": False, "cdi": True}}, {}, ""),
        ({"features": None}, {}, ""),
        ({"userns-remap": "default"}, {}, "daemon.json sets userns-remap"),
        ({"userns-remap": ""}, {}, ""),
        ({"cgroup-parent": "/docker"}, {}, "a name that ends with .slice"),
        ({"cgroup-parent": ".slice"}, {}, "a name that ends with .slice"),
        ({"cgroup-parent": "docker.slice"}, {}, ""),
        ({"log-opts": {"compress": "t", "max-file": "1"}}, {}, "compress and a single log file"),
        ({"log-opts": {"compress": "false", "max-file": "1"}}, {}, ""),
        ({"log-opts": {"compress": "true", "max-file": "2"}}, {}, ""),
        ({"log-opts": {"compress": "yes", "max-file": "2"}}, {}, "compress in log-opts to 'yes'"),
        ({}, {"--userns-remap": DEFAULTS}, f"{DEFAULTS} sets userns-remap"),
    ],
)
def test_what_contradicts_ours_is_refused(
    config: dict[str, Any], flags: dict[str, str], words: str
) -> None:
    found = contradictions({**WANTED, **config}, flags)
    assert len(found) == bool(words)
    assert not found or words in found[0]


@pytest.mark.parametrize(
    ("options", "on"),
    [
        ("--feature containerd-snapshotter=true", True),
        ("--feature=containerd-snapshotter", True),
        ("--feature=cdi=true", False),
        ("--feature=containerd-snapshotter=false", False),
    ],
)
def test_a_feature_may_be_a_flag(options: str, on: bool) -> None:
    flags = service(INSTALLED_UNIT, f"DOCKER_OPTS='{options}'").flags
    found = contradictions(WANTED, flags)
    assert len(found) == on
    assert not found or found[0].startswith(f"{DEFAULTS} turns on the feature containerd")


def test_options_that_overlay2_does_not_know_go_with_their_driver() -> None:
    found = {"storage-driver": "devicemapper", "storage-opts": ["dm.basesize=20G"]}
    assert merged(found) == {**WANTED, "storage-opts": []}
    found = {"storage-opts": ["Overlay2.override_kernel_check=true"]}
    assert merged(found)["storage-opts"] == found["storage-opts"]


def test_a_cgroup_driver_in_capitals_is_one() -> None:
    """Docker ignores upper and lower case in the option's name, and uses the first one."""
    result = merged({"exec-opts": [" Native.CgroupDriver = cgroupfs", "a=b"]})
    assert result["exec-opts"] == ["a=b", "native.cgroupdriver=systemd"]


def test_a_byte_order_mark_goes() -> None:
    """Docker before 23 accepts no file with a byte order mark."""
    text = b"\xef\xbb\xbf" + json.dumps(WANTED).encode()
    assert json.loads(merge(text, OPTIONS).decode()) == WANTED


def test_half_a_character_is_no_crash() -> None:
    assert merged('{"labels": ["\\ud800"]}')["labels"] == ["\ud800"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"log-optz": {}}, "has log-optz, which Docker does not know (is log-opts meant?)"),
        ({"log-opt": 1}, ""),
        ({"log-opt": {"a": "b"}}, "log-opt has to be anything but an object"),
        ({"features": {"cdi": "yes"}}, "features has to be an object of true and false"),
        ({"graph": "/x"}, "has graph, which Docker does not know"),
        ({"debug": "true"}, "debug has to be true or false"),
        ({"dns": "1.1.1.1"}, "dns has to be a list of texts"),
        ({"mtu": "1400"}, "mtu has to be a number"),
        ({"default-address-pools": ["10.0.0.0/8"]}, "has to be a list of objects"),
        ({"dns": None}, ""),
        ({"proxies": {"http-proxy": "http://a:3128", "no-proxy": None}}, ""),
        (
            {"proxies": {"http_proxy": "http://a:3128"}},
            "proxies has to be an object with no other keys",
        ),
    ],
)
def test_what_a_docker_that_cannot_be_asked_would_not_take(
    config: dict[str, Any], words: str
) -> None:
    found = invalid_keys(config)
    assert len(found) == bool(words)
    assert not found or words in found[0]


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("hosts", "-H"),
        ("hosts", "--host"),
        ("insecure-registries", "--insecure-registry"),
        ("debug", "-D"),
        ("data-root", "-g"),
    ],
)
def test_keys_of_the_user_clash_too(key: str, flag: str) -> None:
    assert conflicts({key: 1}, {flag: "docker.service"})


# What Docker 26.1.5 (Debian 13) and 29.7.2 did, with what is merged into it: `dockerd --validate`
# says "configuration OK" to each of these
@pytest.mark.parametrize(
    ("config", "docker", "said"),
    [
        (
            {"storage-opts": ["overlay2.override_kernel_check=true"]},
            26,
            "storage-opts has overlay2",
        ),
        ({"log-opts": {"syslog-address": "udp://1.2.3.4"}}, 29, "log-opts has syslog-address"),
        ({"default-runtime": "nvidia"}, 29, "default-runtime is nvidia"),
        ({"default-runtime": "nvidia", "runtimes": {"crun": {"path": "crun"}}}, 29, "nvidia"),
        ({"bridge": "br0", "bip": "10.1.0.1/24"}, 29, "bridge and bip exclude each other"),
        ({"icc": False, "iptables": False}, 29, "icc is false"),
    ],
)
def test_what_docker_refuses_at_its_start_is_told_before(
    config: dict[str, Any], docker: int | None, said: str
) -> None:
    problems = refusals(merged(config), docker)
    assert len(problems) == 1
    assert said in problems[0]
    assert problems[0].startswith(CONFIG)


@pytest.mark.parametrize(
    ("config", "docker"),
    [
        ({}, 29),
        ({"features": {"containerd-snapshotter": False}}, 29),
        ({"features": {"buildkit": True}}, 29),
        ({"cgroup-parent": "docker.slice"}, 29),
        ({"storage-opts": ["overlay2.size=10G"]}, 29),
        ({"storage-opts": ["overlay2.override_kernel_check=true"]}, 20),
        (
            {
                "log-opts": {
                    "tag": "x",
                    "labels": "a",
                    "compress": "true",
                    "mode": "non-blocking",
                    "max-buffer-size": "4m",
                    "cache-disabled": "true",
                }
            },
            29,
        ),
        ({"log-driver": "syslog", "log-opts": {"syslog-address": "udp://1.2.3.4"}}, 29),
        ({"default-runtime": "runc"}, 29),
        ({"default-runtime": "io.containerd.runc.v2"}, 29),
        ({"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "nvidia"}}}, 29),
        ({"bridge": "", "bip": "10.1.0.1/24"}, 29),
        ({"icc": False}, 29),
        ({"live-restore": True, "experimental": True, "min-api-version": "1.24"}, 29),
        ({"features": [], "default-runtime": 1, "runtimes": []}, 29),
    ],
)
def test_what_docker_takes_is_not_refused(config: dict[str, Any], docker: int | None) -> None:
    assert refusals(merged(config), docker) == []


def test_an_open_quote_in_the_defaults_is_no_error() -> None:
    text = "DOCKER_OPTS=\"--log-driver=none\nOTHER='\n"
    assert "-H" in service(INSTALLED_UNIT, text).flags


def test_the_facts_commands_run_in_a_shell_and_are_understood(tmp_path: Path) -> None:
    """Docker's facts answer even where Docker is not installed."""
    found = value_in(tmp_path, DockerService, systemctl())
    assert found == Service({"-H": PACKAGES_UNIT, "--containerd": PACKAGES_UNIT})
    text = script([Read.of(DockerInfo)])
    ran = subprocess.run(
        ["sh", "-s", PROBE], input=text, capture_output=True, text=True, check=True
    )
    (info,) = split(ran.stdout.splitlines())
    assert info.status in (0, 127)
    DockerInfo().parse(info.out.decode().splitlines())


def test_reads_a_daemon_that_answers() -> None:
    line = (  # Debian 13
        '{"Containers":2,"Driver":"overlay2","LoggingDriver":"json-file","CgroupDriver":"systemd",'
        '"DockerRootDir":"/var/lib/docker","ServerVersion":"26.1.5+dfsg1",'
        '"LiveRestoreEnabled":false}'
    )
    assert DockerInfo().parse([line]) == Engine(
        "26.1.5+dfsg1", "systemd", "overlay2", "json-file", "/var/lib/docker", False, 2
    )


def test_reads_docker_29_in_its_default_too() -> None:
    # Docker 29.7.2 with no configuration, on a disk that had no Docker before
    line = (
        '{"Containers":1,"Driver":"overlayfs","LoggingDriver":"json-file","CgroupDriver":"systemd",'
        '"DockerRootDir":"/var/lib/docker","ServerVersion":"29.7.2","LiveRestoreEnabled":false}'
    )
    found = DockerInfo().parse([line])
    assert found == Engine(
        "29.7.2", "systemd", "overlayfs", "json-file", "/var/lib/docker", False, 1
    )
    assert len(list(warnings(found, WANTED, restarts=False))) == 1


def test_a_docker_that_is_absent_or_down_is_a_value() -> None:
    assert DockerInfo().parse([]) is None
    with pytest.raises(FactProcessError):
        DockerInfo().process(["{}"])


def engine(driver: str = "overlay2", containers: int = 2, live_restore: bool = False) -> Engine:
    return Engine(
        "29.1", "systemd", driver, "json-file", "/var/lib/docker", live_restore, containers
    )


@pytest.mark.parametrize(
    ("found", "config", "restarts", "words"),
    [
        (None, WANTED, True, []),
        (engine(containers=0), {**WANTED, "data-root": "/ssd"}, True, []),
        (engine(), WANTED, False, []),
        (engine(), WANTED, True, ["has to restart, and its 2 containers stop"]),
        (engine(live_restore=True), WANTED, True, []),
        (engine("overlayfs"), WANTED, False, ["from overlayfs in /var/lib/docker"]),
        (
            engine(),
            {**WANTED, "data-root": "/ssd"},
            False,
            ["to overlay2 in /ssd; the present 2 containers"],
        ),
    ],
)
def test_what_happens_to_containers_is_worth_a_warning(
    found: Engine | None, config: dict[str, Any], restarts: bool, words: list[str]
) -> None:
    messages = list(warnings(found, config, restarts))
    assert len(messages) == len(words)
    for message, part in zip(messages, words, strict=True):
        assert part in message


def without(absent: str) -> dict[str, PackageState]:
    return {name: state for name, state in ALL.items() if name != absent}


def install_script(found: dict[str, PackageState], client: bool) -> str:
    return compose(*packages_to_change(found, client))


def runnable(script: str, folder: Path) -> str:
    """Return an installation's script for bash, without mounts and with its files in a folder."""
    (folder / "run").mkdir()
    text = script.replace("\napart() {\n", '\napart() { "$@"; }\nwith_mounts() {\n')
    text = text.replace("/usr/bin/docker", str(folder / "docker"))
    return (
        (PLACES + NOTES + text)
        .replace(DIRECTORY, f"{folder}/var")
        .replace("/run/chaos-engine", f"{folder}/run")
    )


def test_nothing_is_installed_where_all_is_there_and_held() -> None:
    assert install_script(ALL, client=True) == ""
    assert install_script(without("docker-cli"), client=True) == "", (
        "Ubuntu's docker.io has the client in it"
    )


@pytest.mark.parametrize(
    ("found", "client", "steps"),
    [
        ({}, False, ["update", "install docker.io ca-certificates", "install docker-cli"]),
        (
            {**ALL, "docker.io": PackageState("1", True, False)},
            True,
            ["update", "install docker.io"],
        ),
        (ALL, False, ["update", "install docker-cli"]),
        (without("ca-certificates"), True, ["update", "install ca-certificates"]),
        ({**ALL, "docker.io": PackageState("1", False, True)}, True, []),
    ],
    ids=["fresh", "interrupted", "client gone", "no certificates", "not held"],
)
def test_what_is_missing_is_installed_without_recommends_and_held(
    tmp_path: Path, found: dict[str, PackageState], client: bool, steps: list[str]
) -> None:
    """A shell runs the script, with programs that record their calls."""
    log = tmp_path / "log"
    text = runnable(install_script(found, client), tmp_path)
    if client:
        (tmp_path / "docker").touch(0o755)
    stand_ins = f"""
    tell() {{ :; }}
    dpkg() {{ :; }}
    apt-cache() {{ :; }}
    apt-get() {{ echo "apt-get $*" >> {log}; }}
    apt-mark() {{ echo "apt-mark $*" >> {log}; }}
    dpkg-query() {{ [ "$4" = docker.io ] && printf installed; }}
    """
    # dash has no functions with a dash in their name
    ran = subprocess.run(
        ["bash", "-c", f"set -eu\n{stand_ins}\n{text}"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    lines = log.read_text().splitlines()
    *asked, last = [line for line in lines if " -s " not in line and "showhold" not in line]
    assert last == "apt-mark hold docker.io"
    assert len(asked) == len(steps)
    for line, step in zip(asked, steps, strict=True):
        verb, *names = step.split()
        assert f" {verb}" in line
        assert line.endswith(" ".join([verb if not names else "held-packages", *names]))
        assert verb != "install" or "--no-install-recommends" in line


@pytest.mark.parametrize(("client", "also"), [(False, "docker-cli"), (True, "")])
def test_a_client_that_is_only_recommended_comes_with_docker(
    tmp_path: Path, client: bool, also: str
) -> None:
    """apt-cache of Debian 13 prints this. A package that is installed is not upgraded."""
    text = runnable(install_script({}, client), tmp_path)
    stand_ins = f"""
    tell() {{ :; }}
    dpkg() {{ :; }}
    apt-cache() {{ printf '  %s\\n' 'Depends: runc' 'Recommends: docker-cli' 'Suggests: x'; }}
    installed() {{ echo "$*"; install -m 755 /dev/null {tmp_path}/docker; }}
    apt-get() {{ case "$*" in *-s*) ;; *install*) installed "$@" ;; esac; }}
    apt-mark() {{ :; }}
    dpkg-query() {{ :; }}
    """
    if client:
        (tmp_path / "docker").touch(0o755)
    ran = subprocess.run(
        ["bash", "-c", f"set -eu\n{stand_ins}\n{text}"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    (install,) = ran.stdout.splitlines()
    assert install.endswith(f" docker.io ca-certificates {also}".rstrip())


@pytest.mark.parametrize("name", ["containerd", "runc"])
def test_what_docker_runs_on_is_finished_where_that_was_interrupted(name: str) -> None:
    found = {**ALL, name: PackageState("1", held=False, complete=False)}
    *_, install, _ = [
        line for line in install_script(found, True).splitlines() if "apt install" in line
    ]
    assert install == "apt install --no-install-recommends --allow-change-held-packages"
    assert packages_to_change(found, client=True) == ([name], [])


def test_every_apt_call_waits_and_keeps_needrestart_off() -> None:
    assert install_script({}, client=False).startswith(APT)


def test_the_reads_of_a_deploy_are_known_beforehand() -> None:
    with Nodes("pi1").on():
        assert len(reads(OPTIONS)) == 9
        assert reads(OPTIONS) != reads(Options("10m", 3, "/mnt/ssd"))


@pytest.mark.parametrize(
    ("said", "status"),
    [("systemd overlay2", 0), ("cgroupfs overlay2", 1), ("systemd overlayfs", 1)],
)
def test_a_docker_that_answers_with_something_else_is_not_ready(
    sandbox: Sandbox, said: str, status: int
) -> None:
    program = sandbox.path("docker")
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    ran = sandbox.run(f"PATH={sandbox.root}:$PATH\n{UNIT.ready}")
    assert ran.returncode == status, ran.stderr
    assert status == 0 or f"docker info says: {said}; wanted: systemd overlay2" in ran.stderr
