"""Create a cluster, join it and leave it: the decisions, the scripts, and who sees the secrets."""

from __future__ import annotations

import inspect
import shutil
import signal
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import pytest
import yaml
from pyinfra.api.exceptions import ConnectError, PyinfraError

from chaos_engine.deploys.forget import ForgetSettings
from chaos_engine.deploys.kubernetes import KubernetesSettings, configuration
from chaos_engine.deploys.membership import inventory_names
from chaos_engine.facts.api_servers import ApiServers
from chaos_engine.facts.membership import (
    INIT,
    JOIN,
    UNFINISHED,
    ApiState,
    ClusterApi,
    EtcdKeys,
    Membership,
    MembershipState,
)
from chaos_engine.facts.observe import NodeError, ask, current
from chaos_engine.facts.standing import NOTE
from chaos_engine.operations.membership import credentials as credentials_module
from chaos_engine.operations.membership import init as init_module
from chaos_engine.operations.membership import join as join_module
from chaos_engine.operations.membership.credentials import (
    Credentials,
    credentials,
    delete_script,
    filled,
    make_script,
    parse_credentials,
)
from chaos_engine.operations.membership.elsewhere import ask_silently, connect
from chaos_engine.operations.membership.forget import (
    Leaving,
    cannot_leave,
    last_of_controllers,
    member_of_etcd,
    plan,
    what_remains,
)
from chaos_engine.operations.membership.init import (
    await_api,
    cluster_exists,
    foreign_data,
    no_address,
)
from chaos_engine.operations.membership.init import unfinished as unfinished_init
from chaos_engine.operations.membership.join import (
    await_ready,
    no_source,
    not_deployed,
    taken,
    unreachable,
    version_problem,
)
from chaos_engine.operations.membership.kubeadm import (
    RESET,
    advice,
    init_script,
    join_script,
    reason,
    reset_script,
)
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.kubectl import ClusterNode, Kubectl
from tests.unit.kubeconfig import admin_conf
from tests.unit.nodes import Nodes
from tests.unit.test_api_servers import closed as closed
from tests.unit.test_api_servers import pair as pair
from tests.unit.test_etcd import CA, CLIENT, SERVER, Pair, store
from tests.unit.tls_server import QuietHandler, serving

TOKEN, HASH, KEY = "abcdef.0123456789abcdef", f"sha256:{'5' * 64}", "c0ffee00" * 8
SECRETS = Credentials(TOKEN, HASH, KEY)
READY, AWAY = ClusterNode(True, False), ClusterNode(False, False)

# kubeadm 1.36
JOIN_COMMAND = f"kubeadm join k8s:6443 --token {TOKEN} --discovery-token-ca-cert-hash {HASH} "
UPLOADED = [
    '[upload-certs] Storing the certificates in Secret "kubeadm-certs" in the "kube-system" '
    "Namespace",
    "[upload-certs] Using certificate key:",
    KEY,
]
REFUSED = """\
[preflight] Some fatal errors occurred:
\t[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists
\t[ERROR Port-10250]: Port 10250 is in use
[preflight] If you know what you are doing, you can make a check non-fatal with \
`--ignore-preflight-errors=...`
error: error execution phase preflight: preflight checks failed
To see the stack trace of this error execute with --v=5 or higher"""


def join_file(node: str, version: str = "1.36.2") -> str:
    """Return kubeadm's file for a join, as the deploy writes it."""
    settings = KubernetesSettings(
        nodes={"pi1": "192.168.1.50", "pi3": "192.168.1.52"},
        controllers=("pi1",),
        vip="192.168.1.60",
        kubernetes_version=version,
    )
    files = {file.path: file.content for file in configuration(settings, node)[0]}
    return str(files[JOIN])


# What is filled into kubeadm's file


@pytest.mark.parametrize("version", ["1.28.15", "1.36.2"])
def test_a_controller_gets_token_hash_and_certificate_key(version: str) -> None:
    text = filled(join_file("pi1", version), SECRETS)

    config = yaml.safe_load(text)
    token = config["discovery"]["bootstrapToken"]
    assert token["token"] == TOKEN
    assert token["caCertHashes"] == [HASH]
    assert config["controlPlane"]["certificateKey"] == KEY
    assert "PLACEHOLDER" not in text.partition("apiVersion")[2]


