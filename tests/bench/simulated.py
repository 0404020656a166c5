"""Run pyinfra on nodes that are simulated at its ssh connector, by what a real node answered.

python -m tests.bench.simulated record FILE inventory.py deploy.py -y --limit pi1
python -m tests.bench.simulated answer FILE inventory.py deploy.py -y

``record`` does a usual run over ssh, and writes each command, what was sent to it and its output
into FILE. ``answer`` does a run that connects to nobody: each command must be a recorded one, and
gets its output `DELAY` seconds later, with names, addresses and checksums of the asking host
(`Recording.answer`). So it costs what pyinfra and this package cost the controller, without ssh's
cryptography and without a node that needs the same processors.

With ``BENCH_PROFILE=FILE`` in the environment a run also writes how many milliseconds of processor
time each function took. A timer looks which function works: cProfile takes a change between
gevent's greenlets for a call, and counts wrongly.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import gevent  # type: ignore[import-untyped]
from pyinfra.api.command import StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, OutputLine

from chaos_engine.facts.kernel import BOOT_ID
from chaos_engine.facts.node import MACHINE_ID

DELAY = 0.3
"""Seconds until a node answers: about what a worker of the virtual cluster takes."""

SPENT = "stand-in: "
"""Begins the line on stderr with the seconds of processor time that made up the answers."""

_SAMPLE = 0.001
_FOLDERS = re.compile(r".*/(?:site-packages|__editable__[^/]*|python3[.0-9]*|(?=tests/bench/))/?")
_WIDTH = 76
_MARKED = re.compile(r"(\S+ (?:out|err) )(\S+)")
_ENCODED = re.compile(r"(?:[A-Za-z0-9+/]{76}\n)+[A-Za-z0-9+/]*={0,2}|[A-Za-z0-9+/]{16,}={0,2}")


@dataclass(frozen=True)
class Node:
    """A simulated node. Its identity is a UUID."""

    name: str
    address: str
    identity: str


@dataclass
class Recording:
    """What a node answered.

    + name, address: the node's
    + commands: command, what was sent to it, whether it succeeded and the lines that it printed
    + files: contents of files on the node that have its name in them. The contents are base64
    """

    name: str = ""
    address: str = ""
    commands: list[tuple[str, str, bool, list[str]]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, file: Path) -> Recording:
        """Read it from a file."""
        found = json.loads(file.read_text())
        found["commands"] = [tuple(each) for each in found["commands"]]
        return cls(**found)

    def __post_init__(self) -> None:
        self._name = re.compile(rf"\b{re.escape(self.name)}\b")
        self._address = re.compile(rf"\b{re.escape(self.address)}\b")

    def save(self, file: Path) -> None:
        """Write it to a file."""
        file.write_text(json.dumps(asdict(self)))

    def answer(self, node: Node, command: str, sent: str) -> tuple[bool, list[str]]:
        """Return what a node would answer to a command: whether it succeeds, and its output.

        The answer has that node's name and address, also in files and in their checksums,
        identities of its own, and the current time. Raises ``LookupError`` if the command was not
        recorded.
        """
        for recorded, expected, success, lines in self.commands:
            if (recorded, expected) == (command, sent):
                return success, [self._line(node, line) for line in lines]
        raise LookupError(
            f"{node.name}: not recorded, so this run is not the recorded one: {command[:300]}"
        )

    def _line(self, node: Node, line: str) -> str:
        marked = _MARKED.fullmatch(line)
        if not marked:
            return line
        text = base64.b64decode(marked[2]).decode(errors="surrogateescape")
        text = _ENCODED.sub(lambda found: self._encoded(node, found[0]), text)
        for old, new in self._changes(node, text):
            text = text.replace(old, new)
        answer = base64.b64encode(self._of(node, text).encode(errors="surrogateescape"))
        return marked[1] + answer.decode()

    def _encoded(self, node: Node, block: str) -> str:
        """Return a block of base64 with what that node has in its place."""
        try:
            old = base64.b64decode(block.replace("\n", ""), validate=True).decode()
        except ValueError:  # it only looks like base64
            return block
        new = self._of(node, old)
        if new == old:
            return block
        text = base64.b64encode(new.encode()).decode()
        lines = [text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH)]
        whole = block.rstrip("\n")
        return ("\n".join(lines) if "\n" in whole else text) + block[len(whole) :]

    def _changes(self, node: Node, text: str) -> list[tuple[str, str]]:
        """Return what else differs in a node's answer, old and new."""
        changes = []
        for key, new in (
            (f"text {BOOT_ID} ", node.identity),
            (f"text {MACHINE_ID} ", node.identity.replace("-", "")),
            ("clock=", str(int(time.time()))),
        ):
            if old := re.search(rf"^{re.escape(key)}([0-9a-f-]+)", text, re.MULTILINE):
                changes.append((old[1], new))
        for encoded in self.files:
            content = base64.b64decode(encoded)
            own = self._of(node, content.decode()).encode()
            changes.append((hashlib.sha256(content).hexdigest(), hashlib.sha256(own).hexdigest()))
        return changes

    def _of(self, node: Node, text: str) -> str:
        """Return a text in which the name and address of the recorded node are those of `node`.

        A line that has both tells of the recorded node to all nodes, as /etc/hosts does.
        """
        lines = text.split("\n")
        for number, line in enumerate(lines):
            name, address = self._name.search(line), self._address.search(line)
            if name and not address:
                lines[number] = self._name.sub(node.name, line)
            elif address and not name:
                lines[number] = self._address.sub(node.address, line)
        return "\n".join(lines)


