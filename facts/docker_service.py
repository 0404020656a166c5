"""Read how docker.service starts Docker.

If Docker is not installed yet, the fact tells how docker.service would start it once the
distribution's package is installed. The rules are those of systemd.service(5), systemd.exec(5) and
systemd.unit(5). Files are read as in `chaos_engine.facts.systemd_files`:

- drop-ins are in folders ``docker.service.d``, and in ``service.d`` for all services;
- each ``ExecStart=`` adds a command, and an empty one removes all commands before it; systemd
  refuses a service of Docker's type that does not have exactly one command;
- the program is an absolute path or a name, after any of the characters ``@-:+!|``;
- a word ``$NAME`` becomes the words of that variable; if several lines set a variable, the last
  counts, and files (``EnvironmentFile=``) count more than ``Environment=``.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.systemd_files import effective, folders, listing, parse_listing, settings

FOLDERS = (*folders("systemd/system/docker.service.d"), *folders("systemd/system/service.d"))
DEFAULTS = "/etc/default/docker"
UNIT = "docker.service"

_PACKAGES_UNIT = "docker.io's docker.service"
_PACKAGES_COMMAND = "dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS"
# Where the package installs dockerd: Debian's in sbin, Ubuntu's in bin
_DAEMON = {"debian": ("/usr/sbin/dockerd", "/sbin/dockerd")}
_DAEMON_ELSEWHERE = (*_DAEMON["debian"], "/usr/bin/dockerd", "/bin/dockerd")

# The last lines tell which of the programs exist that the unit and its drop-ins name
_SCRIPT = f"""
show=$(systemctl show --property LoadState,Environment,ExecStart -- {UNIT})
printf '%s\\n' "$show"
( . /etc/os-release; echo "System=$ID" )
echo "DropIns=$({listing(FOLDERS)})"
[ ! -f {DEFAULTS} ] || echo "Defaults=$(base64 -w0 {DEFAULTS})"
words=$show
for f in {" ".join(f"{folder}/*.conf" for folder in FOLDERS)}; do
  [ ! -f "$f" ] || words="$words $(cat -- "$f")"
