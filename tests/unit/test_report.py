"""The report: what it says of each node, its files, and its page."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.connect import disconnect_all
from pyinfra.api.exceptions import ConnectError
from pyinfra.context import ctx_state

from chaos_engine.deploys.report import ReportSettings, report
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.worker import WorkerSettings
from chaos_engine.facts.card import Card, RootCard
from chaos_engine.facts.certificates import CertificateState
from chaos_engine.facts.haproxy import ServerState
from chaos_engine.facts.health import Health
from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.openpgp import dearmor
from chaos_engine.facts.swap import Swaps, SwapState
from chaos_engine.facts.thermal import ThermalState
from chaos_engine.facts.writers import Writer
from chaos_engine.operations.report import ending, history
from chaos_engine.operations.report.contents import (
    Found,
    NodeReport,
    Report,
    node_report,
    sample_of,
    unread_report,
    validities,
    worn_words,
)
from chaos_engine.operations.report.fixes import FIXES, address, documents, place_of
from chaos_engine.operations.report.page import (
    HEIGHT,
    MARGIN,
    WIDTH,
    amount,
    duration,
    html,
    plot,
    years,
)
from chaos_engine.operations.report.wear import DAY, MB, Point, Sample
from tests.unit.nodes import Nodes
from tests.unit.openpgp_samples import SHORT
from tests.unit.test_verify import concern

CHECKOUT = Path(__file__).resolve().parents[2]
NOW = 1_795_000_000
CARD = Card(
    device="mmcblk0",
    kind="SD",
    model="SC64G",
    date="05/2021",
    serial="0x0b8c7a12",
    size=63_864_569_856,
    life_time=(),
    reserve=0,
    written=300 * MB,
    uptime=3.0 * DAY,
    boot_id="boot-1",
)
WELL = Found(
    concerns={"docker": [], "swap": []},
    versions={"kernel": "6.12.34+rpt-rpi-v8", "docker": "26.1.5", "kubelet": None},
    skew=0,
    card=CARD,
    writers=(Writer("dockerd", 1, 200 * MB),),
    thermal=ThermalState(48.7, False, ()),
    certificates=(CertificateState("/etc/kubernetes/pki/ca.crt", "CN=ca", NOW + 400 * DAY, NOW),),
)


def of(found: Found, rating: float | None = None, *earlier: Sample) -> NodeReport:
    return node_report("pi1", found, earlier, NOW, rating)


def texts(node: NodeReport) -> list[str]:
    return [problem.text for problem in node.problems]


class TestContents:
    def test_a_node_that_is_well_has_no_problem(self) -> None:
        node = of(WELL, 117)
        assert node.problems == ()
        assert node.wear is not None
        assert node.wear.since_boot is not None
        assert node.wear.since_boot.mb_a_day == 100
        assert node.booted == NOW - 3 * DAY
        assert node.line == (Point(NOW, 100.0),)

    def test_a_node_that_tells_nothing_has_gaps_and_no_problem(self) -> None:
        node = of(Found(concerns={"docker": []}))
        assert node.problems == ()
        assert (node.card, node.wear, node.thermal, node.validities) == (None, None, None, None)

    def test_each_problem_leads_to_its_fix(self) -> None:
        found = replace(
            WELL,
            concerns={"preflight": ["its clock is 900 s ahead"], "docker": ["to be done: x"]},
            reboot=("the kernel was started without cgroup_enable=memory",),
            thermal=ThermalState(81.0, True, ("too low voltage since the boot",)),
            card=replace(CARD, life_time=(10, 2), reserve=2),
            keyring=b"not a key",
            keyring_path="/etc/apt/keyrings/k.gpg",
        )
        assert [(problem.text, problem.place) for problem in of(found, 0.0003).problems] == [
            ("preflight: its clock is 900 s ahead", "lost.md#in-the-middle-of-a-deploy"),
            ("docker: to be done: x", "symptoms.md#afterwards"),
            (
                "a reboot is due: the kernel was started without cgroup_enable=memory",
                "live-cluster.md#changes",
            ),
            (
                "power or cooling: too low voltage since the boot",
                "report.md#temperature-and-voltage",
            ),
            (
                "the card says that it is worn: 90 % to 100 % of its life is used, the spare "
                "blocks are used to 80 %",
                "lost.md#a-card-or-a-whole-node",
            ),
            (
                "the card reaches its rating in 0.0 years",
                "lost.md#what-still-writes-to-the-card",
            ),
            ("/etc/apt/keyrings/k.gpg has no key that can be read", "report.md#certificates"),
        ]

    def test_a_controller_that_haproxy_sees_down_is_a_problem_once_there_is_a_cluster(self) -> None:
        servers = (ServerState("pi1", "UP", 900), ServerState("pi4", "DOWN", 60))
        assert texts(of(replace(WELL, servers=servers))) == []
        node = of(replace(WELL, servers=servers, joined=True))
        assert texts(node) == ["HAProxy sees the controller pi4 as DOWN"]
        assert "DOWN for 60 seconds" in " ".join(Elements(page(node)).text.split())

    def test_a_low_voltage_is_a_problem_without_vcgencmd_too(self) -> None:
        found = replace(WELL, thermal=ThermalState(40.0, True, None))
        assert texts(of(found)) == ["power or cooling: too low voltage now"]

    def test_a_node_that_was_not_read_keeps_its_line(self) -> None:
        node = unread_report("pi9", "SSH error: timed out", [sample_of(CARD, NOW - DAY)])
        assert texts(node) == ["SSH error: timed out"]
        assert node.problems[0].place == "start.md#real-pis"
        assert node.line == (Point(NOW - DAY, 100.0),)

    def test_apts_key_counts_by_the_last_to_expire(self) -> None:
        (one,) = validities(None, dearmor(SHORT.encode()), "/k.gpg", NOW) or ()
        assert one.path == "/k.gpg"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", one.expires)
        (bad,) = validities(None, b"no key", "/k.gpg", NOW) or ()
        assert (bad.expires, bad.days) == ("", None)

    @pytest.mark.parametrize(
        ("life_time", "reserve", "words"),
        [
            ((), 0, ""),
            ((1, 1), 1, "0 % to 10 % of its life is used, the spare blocks are normal"),
            ((11, 1), 3, "its life is over, the spare blocks are used to 90 %"),
        ],
    )
    def test_an_emmc_is_quoted(self, life_time: tuple[int, ...], reserve: int, words: str) -> None:
        assert worn_words(replace(CARD, life_time=life_time, reserve=reserve)) == words


class TestFixes:
    def test_the_list_is_that_of_the_index_by_symptom(self) -> None:
        section, rows = "", []
        for line in (CHECKOUT / "docs/symptoms.md").read_text().splitlines():
            if line.startswith("## "):
                section = line[3:].lower().replace(" ", "-")
            cells = line.strip("| ").split(" | ") if line.startswith("| ") else []
            if cells and (quoted := re.fullmatch(r"`([^`]+)`", cells[0])):
                link = re.search(r"\]\(([^)]+)\)", line)
                rows.append((quoted[1], link[1] if link else f"symptoms.md#{section}"))
        assert list(FIXES) == rows

    def test_every_place_is_there(self) -> None:
        module = import_module("chaos_engine.operations.report.fixes")
        own = [value for name, value in vars(module).items() if name.isupper() and name != "FIXES"]
        for place in {place for _, place in FIXES} | {*own}:
            page, _, anchor = place.partition("#")
            text = (CHECKOUT / "docs" / page).read_text()
            titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not anchor or anchor in anchors, place

    def test_what_differs_in_a_message_does_not_matter(self) -> None:
        assert place_of("82 MiB free, 400 MiB are needed") == "lost.md#in-the-middle-of-a-deploy"
        assert place_of("something else") == "symptoms.md#afterwards"

    def test_the_built_documents_are_preferred(self, tmp_path: Path) -> None:
        folder = tmp_path / "report"
        assert documents(tmp_path, folder) == ""
        assert address("a.md#b", "") == ""
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs/symptoms.md").touch()
        assert address("a.md#b", documents(tmp_path, folder)) == "../docs/a.md#b"
        (tmp_path / "site/symptoms").mkdir(parents=True)
        (tmp_path / "site/symptoms/index.html").touch()
        assert address("a.md", documents(tmp_path, folder)) == "../site/a/index.html"


class Elements(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(*nodes: NodeReport, documents: str = "", **more: Any) -> str:
    return html(Report(NOW, nodes, **more), documents)


def history_of(count: int) -> list[Sample]:
    """Give the counters of daily reports, oldest first, with a reboot each tenth day."""
    return [
        Sample(
            NOW - (count - day) * DAY,
            sample_of(CARD, NOW).card,
            f"boot-{day // 10}-before",
            (day % 10 + 1) * (90 + day % 7) * MB,
            (day % 10 + 1) * float(DAY),
        )
        for day in range(count)
    ]


class TestPage:
    def test_a_hostile_name_or_message_is_text(self) -> None:
        evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x1b[31m\x00\udcff"
        found = replace(
            WELL,
            concerns={"docker": [evil]},
            versions={"kernel": evil},
            reboot=(evil,),
            servers=(ServerState(evil, evil, 1),),
            owner=f"{evil}x",
            card=replace(CARD, model=evil, device=evil, date=evil),
            writers=(Writer(evil, 1, 5),),
            certificates=(CertificateState(evil, evil, None, None),),
            unread={"temperature": evil},
        )
        node = replace(of(found), name=evil)
        lost = unread_report(evil, evil, [])
        made = page(node, lost, warnings=(evil,))
        elements = Elements(made)
        assert {"script", "img"}.isdisjoint(tag for tag, _ in elements.elements)
        assert not any(name.startswith("on") for _, attrs in elements.elements for name in attrs)
        assert elements.text.count("<script>alert(1)</script>") >= 8
        assert "\x1b" not in made
        assert "\x00" not in made

    @pytest.mark.parametrize(
        ("owner", "says"),
        [
            (None, "HAProxy on this node has the API's address. This is how"),
            ("pi1", "HAProxy on this node has the API's address. This is how"),
            ("pi7", "HAProxy on pi7 has the API's address, and this node's takes it over. This is"),
            ("", "Which proxy has the API's address is not known. This is how"),
        ],
    )
    def test_a_proxy_says_who_has_the_address(self, owner: str | None, says: str) -> None:
        servers = (ServerState("pi1", "UP", 900),)
        node = replace(of(replace(WELL, servers=servers, owner=owner)), name="pi1")
        assert says in " ".join(Elements(page(node)).text.split())

    def test_the_page_is_the_same_elements_whatever_the_names_are(self) -> None:
        def tags(name: str) -> list[str]:
            node = replace(of(replace(WELL, concerns={"docker": [name]})), name=name)
            return [tag for tag, _ in Elements(page(node)).elements]

        assert tags("pi1") == tags('</li></section><a href="javascript:1">')

    def test_nothing_is_loaded_from_elsewhere(self) -> None:
        node = of(replace(WELL, concerns={"docker": ["x"]}), 117, *history_of(20))
        elements = Elements(page(node, documents="../docs/{page}.md")).elements
        assert {"link", "script", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in elements)
        addresses = [attrs[key] for _, attrs in elements for key in ("href", "src") if key in attrs]
        assert addresses
        assert all(str(one).startswith(("#", "../docs/")) for one in addresses)
        assert not re.search(r"url\(|@import", page(node))
        policy = [a for tag, a in elements if tag == "meta" and "http-equiv" in a]
        assert str(policy[0]["content"]).startswith("default-src 'none'")

    def test_it_fits_a_phone_and_both_themes_and_paper(self) -> None:
        made = page(of(WELL))
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in made
        assert "prefers-color-scheme: dark" in made
        assert "@media print" in made
        assert '<html lang="en">' in made

    def test_the_line_has_the_numbers_of_the_json(self) -> None:
        node = of(WELL, None, *history_of(200))
        line = json.loads(json.dumps(node.to_json()))["line"]
        assert len(line) == 90
        (svg,) = re.findall(r"<svg.*?</svg>", page(node), re.DOTALL)
        root = ET.fromstring(svg)
        titles = [str(one.text) for one in root.iter("title")]
        assert [title.rpartition(": ")[2] for title in titles] == [
            f"{point['mb_a_day']} MB a day" for point in line
        ]
        circles = [(one.get("cx"), one.get("cy")) for one in root.iter("circle")]
        (polyline,) = root.iter("polyline")
        drawn = [tuple(map(float, pair.split(","))) for pair in polyline.get("points", "").split()]
        assert drawn == [(float(x or ""), float(y or "")) for x, y in circles]
        most = max(point["mb_a_day"] for point in line)
        first, last = line[0]["time"], line[-1]["time"]
        for (x, y), point in zip(drawn, line, strict=True):
            height = HEIGHT - 2 * MARGIN
            assert (HEIGHT - MARGIN - y) / height * most == pytest.approx(
                point["mb_a_day"], abs=most / height
            )
            assert first + (x - MARGIN) / (WIDTH - 2 * MARGIN) * (last - first) == pytest.approx(
                point["time"], abs=DAY
            )

    def test_a_line_of_one_point_and_of_none(self) -> None:
        assert plot([]).dots == ()
        (dot,) = plot([Point(NOW, 0.0)]).dots
        assert (dot.x, dot.y) == (MARGIN, HEIGHT - MARGIN)

    def test_the_uncertainty_is_said_beside_the_years(self) -> None:
        made = " ".join(Elements(page(of(WELL, 117), of(WELL, 820), of(WELL))).text.split())
        assert "They are no promise" in made
        found = re.findall(r"Rating(\w+)", made)
        assert found == ["117", "820", "unknown"]
        assert "chaos_card_tbw, the card's rating, is not set" in Elements(page(of(WELL))).text

    def test_a_node_that_was_not_read_is_on_the_page_with_the_reason(self) -> None:
        made = Elements(page(of(WELL), unread_report("pi9", "SSH error: timed out", []))).text
        assert "pi9" in made
        assert "not read" in made
        assert "SSH error: timed out" in made

    def test_fifty_nodes_are_small_and_quick(self) -> None:
        names = [f"concern_{number}" for number in range(15)]
        found = replace(
            WELL,
            concerns={name: [f"to be done: change {name}"] * 2 for name in names},
            writers=tuple(Writer(f"program-{n}", n, n * MB) for n in range(1, 11)),
            certificates=tuple(
                CertificateState(f"/etc/kubernetes/pki/{n}.crt", f"CN=kubernetes-{n}", NOW, NOW)
                for n in range(12)
            ),
        )
        nodes = tuple(node_report(f"pi{n}", found, history_of(365), NOW, 117) for n in range(1, 51))
        page(nodes[0])  # the template is compiled once
        began = time.process_time()
        made = page(*nodes, documents="../docs/{page}.md")
        assert time.process_time() - began < 1
        assert len(made.encode()) < 2_000_000
        assert made.count("<section") == 50

    def test_numbers_are_short(self) -> None:
        assert [amount(n) for n in (0, 999, 5_200_000, 63_864_569_856, 2e12)] == [
            "0 bytes", "999 bytes", "5.2 MB", "63.9 GB", "2.0 TB",
        ]  # fmt: skip
        assert [duration(n) for n in (5, 119, 1200, 7200, 3 * DAY)] == [
            "5 seconds", "119 seconds", "20 minutes", "2 hours", "3 days",
        ]  # fmt: skip

    def test_years_are_a_range(self) -> None:
        assert years(of(Found(concerns={}))) == ""
        assert years(of(WELL, 1)) == "27"
        assert years(of(WELL, 1000)) == "over 100"
        earlier = replace(sample_of(CARD, NOW - DAY), written=100 * MB, uptime=2.0 * DAY)
        assert years(of(WELL, 1, earlier)) == "14 to 27"


module = import_module("chaos_engine.deploys.report")
verify_module = import_module("chaos_engine.deploys.verify")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Nodes]:
    concerns = (concern("docker", "echo fine"), concern("swap", "echo change"))
    monkeypatch.setattr(verify_module, "WORKER_CONCERNS", concerns)
    resolved = classmethod(lambda cls: SimpleNamespace())
    monkeypatch.setattr(WorkerSettings, "resolve", resolved)
    monkeypatch.setattr(Health, "command", lambda self, checks: "true")
    swap = SwapState((), 1 << 20, "", {}, {}, False, None)  # systemd may not run on this computer
    monkeypatch.setattr(Swaps, "reads", lambda self: ())
    monkeypatch.setattr(Swaps, "compose", lambda self: swap)

    def start(*names: str, data: dict[str, Any] | None = None, **more: Any) -> Nodes:
        nodes = Nodes(*names, data=data, **more)
        nodes.state.cwd = str(tmp_path)
        return nodes

    return start


def end(nodes: Nodes) -> None:
    with ctx_state.use(nodes.state):
        disconnect_all(nodes.state)


def run(nodes: Nodes) -> None:
    nodes.prepare(report)
    end(nodes)


class TestDeploy:
    def test_each_node_is_read_by_one_command_and_the_files_are_written(
        self, make: Callable[..., Nodes], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "pyinfra")
        nodes = make("pi1", "pi2")
        run(nodes)
        values = json.loads((tmp_path / "report/report.json").read_text())
        assert values["nodes"][0]["gaps"] == {}
        assert [len(nodes.commands(name)) for name in ("pi1", "pi2")] == [1, 1]
        assert [node["name"] for node in values["nodes"]] == ["pi1", "pi2"]
        assert values["nodes"][0]["concerns"] == {"docker": [], "swap": ["to be done: Do swap"]}
        assert values["nodes"][0]["versions"]["kernel"]
        assert "pi2" in (tmp_path / "report/index.html").read_text()
        assert f"Report: {tmp_path / 'report/index.html'}" in caplog.messages
        assert nodes.failed == {"pi1", "pi2"}, "as verify says it"
        left = {path.name for path in (tmp_path / "report").iterdir()}
        assert left == {"index.html", "report.json", "history.jsonl"}

    def test_only_the_concerns_that_are_named_are_looked_at(
        self, make: Callable[..., Nodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(WorkerSettings, "resolve", classmethod(lambda cls: pytest.fail("all")))
        nodes = make("pi1", "pi2", data={"chaos_verify": "docker"})
        run(nodes)
        values = json.loads((tmp_path / "report/report.json").read_text())
        assert [node["concerns"] for node in values["nodes"]] == [{"docker": []}] * 2
        assert nodes.failed == set()

    def test_each_report_adds_a_line_and_a_point(
        self, make: Callable[..., Nodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(RootCard, "compose", lambda self, found: CARD)
        run(make("pi1"))
        first = (tmp_path / "report/history.jsonl").read_text()
        later = replace(CARD, written=CARD.written + 5 * MB, uptime=CARD.uptime + DAY)
        monkeypatch.setattr(RootCard, "compose", lambda self, found: later)
        run(make("pi1"))
        assert (tmp_path / "report/history.jsonl").read_text().startswith(first)
        (node,) = json.loads((tmp_path / "report/report.json").read_text())["nodes"]
        assert [point["mb_a_day"] for point in node["line"]] == [100.0, 5.0]
        assert node["wear"]["since_report"] == {"mb_a_day": 5.0, "seconds": DAY}

    def test_a_node_that_cannot_be_reached_is_reported_with_the_reason(
        self, make: Callable[..., Nodes], tmp_path: Path
    ) -> None:
        def refuse() -> None:
            raise ConnectError("SSH error (timed out)")

        nodes = make("pi1", "pi2", "pi3")
        for name, connect in (("pi2", refuse), ("pi3", lambda: None)):
            nodes.state.activated_hosts.discard(nodes[name])
            nodes.state.active_hosts.discard(nodes[name])
            nodes[name].connected = False
            nodes[name].connector.connect = connect  # type: ignore[method-assign]
        with nodes.on("pi1"):
            report()
        end(nodes)
        found = json.loads((tmp_path / "report/report.json").read_text())["nodes"]
        assert [node["unread"] for node in found] == [
            "",
            "SSH error (timed out)",
            "it did not answer when the run began, but it answered a moment later; run again",
        ]

    def test_a_node_that_cannot_be_read_is_reported_with_the_reason(
        self, make: Callable[..., Nodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lost() -> None:
            raise NodeError("the connection to the node was lost")

        monkeypatch.setattr(verify_module, "gather", lost)
        nodes = make("pi1")
        run(nodes)
        (node,) = json.loads((tmp_path / "report/report.json").read_text())["nodes"]
        assert node["unread"] == "the connection to the node was lost"
        assert nodes.failed == {"pi1"}

    def test_a_fact_that_fails_is_a_gap(
        self, make: Callable[..., Nodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def strange(self: RootCard, found: Any) -> None:
            raise ValueError("unknown form")

        monkeypatch.setattr(RootCard, "compose", strange)
        run(make("pi1"))
        (node,) = json.loads((tmp_path / "report/report.json").read_text())["nodes"]
        assert "unknown form" in node["gaps"]["card"]
        assert node["card"] is None

    def test_a_run_that_ends_early_says_which_node_was_not_read(
        self, make: Callable[..., Nodes], tmp_path: Path
    ) -> None:
        nodes = make("pi1", "pi2")
        with nodes.on("pi1"):
            report()
        end(nodes)
        found = json.loads((tmp_path / "report/report.json").read_text())["nodes"]
        assert found[1]["unread"] == "the run ended before this node was read; run again"

    def test_a_run_that_an_error_ends_writes_nothing(
        self, make: Callable[..., Nodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def wrong(concerns: Any) -> None:
            raise SettingsError("pi1: chaos_vip is not set")

        monkeypatch.setattr(module, "read_node", wrong)
        nodes = make("pi1")
        with pytest.raises(SettingsError):
            nodes.prepare(report)
        end(nodes)
        assert not (tmp_path / "report/report.json").exists()

    def test_a_damaged_history_is_named_and_kept(
        self, make: Callable[..., Nodes], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "pyinfra")
        path = tmp_path / "report" / history.NAME
        path.parent.mkdir()
        path.write_bytes(b'{"time": 1, "nod\n')
        run(make("pi1"))
        assert path.read_bytes().startswith(b'{"time": 1, "nod\n')
        assert any(f"{path}, line 1 is damaged" in message for message in caplog.messages)
        assert "line 1 is damaged" in (tmp_path / "report/index.html").read_text()

    def test_a_folder_that_cannot_be_written_is_named_before_a_node_is_read(
        self, make: Callable[..., Nodes], tmp_path: Path
    ) -> None:
        (tmp_path / "report").write_text("a file")
        nodes = make("pi1")
        with pytest.raises(SettingsError, match=r"chaos_report_dir = 'report': .*/report cannot"):
            nodes.prepare(report)
        assert nodes.commands() == []

    def test_a_file_that_cannot_be_written_at_the_end_is_named(
        self, make: Callable[..., Nodes], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        nodes = make("pi1")
        nodes.prepare(report)
        (tmp_path / "report/index.html").mkdir()
        (tmp_path / "report/index.html/x").touch()
        end(nodes)
        said = [message for message in caplog.messages if "could not be written" in message]
        assert len(said) == 1
        assert f"{tmp_path / 'report/index.html'}: Is a directory; fix that and" in said[0]
        assert (tmp_path / "report/report.json").exists(), "it is written first"

    def test_a_file_that_cannot_be_written_makes_the_exit_code_that_of_a_failure(
        self, make: Callable[..., Nodes], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        nodes = make("pi1", "pi2")
        with nodes.on("pi1"):
            ending.begin(tmp_path / "report", "pi1")
        (tmp_path / "report/index.html").mkdir()
        with pytest.raises(SystemExit) as ended:
            end(nodes)
        assert ended.value.code == 1
        assert "could not be written" in caplog.text

    def test_another_folder_is_taken(self, make: Callable[..., Nodes], tmp_path: Path) -> None:
        run(make("pi1", data={"chaos_report_dir": "out/nodes"}))
        assert (tmp_path / "out/nodes/index.html").exists()

    def test_a_rating_gives_years(
        self, make: Callable[..., Nodes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(RootCard, "compose", lambda self, found: CARD)
        run(make("pi1", data={"chaos_card_tbw": 117}))
        values = json.loads((tmp_path / "report/report.json").read_text())
        assert values["nodes"][0]["rating_tb"] == 117
        assert values["nodes"][0]["wear"]["years_least"] > 3000

    @pytest.mark.parametrize("order", [("pi1", "pi2", "pi3"), ("pi3", "pi2", "pi1")])
    def test_each_node_has_its_own_rating(
        self,
        make: Callable[..., Nodes],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        order: tuple[str, ...],
    ) -> None:
        monkeypatch.setattr(RootCard, "compose", lambda self, found: CARD)
        hosts = {"pi1": {"chaos_card_tbw": 117}, "pi2": {"chaos_card_tbw": 820}}
        run(make(*order, hosts=hosts))
        nodes = json.loads((tmp_path / "report/report.json").read_text())["nodes"]
        assert {node["name"]: node["rating_tb"] for node in nodes} == {
            "pi1": 117, "pi2": 820, "pi3": None,
        }  # fmt: skip
        years = {node["name"]: node["wear"]["years_least"] for node in nodes}
        assert years["pi2"] == pytest.approx(years["pi1"] / 117 * 820, rel=0.01)
        assert years["pi3"] is None

    def test_folders_that_differ_are_refused_before_a_node_is_read(
        self, make: Callable[..., Nodes], tmp_path: Path
    ) -> None:
        hosts = {"pi1": {"chaos_report_dir": "one"}, "pi2": {"chaos_report_dir": "two"}}
        nodes = make("pi1", "pi2", hosts=hosts)
        with nodes.on("pi1"):
            ending.begin(tmp_path / "one", "pi1, inventory")
        with nodes.on("pi2"), pytest.raises(SettingsError) as error:
            report()
        assert str(error.value) == (
            f"pi2, inventory: chaos_report_dir leads to {tmp_path}/two, but pi1, inventory: "
            f"chaos_report_dir leads to {tmp_path}/one; there is one report for all nodes, so give "
            "all nodes the same folder"
        )
        assert nodes.commands("pi2") == []


@pytest.mark.skipif(shutil.which("jq") is None, reason="NOT COMPARED: jq is not here")
def test_jq_finds_problems_as_the_documents_say(tmp_path: Path) -> None:
    (every,) = re.findall(r"^jq .*$", (CHECKOUT / "docs/report.md").read_text(), re.MULTILINE)
    cold = replace(WELL, concerns={"docker": [], "journald": [], "swap": [], "kernel": []})
    wanting = replace(cold, concerns={**cold.concerns, "kernel": ["to be done: x"]})
    hot = replace(cold, thermal=ThermalState(81.0, True, None))
    lost = unread_report("pi9", "it does not answer", [])
    (tmp_path / "report").mkdir()

    def said(command: str, *nodes: NodeReport) -> bool:
        text = json.dumps(Report(NOW, nodes).to_json())
        (tmp_path / "report/report.json").write_text(text)
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False, capture_output=True)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0

    one = of(cold)
    assert [said(every, one, other) for other in (one, of(wanting), of(hot), lost)] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("rating", [0, -1, "many", True, float("nan"), float("inf")])
def test_a_rating_that_is_none_is_refused(rating: object) -> None:
    with pytest.raises(SettingsError, match="card_tbw"):
        ReportSettings(card_tbw=rating)


def test_writing_leaves_the_old_file_if_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "report.json"
    ending.replace(path, "old")
    monkeypatch.setattr(ending.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/report\.json'"):
        ending.replace(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
