"""A stand-in for Docker's API, which facts ask on its socket."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import Any

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase

SOCKET = "/var/run/docker.sock"
VERSION = "1.45"


class DockerApi:
    """Docker's API with some answers, by path. Any other path has the status 404.

    + asked: the paths that were asked for, without the version
    + status: the status of every answer but the one to ``/_ping``, if there is an answer
    """

    def __init__(self, socket: Path, answers: Mapping[str, str]) -> None:
        self.socket = socket
        self.answers = answers
        self.asked: list[str] = []
        self.status = 200

    def answer(self, path: str) -> bytes:
        """Return the answer to ``GET PATH`` in HTTP/1.0."""
        ping = path == "/_ping"
        prefix = f"/v{VERSION}"
        assert ping or path.startswith(f"{prefix}/"), "paths without a version are deprecated"
        self.asked.append(path.removeprefix(prefix))
        body = "OK" if ping else self.answers.get(self.asked[-1])
        status = 404 if body is None else 200 if ping else self.status
        head = f"HTTP/1.0 {status} Any\r\nApi-Version: {VERSION}\r\nOstype: linux\r\n\r\n"
        return (head + ('{"message":"no such thing"}\n' if body is None else body)).encode()

    def says(self, fact: FactBase[Any], *, running: bool = True, **arguments: Any) -> Any:
        """Return a fact's value; a shell runs its command.

        + running: whether systemd says that Docker runs
        """
        command: Any = fact.command
        command = command(**arguments)
        text = command.get_raw_value() if isinstance(command, StringCommand) else command
        assert SOCKET in text
        script = f"systemctl() {{ {'true' if running else 'false'}; }}\n"
        ran = subprocess.run(
            ["sh", "-c", script + text.replace(SOCKET, str(self.socket))],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert ran.stderr == ""
        lines = ran.stdout.splitlines()
        return fact.process(lines) if lines else fact.default()


@contextmanager
def docker_api(answers: Mapping[str, str]) -> Iterator[DockerApi]:
    """Run a stand-in for Docker's API, and yield it."""
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has 107 bytes at most
        api = DockerApi(Path(folder, "sock"), answers)

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                method, path, _ = self.rfile.readline().decode().split(" ")
                assert method == "GET"
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(api.answer(path))

        with ThreadingUnixStreamServer(str(api.socket), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield api
            finally:
                server.shutdown()
                thread.join()