def test_a_worker_gets_no_certificate_key() -> None:
    text = filled(join_file("pi3"), Credentials(TOKEN, HASH))

    config = yaml.safe_load(text)
    assert config["discovery"]["bootstrapToken"]["token"] == TOKEN
    assert "controlPlane" not in config
    assert config["nodeRegistration"] == yaml.safe_load(join_file("pi3"))["nodeRegistration"]


@pytest.mark.parametrize(
    "file",
    [
        "kind: JoinConfiguration\n",
        join_file("pi3"),  # a worker's file on a controller
        join_file("pi1").replace("token: abcdef", "# token: abcdef"),
    ],
)
def test_a_file_with_other_placeholders_is_refused(file: str) -> None:
    with pytest.raises(ValueError, match="placeholders"):
        filled(file, SECRETS)


# What a controller makes


def test_what_kubeadm_prints_is_read() -> None:
    assert parse_credentials([JOIN_COMMAND], controller=False) == Credentials(TOKEN, HASH)
    assert parse_credentials([JOIN_COMMAND, *UPLOADED], controller=True) == SECRETS


@pytest.mark.parametrize(
    "lines", [[], [JOIN_COMMAND], UPLOADED, [JOIN_COMMAND.replace("sha256", "md5"), *UPLOADED]]
)
def test_an_error_about_kubeadms_output_does_not_show_it(lines: list[str]) -> None:
    with pytest.raises(NodeError) as error:
        parse_credentials(lines, controller=True)
    assert TOKEN not in str(error.value)
    assert KEY not in str(error.value)


def test_nobody_reads_secrets_where_credentials_are_printed() -> None:
    assert repr(SECRETS) == f"Credentials(ca_hash='{HASH}')"


def test_certificates_are_uploaded_with_the_file_and_for_controllers_only() -> None:
    assert f"upload-certs --upload-certs --config {INIT}" in make_script(controller=True)
    assert "upload-certs" not in make_script(controller=False)


@pytest.mark.parametrize("controller", [False, True])
def test_a_script_that_deletes_a_token_has_only_its_public_part(
    tmp_path: Path, controller: bool
) -> None:
    """Check it with kubeadm's table of tokens, in which the certificates have one of their own."""
    program(
        tmp_path,
        "kubeadm",
        f'echo "$*" >>{tmp_path}/calls\n'
        "[ $2 != list ] || cat <<END\n"
        "TOKEN TTL EXPIRES USAGES DESCRIPTION EXTRA GROUPS\n"
        "ghijkl.0123456789abcdef 1h 2026 <none> Proxy for managing TTL for the kubeadm-certs secret"
        " <none>\n"
        "mnopqr.0123456789abcdef 23h 2026 authentication,signing <none> system:bootstrappers\n"
        "END",
    )
    done = run(tmp_path, delete_script("abcdef", controller))

    assert done.returncode == 0, done.stderr
    own = ["token list", "token delete ghijkl"] if controller else []
    assert (tmp_path / "calls").read_text().splitlines() == ["token delete abcdef", *own]