def record(file: Path) -> None:
    """Have this process record what it asks nodes, for `file`."""
    recording = Recording()
    run = SSHConnector.run_shell_command

    def recorded(self: SSHConnector, command: StringCommand, **arguments: Any) -> Any:
        sent = "".join(arguments.get("_stdin") or ())
        success, output = run(self, command, **arguments)
        recording.name, recording.address = (
            self.host.name,
            self.host.data.chaos_nodes[self.host.name],
        )
        recording.commands.append((command.get_raw_value(), sent, success, output.stdout_lines))
        return success, output

    SSHConnector.run_shell_command = recorded  # type: ignore[method-assign,assignment]
    atexit.register(recording.save, file)


def answer(file: Path) -> None:
    """Have this process get the answers in `file`, and connect to nobody."""
    recording = Recording.load(file)
    nodes: dict[str, Node] = {}
    spent = 0.0

    def answered(
        self: SSHConnector, command: StringCommand, **arguments: Any
    ) -> tuple[bool, CommandOutput]:
        name, sent = self.host.name, "".join(arguments.get("_stdin") or ())
        if name not in nodes:
            nodes[name] = Node(name, self.host.data.chaos_nodes[name], str(uuid4()))
        begin = time.process_time()
        success, lines = recording.answer(nodes[name], command.get_raw_value(), sent)
        nonlocal spent
        spent += time.process_time() - begin
        gevent.sleep(DELAY)
        return success, CommandOutput([OutputLine("stdout", line) for line in lines])

    atexit.register(lambda: print(f"{SPENT}{spent}", file=sys.stderr))
    SSHConnector.connect = lambda self: None  # type: ignore[method-assign]
    SSHConnector.disconnect = lambda self: None  # type: ignore[method-assign]
    SSHConnector.run_shell_command = answered  # type: ignore[method-assign,assignment]


def profile(file: Path) -> None:
    """Look each millisecond of processor time which function works, and write it to `file`.

    Each line has the milliseconds of the function itself, those with what it called, and its name.
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()

    def look(number: int, frame: FrameType | None) -> None:
        names = []
        while frame:
            code = frame.f_code
            file_name = _FOLDERS.sub("", code.co_filename)
            names.append(f"{file_name}:{code.co_firstlineno} {code.co_name}")
            frame = frame.f_back
        own[names[0]] += 1
        total.update(set(names))

    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        taken = 1000 * time.process_time() / (sum(own.values()) or 1)
        lines = (f"{taken * own[n]:8.1f} {taken * c:8.1f} {n}" for n, c in total.most_common())
        file.write_text("\n".join(lines) + "\n")

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, _SAMPLE, _SAMPLE)
    atexit.register(write)


_WAYS: Mapping[str, Callable[[Path], None]] = {"record": record, "answer": answer}


def main(words: Sequence[str]) -> None:
    """Take the way and its file from the command line, and run pyinfra with the rest."""
    way, file, *rest = words
    _WAYS[way](Path(file))
    # Its import patches Python's modules for gevent, also in tests that only read a recording
    from pyinfra_cli.main import main as pyinfra

    sys.argv = ["pyinfra", *rest]
    pyinfra()


if __name__ == "__main__":
    if name := os.environ.get("BENCH_PROFILE"):
        profile(Path(name))
    main(sys.argv[1:])
