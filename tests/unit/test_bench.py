"""What the benchmarks do without a node: samples, plots, pages, the relay, the contestants."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from chaos_engine.deploys.proxy import ProxySettings
from chaos_engine.facts.kernel import BOOT_ID
from chaos_engine.facts.node import MACHINE_ID
from tests.bench import plot, relay, report, shell, simulated, values
from tests.bench.__main__ import PARTS, write_index
from tests.bench.baseline import program
from tests.bench.contestants import RENDERED, recap
from tests.bench.measure import Case, Clock, OutOfTimeError, interleave
from tests.bench.nodes import RunError
from tests.bench.parts import card, failover, many, poor, read, scale
from tests.bench.results import CHECKOUT, Results
from tests.bench.timed import run as run_timed
from tests.cluster.failover import LAN, Seen, name_of, up
from tests.cluster.virtual_cluster import wait_for

ABOUT = {
    "sources": "abc",
    "machine": "2 cores",
    "begun": "today",
    "load": "0.1",
    "pyinfra": "3.10",
    "python": "3.11",
    "commit": "123",
}


def case(who: str, took: float, ran: list[str]) -> Case:
    def run() -> dict[str, float]:
        ran.append(who)
        return {"seconds": took}

    return Case({"hosts": 4, "contestant": who}, run)


class TestMeasuring:
    def test_contestants_take_turns_and_each_round_begins_with_another(
        self, tmp_path: Path
    ) -> None:
        ran: list[str] = []
        cases = [case("a", 1, ran), case("b", 2, ran)]
        interleave(cases, Results("part", tmp_path, ABOUT), Clock.minutes(1), 3)
        assert ran == ["a", "b", "b", "a", "a", "b"]

    def test_a_part_that_was_cut_short_goes_on_where_it_was(self, tmp_path: Path) -> None:
        ran: list[str] = []
        cases = [case("a", 1, ran), case("b", 2, ran)]
        interleave(cases, Results.resume("part", ABOUT, tmp_path), Clock.minutes(1), 1)
        again = Results.resume("part", ABOUT, tmp_path)
        interleave(cases, again, Clock.minutes(1), 2)
        assert ran == ["a", "b", "b", "a"]
        assert again.median("seconds", contestant="b") == 2

    def test_samples_of_other_sources_do_not_count(self, tmp_path: Path) -> None:
        first = Results.resume("part", ABOUT, tmp_path)
        first.add({"hosts": 4}, {"seconds": 1})
        assert Results.resume("part", ABOUT, tmp_path).samples
        assert not Results.resume("part", {**ABOUT, "sources": "new"}, tmp_path).samples

    def test_what_was_measured_before_the_time_was_over_is_kept(self, tmp_path: Path) -> None:
        results = Results.resume("part", ABOUT, tmp_path)
        results.add({"hosts": 4, "contestant": "a"}, {"seconds": 1})
        with pytest.raises(OutOfTimeError):
            interleave([case("a", 1, [])], results, Clock(time.monotonic() - 1), 2)
        assert len(Results.load("part", tmp_path).samples) == 1

    def test_a_command_is_timed_with_its_processor_time_and_memory(self, tmp_path: Path) -> None:
        took = run_timed(["sh", "-c", "echo said; echo wrong >&2; sleep 0.2; exit 3"], tmp_path)
        assert took["status"] == 3
        assert 0.2 <= took["seconds"] < 20
        assert took["cpu_seconds"] < took["seconds"]
        assert took["memory_mib"] > 0.1
        assert took["machine_seconds"] >= 0
        assert (tmp_path / "out").read_text() == "said\n"
        assert (tmp_path / "err").read_text() == "wrong\n"


class TestPlots:
    @pytest.mark.parametrize(
        ("largest", "found"),
        [
            (0, [0, 1]),
            (0.9, [0, 0.2, 0.4, 0.6, 0.8, 1]),
            (10, [0, 2, 4, 6, 8, 10]),
            (17.5, [0, 5, 10, 15, 20]),
            (61, [0, 20, 40, 60, 80]),
        ],
    )
    def test_an_axis_has_round_numbers(self, largest: float, found: list[float]) -> None:
        assert plot.ticks(largest) == found

    def test_bars_are_as_long_as_their_values_say(self) -> None:
        svg = plot.bars("Title & more", "seconds", {"row": {"one": 10, "two": 5}})
        boxes = ElementTree.fromstring(svg).findall(".//{*}rect")
        lengths = [float(box.get("width", "0")) for box in boxes if box.get("height") == "14"]
        assert lengths[0] == pytest.approx(2 * lengths[1], rel=0.01)
        assert "Title &amp; more" in svg

    def test_curves_go_through_their_points(self) -> None:
        svg = plot.curves("t", "nodes", "s", {"wall": [(5, 1), (10, 2), (50, 10)]})
        lines = [
            line
            for line in ElementTree.fromstring(svg).findall(".//{*}line")
            if line.get("stroke-width") == "2"
        ]
        assert len(lines) == 2
        assert float(lines[1].get("y2", "0")) < float(lines[0].get("y1", "0"))


class TestRelay:
    def test_a_round_trip_takes_its_time_and_bytes_arrive_in_order(self) -> None:
        data = bytes(range(256)) * 8000

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
            writer.close()

        async def go() -> tuple[float, bytes, relay.Traffic]:
            traffic = relay.Traffic()
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            target = server.sockets[0].getsockname()
            front = await relay.serve(("127.0.0.1", 0), target, 0.1, traffic)
            reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
            writer.write(b"x")
            await reader.readexactly(1)  # the handshake's time is over
            begin = time.monotonic()
            writer.write(b"y")
            await reader.readexactly(1)
            took = time.monotonic() - begin
            writer.write(data)
            writer.write_eof()
            came = await reader.read()
            writer.close()
            front.close()
            server.close()
            return took, came, traffic

        took, came, traffic = asyncio.run(asyncio.wait_for(go(), 30))
        assert took >= 0.1
        assert came == data
        assert traffic == relay.Traffic(len(data) + 2, len(data) + 2)


class TestContestants:
    def test_the_recap_of_a_playbook_is_read(self) -> None:
        text = (
            "TASK [x] ***\nchanged: [pi1]\n\nPLAY RECAP *****\n"
            "pi1   : ok=53   changed=1    unreachable=0    failed=0    skipped=9\n"
            "pi10  : ok=40   changed=0    unreachable=0    failed=0    skipped=9\n"
        )
        found = recap(text)
        assert found["pi1"]["changed"] == 1
        assert found["pi10"]["ok"] == 40

    def test_the_playbook_gets_the_sites_values(self) -> None:
        hosts = ("pi1", "pi5")
        found = values.inventory(CHECKOUT, hosts, Path("/files"))["all"]
        assert json.dumps(found)
        workers = found["children"]["workers"]["hosts"]
        assert tuple(workers) == hosts
        assert found["children"]["proxy"]["hosts"] == {"pi5": {}}
        assert found["vars"]["docker_log_max_file"] == 2

    def test_the_playbook_installs_each_file_that_the_deploy_renders(self) -> None:
        playbook = CHECKOUT / "tests/bench/playbook"
        tasks = ""
        for file in [playbook / "site.yml", *playbook.glob("tasks/*.yml")]:
            assert yaml.safe_load(file.read_text())
            tasks += file.read_text()
        assert [path for path in RENDERED if path.rpartition("/")[2] not in tasks] == []
        assert ".template:" not in tasks

    @pytest.mark.parametrize("name", ["all.sh", "first.sh", "state.sh"])
    def test_the_scripts_are_shell(self, name: str) -> None:
        subprocess.run(["sh", "-n", str(shell.SCRIPTS / name)], check=True)

    def test_the_script_of_a_first_deploy_creates_the_proxys_network(self) -> None:
        data = values.group_data(CHECKOUT)
        created = values.settings(ProxySettings, data).network.create
        assert created.startswith("docker network create --driver macvlan ")
        assert f"--ip-range {data['chaos_vip']}/32" in created

    def test_a_check_tells_what_differs(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("it's $HOME `here`\n")
        looks = f"state() {{ cat {file}; echo end; }}"
        script = shell.compose_check(looks, file.read_text() + "end\n")
        script = script.replace("/run/bench.expected", str(tmp_path / "expected"))

        def check() -> subprocess.CompletedProcess[str]:
            return subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True)

        assert check().stdout == "as-wanted\n"
        file.write_text("another\n")
        assert check().returncode == 1
        assert "> another" in check().stdout

    def test_changes_are_read_from_the_runs_json(self) -> None:
        operations = [
            {"name": "a", "success": [], "error": []},
            {"name": "b", "success": ["pi1"], "error": []},
            {"name": "c", "success": [], "error": ["pi2"]},
        ]
        assert scale.changes(json.dumps({"results": {"operations": operations}})) == ["b", "c"]

    def test_names_that_differ_from_run_to_run_are_left_out(self) -> None:
        one, two = "a" * 64, "b" * 64
        root = "/var/lib/docker/containers"
        lines = [f"7 {root}/{one}/{one}-json.log", f"9 {root}/{two}/{two}-json.log", "8 /etc/a b"]
        lines.append(f"6 {root}/{one}/{one}-json.log.1")
        changed = card.parse_changed("\n".join(lines))
        assert [each.size for each in changed] == [9, 8, 7, 6]
        assert card.kinds(changed) == [f"{root}/*/*", "/etc/a b"]


class TestCard:
    def test_each_case_is_measured_once_with_cases_of_other_nodes(self) -> None:
        pending = card.cases(2, quick=False)
        steps = []
        while pending:
            steps.append(card.side_by_side(pending))
            pending = [case for case in pending if case not in steps[-1]]
        for step in steps:
            assert len({case.row.node for case in step}) == len(step)
            assert len({(case.seconds, case.row.late) for case in step}) == 1
        hours = [step for step in steps if step[0].seconds == 3600]
        assert [step[0].row.late for step in hours] == [False, True], "one hour for each group"
        assert steps.index(hours[0]) == len([s for s in steps if s[0].number == 0]) - 2
        found = [(*case.labels.items(), case.number) for step in steps for case in step]
        assert len(found) == len(set(found)) == len(card.cases(2, quick=False))

    def test_a_quick_run_has_each_row_once_for_some_seconds(self) -> None:
        found = card.cases(5, quick=True)
        assert {case.seconds for case in found} == {10}
        rows = sum(map(len, (card.OUTPUTS, card.TOGETHER, card.IDLE)))
        assert len(found) == rows + len(card.SOURCES) * len(card.NODES)

    def test_writeback_is_as_before_after_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "expire"
        file.write_text("3000\n")
        late = card.late_writeback({file: "54000"})
        late.__enter__()
        assert file.read_text() == "54000"
        error = RunError("no rate")
        assert not late.__exit__(RunError, error, None)
        assert file.read_text() == "3000\n"

    def test_writeback_is_as_before_once_the_benchmark_was_killed(self, tmp_path: Path) -> None:
        file = tmp_path / "expire"
        file.write_text("3000\n")
        code = (
            "import sys; from pathlib import Path; from tests.bench.parts import card\n"
            "with card.late_writeback({Path(sys.argv[1]): '54000'}):\n"
            "    print('late', flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(file)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as benchmark:
            assert benchmark.stdout is not None
            assert benchmark.stdout.readline() == "late\n"
            assert file.read_text() == "54000"
            benchmark.kill()
        wait_for("the old value", lambda: file.read_text() == "3000\n", 10)

    def test_the_page_has_arrived_lines_all_loads_and_idle_nodes(self, tmp_path: Path) -> None:
        results = Results("card", tmp_path, ABOUT)
        values = {"bytes": 1024.0, "synchronised": 1536.0}
        sent = {**values, "lines": 720000, "arrived": 719999}
        results.add({"output": next(iter(card.OUTPUTS)), "seconds": 3600}, sent)
        results.add({"output": "data root in zram", "seconds": 120}, {**values, "ram": 3 << 20})
        results.add(
            {"together": next(iter(card.TOGETHER)), "seconds": 120}, {**values, "bytes": 2**20}
        )
        results.add({"idle": next(iter(card.IDLE)), "seconds": 3600}, values)
        text = card.report(results).write(results).read_text()
        assert "With its data root in zram, Docker's data took 3.00 MiB of RAM." in text
        assert "- 3600 s: 720,000 lines written, 719,999 of them at the log server" in text
        assert (
            "| 120 s, 10m x 3, the default before | 1.00 MiB | 0.00 MiB | 100 % | 720 MiB |" in text
        )
        assert f"| 3600 s, {next(iter(card.IDLE))} | 2 | 3 |" in text


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestSimulatedNodes:
    HOSTS = "127.0.1.1 pi1\n192.168.1.50 pi1\n10.0.0.2 pi22\n"
    OWN_HOSTS = "127.0.1.1 pi22\n192.168.1.50 pi1\n10.0.0.2 pi22\n"
    UNIT = "ExecStart=mount etcd1:/pi1\nnode-ip: 192.168.1.50\n"
    OWN_UNIT = "ExecStart=mount etcd1:/pi22\nnode-ip: 10.0.0.2\n"
    NODE = simulated.Node("pi22", "10.0.0.2", "01234567-89ab-cdef-0123-456789abcdef")

    def recording(self, said: str) -> simulated.Recording:
        lines = ["", f"chaos-engine out {coded(said)}", f"chaos-engine err {coded('')}"]
        files = [coded(self.HOSTS), coded(self.UNIT)]
        return simulated.Recording("pi1", "192.168.1.50", [("sh -s", "script", True, lines)], files)

    def answer(self, said: str) -> str:
        success, lines = self.recording(said).answer(self.NODE, "sh -s", "script")
        assert success
        assert lines[0] == ""
        return base64.b64decode(lines[1].split()[-1]).decode()

    def test_a_node_has_its_own_name_address_and_identities(self) -> None:
        said = (
            f"text {MACHINE_ID} ab12%0a\ntext {BOOT_ID} a-b%0a\nhostname=pi1\n"
            "addresses=192.168.1.50 172.17.0.1\npi10 192.168.1.5\n"
        )
        assert self.answer(said) == (
            f"text {MACHINE_ID} 0123456789abcdef0123456789abcdef%0a\n"
            f"text {BOOT_ID} {self.NODE.identity}%0a\nhostname=pi22\n"
            "addresses=10.0.0.2 172.17.0.1\npi10 192.168.1.5\n"
        )

    def test_files_have_the_nodes_own_content_and_checksum(self) -> None:
        old, new = (hashlib.sha256(t.encode()).hexdigest() for t in (self.UNIT, self.OWN_UNIT))
        assert self.answer(f"{old}  /unit\n") == f"{new}  /unit\n"

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_what_the_node_encodes_has_its_name_too(self, wrapped: bool) -> None:
        def encoded(text: str) -> str:
            return base64.encodebytes(text.encode()).decode() if wrapped else coded(text) + "\n"

        for filler in range(60):
            more = "x" * (20 + filler)
            assert self.answer(encoded(self.HOSTS + more)) == encoded(self.OWN_HOSTS + more)

    def test_another_script_than_the_recorded_one_has_no_answer(self) -> None:
        with pytest.raises(LookupError, match="pi22: not recorded"):
            self.recording("x").answer(self.NODE, "sh -s", "another script")

    def test_a_recording_is_kept(self, tmp_path: Path) -> None:
        self.recording("x").save(tmp_path / "file")
        assert simulated.Recording.load(tmp_path / "file") == self.recording("x")

    def test_a_further_node_costs_the_difference(self, tmp_path: Path) -> None:
        results = Results("many", tmp_path, ABOUT)
        for hosts, seconds, memory in ((25, 2, 80), (50, 3, 90)):
            values = {"seconds": 9, "cpu_seconds": seconds, "memory_mib": memory}
            results.add({"hosts": hosts}, values)
        assert many.each(results, 25, 50) == pytest.approx((40, 0.4))
        text = many.report(results).write(results).read_text()
        assert "| from 25 to 50 | 40.0 ms | 0.40 MiB |" in text


class TestReading:
    def test_programs_and_processes_are_those_of_the_script(self) -> None:
        trace = (
            '7 execve("/usr/bin/env", ["env", "CHAOS_BENCH_READ=1", "sh"], 0x1 /* 9 vars */) = 0\n'
            "6 clone(child_stack=NULL, flags=SIGCHLD) = 7\n"
            '7 execve("/usr/local/bin/sh", ["sh", "-s", "x"], 0x1 /* 9 vars */) = -1 ENOENT (x)\n'
            '7 execve("/usr/bin/sh", ["sh", "-s", "x"], 0x1 /* 9 vars */) = 0\n'
            "7 clone(child_stack=NULL <unfinished ...>\n"
            "8 vfork( <unfinished ...>\n"
            "7 <... clone resumed>, child_tidptr=0x7f) = 8\n"
            '9 execve("/usr/bin/cat", ["cat"], 0x1 /* 9 vars */ <unfinished ...>\n'
            "8 <... vfork resumed>) = 9\n"
            "9 <... execve resumed>) = 0\n"
            '9 execve("/usr/bin/none", ["none"], 0x1) = -1 ENOENT (No such file or directory)\n'
            "8 clone3({flags=CLONE_VM}, 88) = 10\n"
            "8 clone(child_stack=NULL) = -1 EAGAIN (Resource temporarily unavailable)\n"
        )
        assert read.parse_trace(trace) == {"programs": 2, "processes": 3}

    def test_a_trace_without_the_script_is_an_error(self) -> None:
        with pytest.raises(RunError, match="sh -s"):
            read.parse_trace('7 execve("/usr/bin/env", ["env"], 0x1) = 0\n')

    def test_processor_time_is_that_of_the_group(self) -> None:
        assert read.parse_usage("usage_usec 1500000\nuser_usec 7\nsystem_usec 8\n") == 1.5

    def test_written_sectors_and_flushes_are_read_from_a_devices_numbers(self) -> None:
        # As Documentation/block/stat.rst of the kernel has the fields
        fields = "1 2 3 4 5 6 777 8 9 10 11 12 13 14 15 1616 17"
        assert poor.parse_stat(f"   {fields}\n") == (777, 1616)

    def test_another_build_runs_its_own_program_in_its_own_folder(self, tmp_path: Path) -> None:
        own = tmp_path / ".venv/bin/python"
        own.parent.mkdir(parents=True)
        own.write_text('#!/bin/sh\necho "$(pwd) $*"\n')
        own.chmod(0o755)
        command = program(tmp_path, "python", "x", "y")
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run.stdout == f"{tmp_path} x y\n"
        assert program(None, "python", "x") == ("python", "x")


class TestFailover:
    @staticmethod
    def beats(gap: float, *answered: tuple[float, str], failed: int = 0) -> dict[str, object]:
        return {
            "began": 1000.0,
            "count": len(answered) + failed,
            "failed": [{"at": 1.5, "reason": "connect: timed out"}] * failed,
            "answered": [{"at": at, "took": 0.02, "through": by} for at, by in answered],
            "gap": {"at": 0, "seconds": gap},
        }

    def seen(self) -> Seen:
        one, two = "192.168.1.54", "192.168.1.57"
        beats = {
            LAN: self.beats(0.4, (1, one), (2, two), (9, two)),
            "pi8": self.beats(0.3, (1, one), (9, one), (9.5, two), failed=2),
            "pi1": self.beats(0.6, (1, one)),
        }
        owners = {"began": 1000.5, "asked": 200, "several": [1.0, 7.45, 7.55]}
        return Seen(beats, owners)

    def test_a_run_has_the_longest_time_without_an_answer_at_each_place(self) -> None:
        places = dict(zip(failover.PLACES, (LAN, "pi8", "pi1"), strict=True))
        found = failover.values(self.seen(), places, healed=1007.0)
        assert [found[place] for place in failover.PLACES] == [0.4, 0.3, 0.6]
        assert (found["requests"], found["failed"]) == (9, 2)
        # from one second after the end of the fault, at 1008, on
        assert (found["several owners"], found["several owners after"]) == (2, 1)
        assert found["proxies for one client after"] == 2

    def test_failed_requests_are_told_with_place_and_time(self) -> None:
        assert self.seen().failures == ["pi8, 1001.50: connect: timed out"] * 2

    def test_servers_that_are_up_are_read_from_haproxys_numbers(self) -> None:
        filler = ",".join("0" * 15)
        rows = [("kube_api", "OPEN"), ("pi1", "UP"), ("pi4", "DOWN 1/2"), ("BACKEND", "UP")]
        lines = [f"kube_controllers,{name},{filler},{state},1,1" for name, state in rows]
        assert up("\n".join(["# pxname,svname", *lines, "kube_api,FRONTEND"])) == {"pi1"}

    def test_an_address_of_no_proxy_is_an_error(self) -> None:
        known = {"pi5": "192.168.1.54"}
        assert name_of(known, "192.168.1.54") == "pi5"
        with pytest.raises(AssertionError, match=r"no proxy has the address 192\.168\.1\.60"):
            name_of(known, "192.168.1.60")

    def test_the_page_has_a_row_for_each_act_that_was_measured(self, tmp_path: Path) -> None:
        results = Results("failover", tmp_path, ABOUT)
        places = dict(zip(failover.PLACES, (LAN, "pi8", "pi1"), strict=True))
        numbers = failover.values(self.seen(), places, healed=1007.0)
        for _ in range(2):
            results.add({"kind": "unplanned", "act": "power cut"}, numbers)
        results.add({"kind": "partition", "act": "both ways, VRRP"}, numbers)
        planned = {"requests": 4000, "failed": 0, "slowest": 0.04, "longest without": 0.05}
        results.add({"kind": "planned", "act": "node rebooted"}, planned)
        text = failover.report(results).write(results).read_text()
        lan, proxy, worker = (f"{gap} ({gap} to {gap}) s" for gap in ("0.40", "0.30", "0.60"))
        assert f"| power cut | 2 | {lan} | {proxy} | {worker} | 4 of 18 |" in text
        assert "| node rebooted | 1 | 4,000 | 0 | 0.04 s | 0.05 s |" in text
        assert "| both ways, VRRP | 200 | 2 | 1 | 2 |" in text


class TestPages:
    def test_numbers_have_the_digits_that_count(self) -> None:
        assert report.spread([1.234, 2.0, 3.5]) == "2.00 (1.23 to 3.50)"
        assert report.spread([12345.6], "KiB") == "12,346 KiB"
        assert report.ratio(30, 1.5) == "20.0 x"
        assert report.ratio(None, 1.5) == "-"

    def test_a_table_compares_the_others_with_the_first(self, tmp_path: Path) -> None:
        results = Results("part", tmp_path, ABOUT)
        for who, seconds in (("a", 2), ("b", 30), ("b", 40), ("b", 50)):
            results.add({"hosts": 4, "contestant": who}, {"seconds": seconds})
        page = report.Page("Title")
        rows = [{"hosts": 4}, {"hosts": 10}]
        medians = report.against(results, page, rows, lambda r: f"{r['hosts']} nodes", ("a", "b"))
        assert medians == {"4 nodes": {"a": 2, "b": 40}}
        text = page.write(results).read_text()
        assert "| 4 nodes | 2.00 | 40.0 (30.0 to 50.0) | 20.0 x |" in text
        assert "2 cores" in text
        assert "commit 123" in text

    def test_container_output_is_compared_with_what_it_was_before(self, tmp_path: Path) -> None:
        results = Results("card", tmp_path, ABOUT)
        first, second = [*card.OUTPUTS][:2]
        for output, mib in ((first, 4), (second, 1)):
            values = {"bytes": mib << 20, "synchronised": (mib + 1) << 20}
            results.add({"output": output, "seconds": 3600}, values)
        text = card.report(results).write(results).read_text()
        assert f"| 3600 s, {first} | 4.00 MiB | 5.00 MiB | 100 % | 96.0 MiB |" in text
        assert f"| 3600 s, {second} | 1.00 MiB | 2.00 MiB | 25 % | 24.0 MiB |" in text

    def test_the_index_has_the_pages_that_there_are(self, tmp_path: Path) -> None:
        Results("card", tmp_path, ABOUT).add({"source": "x", "way": "y"}, {"bytes": 1})
        write_index(tmp_path)
        index = (tmp_path / "README.md").read_text()
        assert "[What reaches the card](card.md)" in index
        assert "`scale`: not measured yet" in index

    @pytest.mark.parametrize("part", PARTS)
    def test_a_part_without_any_sample_has_a_page(self, part: str, tmp_path: Path) -> None:
        results = Results(part, tmp_path, ABOUT)
        results.save()
        assert PARTS[part].report(results).write(results).read_text().startswith("# ")