class Controllers:
    """Hosts of the inventory of which some can be reached, and what they were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, away: str = "") -> None:
        self.nodes = Nodes("pi1", "pi4", "pi3")
        self.asked: list[tuple[str, str]] = []
        self.answer: list[str] | NodeError = [JOIN_COMMAND, *UPLOADED]
        self.away = away
        for name in ("pi1", "pi4"):
            host = self.nodes[name]
            host.connected = False
            monkeypatch.setattr(host.connector, "connect", lambda name=name: self.connect(name))
        monkeypatch.setattr(credentials_module, "ask_silently", self.ask)

    def connect(self, name: str) -> None:
        if name == self.away:
            raise ConnectError("Could not connect (timed out)")

    def ask(self, state: Any, host: Any, script: str) -> list[str]:
        self.asked.append((host.name, script.rpartition("\n")[2].partition(" |")[0]))
        if "delete" in script:
            return []
        if isinstance(self.answer, NodeError):
            raise self.answer
        return self.answer

    @contextmanager
    def joining(self) -> Iterator[Credentials]:
        sources = {"pi1": "pi1", "pi4": "pi4"}
        with (
            self.nodes.on("pi3") as host,
            credentials(self.nodes.state, host, sources, controller=False) as found,
        ):
            yield found


def test_a_controller_outside_the_run_makes_the_token_and_deletes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controllers = Controllers(monkeypatch)
    with controllers.joining() as found:
        assert found.token == TOKEN
        assert len(controllers.asked) == 1
    assert controllers.asked == [
        ("pi1", "kubeadm token create --ttl 15m --print-join-command"),
        ("pi1", "kubeadm token delete abcdef"),
    ]


@pytest.mark.parametrize("error", [NodeError("kubeadm join"), KeyboardInterrupt()])
def test_the_token_is_deleted_after_a_failure_too(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    controllers = Controllers(monkeypatch)
    with pytest.raises(type(error)), controllers.joining():
        raise error
    assert controllers.asked[-1] == ("pi1", "kubeadm token delete abcdef")


def test_the_next_controller_is_asked_if_one_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controllers = Controllers(monkeypatch, away="pi1")
    with controllers.joining():
        pass
    assert {name for name, _ in controllers.asked} == {"pi4"}


def test_a_controller_that_cannot_make_a_token_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    controllers = Controllers(monkeypatch)
    controllers.answer = NodeError("failed to load admin kubeconfig")
    with pytest.raises(NodeError) as error, controllers.joining():
        pass
    assert str(error.value) == (
        "pi1 cannot make a bootstrap token: failed to load admin kubeconfig"
    )


def test_a_host_that_cannot_be_reached_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, tries = Nodes("pi1"), []

    def fail() -> None:
        tries.append(1)
        raise ConnectError("Could not connect (timed out)")

    nodes["pi1"].connected = False
    monkeypatch.setattr(nodes["pi1"].connector, "connect", fail)
    with nodes.on():
        for _ in range(2):
            assert connect(nodes.state, "pi1", "to see")[1] == "Could not connect (timed out)"
    assert tries == [1]


def test_nodes_that_want_the_same_host_connect_to_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, tries = Nodes("pi1"), []

    def answer() -> None:
        tries.append(1)
        gevent.sleep(0.01)

    nodes["pi1"].connected = False
    monkeypatch.setattr(nodes["pi1"].connector, "connect", answer)
    both = [gevent.spawn(connect, nodes.state, "pi1", "to see") for _ in range(2)]
    gevent.joinall(both, raise_error=True)
    assert [one.value[1] for one in both] == ["", ""]
    assert tries == [1]


def test_what_a_host_is_asked_silently_is_not_printed(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1")
    nodes.state.print_output = nodes.state.print_input = True
    caplog.set_level(0)
    with nodes.on() as host:
        assert ask_silently(nodes.state, host, "echo a; echo secret$((40 + 2))") == [
            "a",
            "secret42",
        ]
    assert "secret42" not in "".join(capfd.readouterr()) + caplog.text


def test_a_silent_question_that_fails_says_what_the_program_said() -> None:
    nodes = Nodes("pi1")
    with nodes.on() as host, pytest.raises(NodeError, match="no such thing"):
        ask_silently(nodes.state, host, "echo no such thing >&2; exit 3")


# Scripts


def program(folder: Path, name: str, does: str) -> None:
    """Write a program into a folder that is the first one of a script's PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


def local(folder: Path, script: str) -> str:
    """Return a script with the package's folders, and kubeadm's files, moved into a folder."""
    for path in ("/var/lib/chaos-engine", "/run/chaos-engine", "/etc/kubernetes"):
        script = script.replace(path, f"{folder}{path}")
    return script.replace("export PATH=", f"export PATH={folder}:").replace(
        "LC_ALL=C PATH=", f"LC_ALL=C PATH={folder}:"
    )


def run(folder: Path, script: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", local(folder, script)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def kubeadm(folder: Path, does: str = "") -> None:
    """Put a kubeadm into a folder. It logs its arguments, and the file's mode and content."""
    (folder / "etc/kubernetes").mkdir(parents=True, exist_ok=True)
    program(
        folder,
        "kubeadm",
        f'echo kubeadm "$*" >>{folder}/calls\ncase $1 in join) stat -c %a $3 >>{folder}/calls\n'
        f"cat $3 >>{folder}/config ;; esac\necho 'token: {TOKEN}'\n{does}",
    )


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().replace(str(folder), "").splitlines()


@pytest.mark.parametrize("status", [0, 1])
def test_only_root_reads_the_secrets_and_only_while_kubeadm_runs(
    tmp_path: Path, status: int
) -> None:
    kubeadm(tmp_path, f"exit {status}")
    done = run(tmp_path, join_script(unfinished=False), stdin=f"token: {TOKEN}\n")

    assert done.returncode == status
    assert calls(tmp_path) == [
        "kubeadm join --config /run/chaos-engine/kubeadm-join.yaml",
        "600",
    ]
    assert (tmp_path / "config").read_text() == f"token: {TOKEN}\n"
    assert TOKEN not in done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "run/chaos-engine").iterdir()] == ["lock"]
    assert stat.S_IMODE((tmp_path / "run/chaos-engine").stat().st_mode) == 0o700


