"""Record what a fresh node answers to everything that the worker role reads.

What differs between nodes is replaced by ``@NAME@``, ``@ADDRESS@``, ``@ID@`` and ``@CLOCK@``.

tests/lab/lab run -- pyinfra inventory.py tests/preview/record.py --limit pi1 -y
"""

from __future__ import annotations

import json
from pathlib import Path

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import _MISSING_COMMAND_MARKER

from chaos_engine.deploys import reboot, worker
from chaos_engine.deploys.reboot import RebootSettings
from chaos_engine.deploys.worker import WorkerSettings
from chaos_engine.facts.node import AsRoot, Node
from chaos_engine.facts.observe import HostAnswers, Read, current, observe, of_host, phase, want

RECORDING = Path(__file__).with_name("fresh_node.json")

host = current()[1]
with phase("collect"):
    worker(WorkerSettings.resolve())
    reboot(RebootSettings.resolve())
want([Read.of(AsRoot)])

answers: dict[str, list[str]] = {}
for read, _ in of_host(HostAnswers).announced:
    fact, arguments = read.fact(), dict(read.arguments)
    command = fact.command(**arguments)
    text = command.get_raw_value() if isinstance(command, StringCommand) else command
    needed = fact.requires_command(**arguments)
    if needed and not host.run_shell_command(StringCommand("command -v", needed), _sudo=True)[0]:
        answers[text] = [_MISSING_COMMAND_MARKER]
        continue
    ok, output = host.run_shell_command(StringCommand(text), _sudo=True)
    if not ok:
        raise RuntimeError(f"{fact.name}: {output.output}")
    answers[text] = output.stdout_lines


node = observe(Node)
clock = next(line for lines in answers.values() for line in lines if line.startswith("clock="))
text = json.dumps(answers, indent=1)
for value, replacement in (
    (clock, "clock=@CLOCK@"),
    (node.boot_id, "@ID@"),
    (node.machine_id, "@ID@"),
    (node.addresses[0], "@ADDRESS@"),
    (f"/hostname {node.hostname}%0a", "/hostname @NAME@%0a"),
):
    text = text.replace(value, replacement)
RECORDING.write_text(text + "\n")
