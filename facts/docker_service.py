"""Read how docker.service starts Docker.

If Docker is not installed yet, the fact tells how docker.service will start Docker after the
distribution's package has been installed. `chaos_engine.facts.systemd_files` reads the files. The
rules are those of systemd.service(5), systemd.exec(5) and systemd.unit(5):

- drop-ins are in folders ``docker.service.d``; drop-ins for all services are in ``service.d``;
- each ``ExecStart=`` adds a command, and an empty ``ExecStart=`` removes all commands above it;
- systemd refuses docker.service if the service does not have exactly one command;
- a command begins with a program's absolute path or name; the characters ``@-:+!|`` may precede it;
- a word ``$NAME`` is replaced by the words in the variable ``NAME``;
- if several lines set a variable, the last line counts; ``EnvironmentFile=`` overrides
  ``Environment=``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.node import OS_RELEASE, os_release
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.systemd import UnitProperties
from chaos_engine.facts.systemd_files import effective, files_in, folders, settings, texts_of

FOLDERS = (*folders("systemd/system/docker.service.d"), *folders("systemd/system/service.d"))
DEFAULTS = "/etc/default/docker"
UNIT = "docker.service"

_PACKAGES_UNIT = "docker.io's docker.service"
_PACKAGES_COMMAND = "dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS"
# Debian's package installs dockerd in sbin, Ubuntu's package in bin
_DAEMON = {"debian": ("/usr/sbin/dockerd", "/sbin/dockerd")}
_DAEMON_ELSEWHERE = (*_DAEMON["debian"], "/usr/bin/dockerd", "/bin/dockerd")

_UNITS = tuple(f"{folder}/{UNIT}" for folder in folders("systemd/system"))
_DROP_INS = files_in(FOLDERS)

# The shell reads the files itself. For a few small files, this is faster than another program
_PROGRAMS = f"""
for file in {" ".join((*_UNITS, *_DROP_INS))}; do
  [ ! -f "$file" ] || while read -r line || [ "$line" ]; do
    case $line in *dockerd*) ;; *) continue ;; esac
    set -f
    for word in $line; do
      case $word in
        */*dockerd*)
          word=/${{word#*/}} word=${{word%\\"}} word=${{word%\\'}}
          [ ! -x "$word" ] || [ -d "$word" ] || echo "$word"
          ;;
      esac
    done
    set +f
  done <"$file"
done
true"""


@dataclass(frozen=True)
class Service(Value):
    """How systemd starts Docker.

    + flags: a dictionary from each option of dockerd's command line to the file that sets the
      option, such as ``{"-H": "docker.service", "--log-driver": "/etc/default/docker"}``
    + problem: why systemd cannot start Docker, and what to do; "" if it can
    """

    flags: dict[str, str] = field(default_factory=dict)
    problem: str = ""


class _Programs(NodeFact[tuple[str, ...]]):
    """The paths of dockerd in docker.service and its drop-ins. Missing programs are left out."""

    @override
    def command(self) -> str:
        return _PROGRAMS

    @override
    def parse(self, lines: list[str]) -> tuple[str, ...]:
        return tuple(lines)


class DockerService(ComposedFact[Service]):
    """How docker.service starts dockerd.

    Docker does not start if an option is given both as a flag and in daemon.json
    (https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file).
    ``dockerd --validate`` does not find this mistake, because it does not see the service's flags.

    **Example:** ``host.get_fact(DockerService).flags``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (
            Read.of(UnitProperties, units=(UNIT,)),
            Read.of(Texts, patterns=_DROP_INS),
            Read.of(Texts, patterns=(DEFAULTS, *OS_RELEASE)),
            Read.of(_Programs),
        )

    @override
    def compose(
        self,
        units: dict[str, dict[str, str]],
        drop_ins: dict[str, bytes | None],
        files: dict[str, bytes | None],
        programs: tuple[str, ...],
    ) -> Service:
        texts = texts_of(files)
        system = os_release(texts).get("ID", "")
        return parse_service(
            units[UNIT],
            effective(texts_of(drop_ins), FOLDERS),
            texts.get(DEFAULTS, ""),
            (*_DAEMON.get(system, _DAEMON_ELSEWHERE), *programs),
        )


def parse_service(
    unit: dict[str, str],
    drop_ins: list[tuple[str, str]],
    defaults: str,
    programs: tuple[str, ...],
) -> Service:
    """Return how systemd starts Docker.

    + unit: systemd's properties of docker.service
    + drop_ins: path and text of each drop-in, in the order in which systemd applies them
    + defaults: the text of the file `DEFAULTS`
    + programs: paths of dockerd that exist, or that the package docker.io installs
    """
    state = unit.get("LoadState")
    if state == "bad-setting":
        return Service(problem="systemd refuses docker.service; see: systemctl status docker")
    if state == "loaded":
        # systemd has applied the drop-ins, and shows the command as { path= ; argv[]= ; ... }
        shown = unit.get("ExecStart", "")
        found = re.search(r"argv\[\]=(.*?) ; ignore_errors=", shown, re.DOTALL)
        commands = [(_last_file(drop_ins), found[1])] if found else []
        environment = unit.get("Environment", "")
    else:
        commands, environment = _once_installed(drop_ins)
        if len(commands) != 1:
            return Service(problem=_command_problem(commands, drop_ins))
    if not commands:
        return Service()
    file, command = commands[0]
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
    return Service(_flags(words), _program_problem(file, program, programs))


def _once_installed(drop_ins: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], str]:
    """Return the commands and variables that docker.service will have after Docker's installation.

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
    """Return why systemd cannot start dockerd, and what to do. Return "" if systemd can.

    + file: the file that has the command
    + word: the first word of the command
    + known: paths of dockerd that exist, or that the package docker.io installs
    """
    program = word.lstrip("@-:+!|").strip("\"'")
    if not program.startswith("/") or not program.endswith("dockerd") or program in known:
        return ""
    return (
        f"{file} starts {program}, which does not exist; the package docker.io does not install "
        "this program either; remove ExecStart from the file, or change the program to "
        "/usr/sbin/dockerd"
    )


def _command_problem(commands: list[tuple[str, str]], drop_ins: list[tuple[str, str]]) -> str:
    """Return a message for a docker.service that has no command, or more than one.

    The message says which file causes this problem, and what to do.
    """
    if commands:
        return (
            f"{commands[-1][0]} gives docker.service a second ExecStart, so systemd would refuse "
            "the service; remove that file, or put an empty ExecStart= above its ExecStart"
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
    """Yield the lines of an environment file. Skip comments, and join continued lines."""
    lines = (line.strip() for line in text.replace("\\\n", "").split("\n"))
    return (line for line in lines if not line.startswith(("#", ";")))


def _flags(words: list[tuple[str, str]]) -> dict[str, str]:
    """Return a dictionary from each option of a command line to the file that sets the option.

    + words: the words of the command line, each with the file that contains the word

    ``--feature=NAME`` becomes the key ``--feature NAME``. ``--feature=NAME=false`` is skipped.
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
    """Split a text into words, as a shell does."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # an open quote
        return text.split()