def test_a_script_that_is_ended_leaves_no_secret(tmp_path: Path) -> None:
    conf = tmp_path / "etc/kubernetes/kubelet.conf"
    kubeadm(
        tmp_path,
        f"touch {conf} {tmp_path}/runs; while [ -e {tmp_path}/runs ]; do sleep 0.02; done; exit 1",
    )
    with subprocess.Popen(
        ["sh", "-c", local(tmp_path, join_script(unfinished=False))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(f"token: {TOKEN}\n")
        process.stdin.close()
        deadline = time.monotonic() + 20
        while not (tmp_path / "runs").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        (tmp_path / "runs").unlink()
    assert process.returncode != 0
    assert not (tmp_path / "run/chaos-engine/kubeadm-join.yaml").exists()
    assert (tmp_path / UNFINISHED[1:]).exists(), "the next run would not know of it"


def test_kubeadm_that_fails_half_way_is_noted_until_it_succeeds(tmp_path: Path) -> None:
    note, conf = tmp_path / UNFINISHED[1:], tmp_path / "etc/kubernetes/kubelet.conf"
    kubeadm(tmp_path, f"touch {conf}; exit 1")
    assert run(tmp_path, join_script(unfinished=False)).returncode == 1
    assert note.read_text() == "join\n"

    kubeadm(tmp_path, "")
    assert run(tmp_path, join_script(unfinished=True)).returncode == 0
    assert not note.exists()
    assert calls(tmp_path)[2] == RESET
    assert calls(tmp_path)[3].startswith("kubeadm join ")


def test_kubeadm_that_refuses_at_once_is_not_noted(tmp_path: Path) -> None:
    kubeadm(tmp_path, "exit 1")
    for script in (join_script(unfinished=False), init_script(INIT)):
        assert run(tmp_path, script).returncode == 1
        assert not (tmp_path / UNFINISHED[1:]).exists()


def test_init_prints_no_secret_and_notes_what_it_has_begun(tmp_path: Path) -> None:
    kubeadm(tmp_path, f"touch {tmp_path}/etc/kubernetes/kubelet.conf; exit 1")
    done = run(tmp_path, init_script(INIT))

    assert TOKEN not in done.stdout + done.stderr
    assert (tmp_path / UNFINISHED[1:]).read_text() == "init\n"


def test_a_reset_removes_the_notes(tmp_path: Path) -> None:
    kubeadm(tmp_path)
    for path in (NOTE, UNFINISHED):
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).touch()

    assert run(tmp_path, reset_script(NOTE)).returncode == 0

    assert calls(tmp_path) == [RESET]
    assert [*(tmp_path / "var/lib/chaos-engine").iterdir()] == []


# What kubeadm says


def test_all_of_kubeadms_errors_are_told_and_none_of_its_advice() -> None:
    assert reason(REFUSED.splitlines()) == (
        "[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already "
        "exists; [ERROR Port-10250]: Port 10250 is in use; error: error execution phase preflight: "
        "preflight checks failed"
    )
    assert RESET in advice(reason(REFUSED.splitlines()))


def test_a_failure_without_an_error_has_kubeadms_last_lines() -> None:
    assert reason(["W1129 10:00:00 warns", "one", "two", "three", "four"]) == "two; three; four"
    assert reason([]) == "kubeadm failed without a message"


def test_a_node_that_is_still_ready_needs_a_minute() -> None:
    problem = 'error: a Node with name "pi3" and status "Ready" already exists in the cluster.'
    assert "wait a minute" in advice(problem)


# Facts


def test_a_fresh_node_has_nothing_to_join_with(tmp_path: Path) -> None:
    done = run(tmp_path, Membership().command().replace("kubelet >", "kubelet-absent >"))
    assert (done.returncode, Membership().process(done.stdout.splitlines())) == (
        0,
        MembershipState(),
    )


def test_a_nodes_files_and_version_are_read(tmp_path: Path) -> None:
    kubeadm(tmp_path)
    program(tmp_path, "kubelet", "echo Kubernetes v1.36.2")
    for path, text in (
        (INIT, "init"),
        (JOIN, "kind: é\n"),
        (UNFINISHED, "join\n"),
        ("/etc/kubernetes/kubelet.conf", "secret"),
    ):
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_text(text)
    done = run(tmp_path, f"PATH={tmp_path}:$PATH\n{Membership().command()}")

    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout
    assert Membership().process(done.stdout.splitlines()) == MembershipState(
        True, "join", "1.36.2", True, "kind: é\n"
    )


def api(at: str) -> ApiState:
    command = ClusterApi().command(endpoint=at).get_raw_value()
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return ClusterApi().process(done.stdout.splitlines())


def test_the_api_at_its_address_says_its_version(pair: Path) -> None:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            if self.path == "/version":
                self.wfile.write(b'{\n  "major": "1",\n  "gitVersion": "v1.36.2"\n}')

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair)
    with serving(Handler, tls) as port:
        assert api(f"127.0.0.1:{port}") == ApiState("200", "1.36.2")
        assert api(f"localhost:{port}").ready


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_api_that_starts_or_knows_nobody_has_no_version(pair: Path, status: int) -> None:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair)
    with serving(Handler, tls) as port:
        found = api(f"127.0.0.1:{port}")
    assert found == ApiState(str(status))
    assert found.ready == (status == 401)