done
set -f
for word in $words; do
  case $word in
    */*dockerd*)
      word=/${{word#*/}} word=${{word%\\"}} word=${{word%\\'}}
      [ ! -x "$word" ] || [ -d "$word" ] || echo "Program=$word"
      ;;
  esac
done
true"""


@dataclass(frozen=True)
class Service(Value):
    """How systemd starts Docker.

    + flags: options of dockerd's command line, each with the file that it comes from, such as
      ``{"-H": "docker.service", "--log-driver": "/etc/default/docker"}``
    + problem: why systemd cannot start Docker, and what to do; "" if it can
    """

    flags: dict[str, str] = field(default_factory=dict)
    problem: str = ""


class DockerService(NodeFact[Service]):
    """How docker.service starts dockerd.

    Docker does not start if an option is given both as a flag and in daemon.json
    (https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file).
    ``dockerd --validate`` does not find that, because it does not know the service's flags.

    **Example:** ``host.get_fact(DockerService).flags``
    """

    @override
    def command(self) -> str:
        return _SCRIPT

    @override
    def parse(self, lines: list[str]) -> Service:
        """Read the ``Key=value`` lines of the fact's command."""
        unit: dict[str, str] = {}
        programs = []
        for line in lines:
            key, _, value = line.partition("=")
            if key == "Program":
                programs.append(value)
            elif key != "ExecStart" or key not in unit:
                unit[key] = value
        drop_ins = effective(parse_listing(unit.get("DropIns", "")), FOLDERS)
        state = unit.get("LoadState")
        if state == "bad-setting":
            return Service(problem="systemd refuses docker.service; see: systemctl status docker")
        if state == "loaded":
            # systemd has applied the drop-ins, and shows the command as { path= ; argv[]= ; ... }
            found = re.search(r"argv\[\]=(.*?) ; ignore_errors=", unit.get("ExecStart", ""))
            commands = [(_last_file(drop_ins), found[1])] if found else []
            environment = unit.get("Environment", "")
        else:
            commands, environment = _once_installed(drop_ins)
            if len(commands) != 1:
                return Service(problem=_command_problem(commands, drop_ins))
        if not commands:
            return Service()
        file, command = commands[0]
        defaults = os.fsdecode(base64.b64decode(unit.get("Defaults", ""), validate=True))
        variables = {name: (file, value) for name, value in _assigned(_words(environment))}
        variables |= {name: (DEFAULTS, value) for name, value in _assigned(_lines(defaults))}
        program, _, rest = command.partition(" ")
        words: list[tuple[str, str]] = []
        for argument in rest.split():
            variable = re.fullmatch(r"\$\{?(\w+)\}?", argument)
            if variable is None:
                words.append((argument, file))
            elif variable[1] in variables:
                origin, value = variables[variable[1]]
                words += [(word, origin) for word in " ".join(_words(value)).split()]
        known = (*_DAEMON.get(unit.get("System", ""), _DAEMON_ELSEWHERE), *programs)
        return Service(_flags(words), _program_problem(file, program, known))


def _once_installed(drop_ins: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], str]:
    """Return the commands and the variables that docker.service has once Docker is installed.

    Each command comes with the file that sets it. The variables are ``NAME=value`` words.
    """
    commands = [(_PACKAGES_UNIT, _PACKAGES_COMMAND)]
    environment: list[str] = []
    for path, text in drop_ins:
        for section, name, value in settings(text):
            if (section, name) == ("Service", "ExecStart"):
                commands = [*commands, (path, value)] if value else []
            elif (section, name) == ("Service", "Environment"):
                environment = [*environment, value] if value else []
    return commands, " ".join(environment)


def _program_problem(file: str, word: str, known: tuple[str, ...]) -> str:
    """Return why a program cannot be started, and what to do; "" if it can.

    + file: the file that has the command
    + word: the first word of the command
    + known: paths of dockerd that exist, or that docker.io installs
    """
    program = word.lstrip("@-:+!|").strip("\"'")
    if not program.startswith("/") or not program.endswith("dockerd") or program in known:
        return ""
    return (
        f"{file} starts {program}, which does not exist, and which docker.io does not "
        "install; remove that ExecStart, or have it start /usr/sbin/dockerd"
    )


def _command_problem(commands: list[tuple[str, str]], drop_ins: list[tuple[str, str]]) -> str:
    """Return why a service does not have exactly one command, and what to do."""
    if commands:
        return (
            f"{commands[-1][0]} gives docker.service a second ExecStart, and systemd would refuse "
            "it; remove that file, or put an empty ExecStart= before the one in it"
        )
    return f"{_last_file(drop_ins)} leaves docker.service without an ExecStart; remove that file"


def _last_file(drop_ins: list[tuple[str, str]]) -> str:
    """Return the last file that adds or removes a command of docker.service."""
    for path, text in reversed(drop_ins):
        if any((s.section, s.name) == ("Service", "ExecStart") for s in settings(text)):
            return path
    return UNIT


def _assigned(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each text ``NAME=value``."""
    for text in texts:
        name, equals, value = text.partition("=")
        if equals:
            yield name.strip(), value


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of an ``EnvironmentFile=`` without comments, with continued lines joined."""
    lines = (line.strip() for line in text.replace("\\\n", "").split("\n"))
    return (line for line in lines if not line.startswith(("#", ";")))


def _flags(words: list[tuple[str, str]]) -> dict[str, str]:
    """Return the options among the words of a command line, each with its file.

    + words: each with the file that it comes from

    ``--feature=NAME`` becomes the key ``--feature NAME``; ``--feature=NAME=false`` is left out.
    """
    flags = {}
    for (word, file), (following, _) in zip(words, [*words[1:], ("-", "")], strict=True):
        if not word.startswith("-"):
            continue
        name, equals, value = word.partition("=")
        if name == "--feature":
            feature, _, on = (value if equals else following).partition("=")
            if on.lower() in ("false", "0", "f"):
                continue
            name = f"{name} {feature}"
        flags[name] = file
    return flags


def _words(text: str) -> list[str]:
    """Return the words of a text, as a shell splits it."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # an open quote
        return text.split()