def test_an_address_that_nobody_has_differs_from_one_without_an_api_server(closed: int) -> None:
    assert api(f"127.0.0.1:{closed}") == ApiState("absent")
    assert api("no-such-name.invalid:6443") == ApiState("absent")


def keys(folder: Path, *servers: str) -> int:
    command = EtcdKeys().command(servers=servers, folder=str(folder)).get_raw_value()
    command = command.replace(":2379", "")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return EtcdKeys().process(done.stdout.splitlines())


@pytest.mark.parametrize(("count", "expected"), [('"count":"7"', 7), ("", 0)])
def test_keys_of_a_cluster_are_counted_on_the_first_etcd_that_answers(
    tmp_path: Path, closed: int, count: str, expected: int
) -> None:
    asked = []

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            more = f",{count}" if count else ""
            self.wfile.write(f'{{"header":{{"revision":"9"}}{more}}}'.encode())

    store(tmp_path, "client", Pair("client", CA, usages=CLIENT))
    (tmp_path / "ca.crt").write_bytes(CA.certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*store(tmp_path / "server", "s", Pair("s", CA, usages=SERVER)))
    tls.load_verify_locations(cadata=CA.certificate.decode())
    tls.verify_mode = ssl.CERT_REQUIRED
    with serving(Handler, tls) as port:
        servers = (f"127.0.0.1:{closed}", f"127.0.0.1:{port}", f"127.0.0.1:{port}")
        assert keys(tmp_path, *servers) == expected
    ((path, body),) = asked
    assert path == "/v3/kv/range"
    # base64 of /registry/ and of the text after all that begin with it
    assert yaml.safe_load(body) == {
        "key": "L3JlZ2lzdHJ5Lw==",
        "range_end": "L3JlZ2lzdHJ5MA==",
        "count_only": True,
    }


def test_without_a_client_or_an_answer_no_key_is_counted(tmp_path: Path, closed: int) -> None:
    assert keys(tmp_path, f"127.0.0.1:{closed}") == 0
    store(tmp_path, "client", Pair("client", CA, usages=CLIENT))
    (tmp_path / "ca.crt").write_bytes(CA.certificate)
    assert keys(tmp_path, f"127.0.0.1:{closed}") == 0


# Whether a node may join


@pytest.mark.parametrize(
    ("kubelet", "api", "fits"),
    [
        ("1.36.2", "1.36.2", True),
        ("1.36.4", "1.36.2", True),
        ("1.36.2", "", True),
        ("1.36.2", "1.35.9", False),
        ("1.35.9", "1.36.2", False),
        ("1.28.15", "1.36.2", False),
    ],
)
def test_a_node_joins_a_cluster_of_its_own_minor_version(
    kubelet: str, api: str, fits: bool
) -> None:
    assert (version_problem(kubelet, api) == "") == fits


def test_a_node_of_another_version_is_told_which_one_to_deploy() -> None:
    with Nodes("pi1").on():
        said = str(NodeError(version_problem("1.36.2", "1.35.9")))
    assert said == (
        "kubelet and kubeadm 1.36.2 cannot join a cluster of version 1.35.9; set "
        "kubernetes_version to a release of 1.35 and deploy the node, or upgrade the cluster first"
    )


@pytest.mark.parametrize(
    ("known", "unfinished", "free"),
    [(None, "", True), (AWAY, "", True), (READY, "", False), (READY, "join", True)],
)
def test_a_name_is_free_unless_a_ready_node_has_it(
    known: ClusterNode | None, unfinished: str, free: bool
) -> None:
    """Check it, as the node of a dead card stays in the cluster, and is not Ready."""
    assert (taken("pi3", known, unfinished) == "") == free


def test_a_node_that_was_not_deployed_cannot_join() -> None:
    assert "has no kubelet; deploy" in not_deployed(MembershipState(join="x"))
    assert f"has no {JOIN}; deploy" in not_deployed(MembershipState(kubelet="1.36.2"))
    assert not_deployed(MembershipState(kubelet="1.36.2", join="x")) == ""


@pytest.mark.parametrize("after_deploy", [False, True])
@pytest.mark.parametrize(
    ("found", "api", "problem"),
    [
        (MembershipState(), ApiState("200", "1.36.2"), "has no kubelet; deploy the node first"),
        (MembershipState(kubelet="1.36.2", join="x"), ApiState(), "nothing accepts a connection"),
        (
            MembershipState(kubelet="1.35.1", join="x"),
            ApiState("200", "1.36.2"),
            "cannot join a cluster of version 1.36.2",
        ),
    ],
)
def test_a_preview_announces_a_join_that_a_deploy_of_the_run_may_make_possible(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    found: MembershipState,
    api: ApiState,
    problem: str,
    after_deploy: bool,
) -> None:
    """Check that the run itself looks again, and refuses a node that still cannot join."""
    answers = {Membership: found, ClusterApi: api, ApiServers: {"192.168.1.50": "200"}}
    monkeypatch.setattr(
        ask, "_read", lambda host, reads: {read: answers[read.fact] for read in reads}
    )
    caplog.set_level(0)
    nodes = Nodes("pi3")

    def deploy() -> None:
        join_module.join_cluster(
            name="Join",
            rolling=Rolling(node="pi3"),
            endpoint="k8s:6443",
            controllers={"pi1": "192.168.1.50"},
            hosts={"pi1": "pi1"},
            after_deploy=after_deploy,
        )

    nodes.prepare(deploy)

    announced = "join the cluster at k8s:6443 as a worker, once it is deployed"
    assert (announced in caplog.text) == after_deploy
    caplog.clear()
    with suppress(PyinfraError):
        nodes.execute()
    assert nodes.failed == {"pi3"}
    assert problem in caplog.text


def test_it_is_told_whether_the_proxy_or_the_api_servers_are_missing() -> None:
    assert unreachable(ApiState("200"), "k8s:6443") == ""
    assert "deploy the proxy" in unreachable(ApiState("absent"), "k8s:6443")
    for answer in ("silent", "503"):
        said = unreachable(ApiState(answer), "k8s:6443")
        assert f"({answer})" in said
        assert "chaos_engine.deploys.init" in said


def test_only_a_ready_controller_of_the_inventory_makes_tokens() -> None:
    assert no_source(["pi1", "pi4"], {"pi4": "pi4"}, ["pi1", "pi4"]) == ""
    assert "is in the inventory (pi1)" in no_source(["pi1"], {}, ["pi1"])
    assert "none is ready (pi1, pi4)" in no_source(["pi1", "pi4"], {"pi1": "pi1"}, [])
    assert "no other controllers are known" in no_source([], {}, [])


def test_controllers_are_found_in_the_inventory_outside_the_run_too() -> None:
    nodes = Nodes("pi1.lan", "b", hosts={"b": {"ssh_hostname": "192.168.1.53"}})
    nodes.state.activated_hosts.clear()
    settings = KubernetesSettings(nodes={"pi1": "192.168.1.50", "pi4": "192.168.1.53"})
    with nodes.on("b"):
        assert inventory_names(settings.nodes) == {"pi1": "pi1.lan", "pi4": "b"}


@dataclass(frozen=True)
class ClusterStub(Kubectl):
    """A cluster in which the node's state is that of the next answer, at last the last one."""

    answers: tuple[ClusterNode | None, ...] = ()
    asked: list[int] = field(default_factory=list)

    def nodes(self) -> dict[str, ClusterNode]:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(1)
        return {"pi3": answer} if answer else {}


NO_CNI = ClusterNode(
    False,
    False,
    why="container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
    "message:docker: network plugin is not ready: cni config uninitialized",
)


@pytest.mark.parametrize(
    ("answers", "asked", "problem", "printed"),
    [
        ((None, AWAY, READY), 3, "", ""),
        ((None, NO_CNI), 2, "", "not Ready until the cluster has a pod network"),
        ((ClusterNode(True, True),), 1, "", "kubectl uncordon pi3"),
        ((ClusterNode(False, False, why="PLEG is not healthy"),), 0, "PLEG is not healthy", ""),
        ((None,), 0, "the cluster does not have it", ""),
    ],
)
def test_a_node_is_waited_for_until_it_lacks_at_most_a_pod_network(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answers: tuple[ClusterNode | None, ...],
    asked: int,
    problem: str,
    printed: str,
) -> None:
    monkeypatch.setattr(join_module, "PAUSE", 0.01)
    monkeypatch.setattr(join_module, "WORKS_AGAIN_SECONDS", 0.2 if problem else 60)
    caplog.set_level(0)
    cluster = ClusterStub("", answers=answers)
    with Nodes().on() as host:
        found = await_ready(host, Rolling(node="pi3", kubectl=cluster))
    assert problem in found
    assert bool(found) == bool(problem)
    assert printed in caplog.text
    assert not asked or len(cluster.asked) == asked


def test_without_a_kubeconfig_nobody_waits_for_ready() -> None:
    with Nodes().on() as host:
        assert await_ready(host, Rolling(node="pi3")) == ""


# Whether a node may create a cluster


@pytest.mark.parametrize(
    ("answers", "api", "exists"),
    [
        ({}, "silent", False),
        ({"pi4": "absent", "pi7": "silent"}, "silent", False),
        ({"pi4": "absent", "pi7": "200"}, "silent", True),
        ({"pi4": "500"}, "absent", True),
        ({"pi4": "absent"}, "200", True),
        ({}, "403", True),
    ],
)
def test_a_cluster_exists_if_any_api_server_answers(
    answers: dict[str, str], api: str, exists: bool
) -> None:
    said = cluster_exists("pi1", answers, ApiState(api), "k8s:6443")
    assert bool(said) == exists
    assert ("chaos_engine.deploys.join --limit pi1" in said) == exists


def test_data_of_a_cluster_in_etcd_is_never_taken_over() -> None:
    assert foreign_data(0) == ""
    assert "212 keys" in foreign_data(212)


def test_the_apis_address_has_to_be_there_before() -> None:
    assert no_address("192.168.1.50", ApiState("silent"), "k8s:6443") == ""
    assert "deploy the proxy first" in no_address("192.168.1.50", ApiState(), "k8s:6443")
    # without a proxy the API has this node's address, and begins to answer by kubeadm init
    assert no_address("192.168.1.50", ApiState(), "192.168.1.50:6443") == ""


@pytest.mark.parametrize("comes", [True, False])
def test_a_cluster_is_there_once_its_api_answers_at_its_address(
    monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    """Check it, as HAProxy needs some seconds to find out that an API server is ready."""
    answers = ["absent", "silent", "503", *(["200"] if comes else [])]
    monkeypatch.setattr(init_module, "PAUSE", 0.01)
    monkeypatch.setattr(init_module, "API_SECONDS", 60 if comes else 0.2)
    monkeypatch.setattr(
        init_module, "ask", lambda host, command: [answers.pop(0) if answers[1:] else answers[0]]
    )
    with Nodes().on() as host:
        said = await_api(host, "k8s:6443")
    assert said == ("" if comes else (
        "the cluster is there, but its API does not answer at k8s:6443 (503); look at: "
        "chaos_engine.deploys.verify --limit proxy"
    ))  # fmt: skip


def test_an_init_that_did_not_finish_is_not_repeated_over_its_remains() -> None:
    half = MembershipState(joined=True, unfinished="init")
    assert RESET in unfinished_init(half, has_data=False)
    assert RESET in unfinished_init(MembershipState(unfinished="init"), has_data=True)
    assert unfinished_init(MembershipState(unfinished="init"), has_data=False) == ""
    assert unfinished_init(MembershipState(joined=True), has_data=True) == ""


# Whether a node may leave


HOST: Any = object()


@pytest.mark.parametrize(
    ("found", "free"),
    [
        (Leaving(None), True),
        (Leaving(AWAY, None, "timed out"), True),
        (Leaving(AWAY, HOST), True),
        (Leaving(READY, HOST, joined=True), True),
        (Leaving(READY, None, "timed out"), False),
        (Leaving(READY, HOST), False),
    ],
)
def test_a_node_that_works_but_cannot_be_stopped_stays(found: Leaving, free: bool) -> None:
    assert (cannot_leave("pi3", found) == "") == free


@pytest.mark.parametrize(
    ("own", "others", "free"),
    [
        ("silent", {"pi4": "silent"}, True),
        ("absent", {}, True),
        ("200", {"pi4": "200", "pi7": "200"}, True),
        ("200", {"pi4": "200", "pi7": "absent"}, True),
        ("200", {"pi4": "200", "pi7": "500"}, False),
        ("200", {"pi4": "silent", "pi7": "silent"}, False),
        ("200", {"pi4": "absent"}, False),
        ("200", {}, False),
        ("500", {"pi4": "403"}, False),
    ],
)
def test_a_controller_leaves_only_if_enough_api_servers_stay(
    own: str, others: dict[str, str], free: bool
) -> None:
    rolling = Rolling("controller", node="pi1", controller=True)
    assert (last_of_controllers(rolling, own, others) == "") == free


def test_a_dead_node_is_deleted_and_a_live_one_is_drained_and_reset_before() -> None:
    dead = Leaving(AWAY, None, "timed out")
    assert plan("pi3", dead) == [
        "delete the node pi3 from the cluster (not Ready; ssh does not reach it: timed out)"
    ]
    assert plan("pi3", Leaving(READY, HOST, joined=True)) == [
        "drain pi3",
        "run kubeadm reset on pi3",
        "delete the node pi3 from the cluster (Ready)",
    ]
    assert plan("pi3", Leaving(None, HOST, joined=True)) == ["run kubeadm reset on pi3"]


def test_nothing_is_left_to_do_for_a_node_that_has_left() -> None:
    assert plan("pi3", Leaving(None)) == []
    assert plan("pi3", Leaving(None, HOST)) == []


def test_host_keys_are_removed_from_each_file_that_has_some() -> None:
    found = Leaving(None, keys=((Path("/a"), 2), (Path("/b"), 1)))
    assert plan("pi3", found) == [
        "remove the host keys of pi3 from /a (2 lines)",
        "remove the host keys of pi3 from /b (1 lines)",
    ]


def test_it_is_told_what_to_edit_if_the_node_is_gone_for_good() -> None:
    back, gone = what_remains("pi7", controller=True, keys=True)
    assert "forget_host_key" in back
    assert "controllers" in gone
    back, gone = what_remains("pi3", controller=False, keys=False)
    assert "host_key" not in back
    assert "controllers" not in gone
    assert "member remove ID" in member_of_etcd("pi7")


@pytest.mark.parametrize(
    ("hosts", "leader"), [(("pi1", "pi3"), "pi1"), (("pi3", "pi1"), "pi1"), (("pi3",), "pi3")]
)
def test_another_host_of_the_run_forgets_the_node_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hosts: tuple[str, ...], leader: str
) -> None:
    """Check it, as the node itself may be dead, and is not in the run then."""
    calls: dict[str, Any] = {}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(admin_conf("192.168.1.60"))
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    nodes = Nodes(
        *hosts,
        data={
            "chaos_nodes": {"pi1": "192.168.1.50", "pi3": "192.168.1.52", "pi4": "192.168.1.53"},
            "chaos_controllers": ["pi3", "pi4"],
            "chaos_kubeconfig": str(kubeconfig),
            "chaos_forget": "pi3",
        },
    )
    module = import_module("chaos_engine.deploys.forget")
    body = inspect.unwrap(module.forget)
    monkeypatch.setattr(
        module, "forget_node", lambda **given: calls.update({current()[1].name: given})
    )
    for host in hosts:
        with nodes.on(host):
            body(ForgetSettings.resolve(by="forget"))

    assert [*calls] == [leader]
    given = calls[leader]
    assert (given["at"], given["address"]) == ("pi3", "192.168.1.52")
    rolling = given["rolling"]
    assert (rolling.node, rolling.lane, rolling.controller) == ("pi3", "controller", True)
    assert rolling.controllers == {"pi4": "192.168.1.53"}
