"""Read a node: many facts, one remote command, kept until the node may have changed.

pyinfra spends one remote command a fact and keeps nothing. An operation of this package reads
through `observe` instead: the first call gathers everything that the run has said it will want
(`want`) in one command and keeps the answers until any command has run on that host, or somebody
was asked whether to go on. A command that changes the node ends with what the next operation will
ask (`Ahead`), so that one change after another costs one command each. The batch is composed of the
facts' own ``command`` and parsed by their own ``process``, so each fact also works alone:
``pyinfra inventory.py fact ...``.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, cast
from weakref import WeakKeyDictionary

from paramiko import SSHException
from pyinfra import logger
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import FactProcessError, PyinfraError
from pyinfra.api.facts import FactBase
from pyinfra.api.util import format_text
from pyinfra.connectors.fake import FakeConnector
from pyinfra.context import ctx_host, ctx_state
from typing_extensions import override

from chaos_engine.facts.connection import prepare, repaired, silence, trouble, unsupported
from chaos_engine.facts.progress import MARK, Doing, waiting
from chaos_engine.facts.text import printable

if TYPE_CHECKING:
    from pyinfra.api.arguments import AllArguments
    from pyinfra.api.host import Host
    from pyinfra.api.operation import OperationMeta
    from pyinfra.api.state import State
    from pyinfra.connectors.util import CommandOutput, OutputLine

T = TypeVar("T")

PART_SECONDS = 24
"""A part of a batch that has not answered after so many seconds by itself is an error, never a
default; all together have twice as long."""

MAX_AGE_SECONDS = 60
"""An answer older than this is read again: people and timers change nodes too."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, by what reads a node and by what changes it: sudo's own path may
lack some (Debian's has no ``/usr/local`` from 14 on), and both have to find the same."""

LOCK = "/run/chaos-engine/lock"
"""Held by each script of this package that changes the node, for as long as it is at work."""

LOCK_SECONDS = 600
"""A node on which an earlier run is still at work after so many seconds is given up."""

NO_SYSTEMD = "systemd does not run here; use a system that boots with systemd"

_MARK = "chaos-engine"
_END = "end-of-reads"

PROBE = "$x\n\\\\"
"""An argument that shows whether scripts arrive as they were sent. ``sudo -i`` changes it, and so
do login shells that read quotes in another way: fish takes two backslashes for one, tcsh no line
break."""

_PROBE_FORMAT = r"'$x\n\\\\'"

_IDENTITY = (
    "_sudo",
    "_sudo_user",
    "_use_sudo_login",
    "_su_user",
    "_use_su_login",
    "_doas",
    "_doas_user",
    "_dzdo",
    "_dzdo_user",
    "_shell_executable",
    "_chdir",
    "_env",
)


class NodeError(Exception):
    """A node is in a state that this package does not handle: it is refused, the others go on.

    The message says what was found and what to do about it; the host's name is added in print.
    """


class NodeFact(FactBase[T], Generic[T]):
    """A fact whose `parse` may raise ``ValueError`` for output that it does not understand.

    pyinfra contains only ``FactProcessError``: any other exception in ``process`` ends the run
    of all hosts (research: ``pyinfra/api/facts.py``, ``_get_fact``).
    """

    of_others: ClassVar[bool] = False
    """Whether it tells of other machines, so that no command on the node changes the answer."""

    def parse(self, lines: list[str]) -> T:
        """Turn the command's lines into the fact's value; ``ValueError`` if they make no sense."""
        raise NotImplementedError

    @override
    def process(self, output: list[str]) -> T:
        try:
            return self.parse(output)
        except (ValueError, LookupError) as error:
            raise FactProcessError(f"unexpected answer: {error!r}") from error


class YesOrNo(NodeFact[bool]):
    """A fact whose command prints ``yes`` or ``no``."""

    @override
    def parse(self, lines: list[str]) -> bool:
        return {"yes": True, "no": False}[lines[0]]


class SeveralFact(NodeFact[dict[str, T]], Generic[T]):
    """A fact that tells something of each of several things, by name.

    `argument` is the argument of its ``command`` that lists them: names, or tuples that begin with
    one. Reads of it are gathered as one, which spares a node most of its processes, and each is
    answered with its own names.
    """

    argument: ClassVar[str]

    @staticmethod
    @override
    def default() -> dict[str, T]:
        return {}


class Value:
    """Base of the dataclasses that facts return: pyinfra can print them as JSON."""

    def to_json(self) -> dict[str, Any]:
        """The value's fields by name."""
        return asdict(cast(Any, self))


@dataclass(frozen=True)
class Read:
    """One fact with its arguments, as an operation will ask for it."""

    fact: type[FactBase[Any]]
    arguments: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, fact: type[FactBase[Any]], **arguments: Any) -> Read:
        """The read that ``observe(fact, **arguments)`` makes; arguments must be hashable."""
        return cls(fact, tuple(sorted(arguments.items())))

    @property
    def names(self) -> dict[str, Any]:
        """The things that a `SeveralFact` is asked about, by name; no other fact has any."""
        if not issubclass(self.fact, SeveralFact):
            return {}
        things = dict(self.arguments)[self.fact.argument]
        return {thing if isinstance(thing, str) else thing[0]: thing for thing in things}


@dataclass(frozen=True)
class _Part:
    """What one part of a batch answered."""

    status: int
    out: bytes
    err: bytes


def script(reads: Iterable[Read], apart: bool = False) -> str:
    """The shell script that answers all `reads`, for the standard input of ``sh -s PROBE``.

    + apart: whether each part has a time limit of its own, which costs the node two processes a
      part, or all of them have one together

    Each part has its own subshell, exit status and standard error, so that a part that fails or is
    no valid shell spoils only itself. A nonce made on the node separates the parts: it is in no
    argument list, so no part's output can imitate it. All goes through base64, for pyinfra drops
    what follows a byte that is not UTF-8 without a word. A node on which an earlier run is still
    at work says so; one on which a part hangs gives those before that.

    A login shell may print before and behind the answer, so its lines begin with a mark. The mark
    is made by the first line, so that nothing is answered where the login shell has read that line.
    """
    # A run that was ended leaves its last command at work: what is read meanwhile does not last
    alone = f"test ! -r {LOCK} || {{ flock -s -w 10 -E 75 {LOCK} true; test $? != 75; }}"
    limit = f"timeout -k 1 {PART_SECONDS}"
    # Longer than parts take that end by themselves, such as one that asks a dead share
    overall = "" if apart else f"timeout -k 1 {2 * PART_SECONDS} "
    lines = [
        f'm={_MARK}; [ "$1" = "$(printf {_PROBE_FORMAT})" ] || '
        "{ printf '\\n%s changed\\n' \"$m\"; exit 0; }",
        f"export PATH={PATH}",
        f"{alone} || {{ printf '\\n%s busy\\n' \"$m\"; exit 0; }}",
        "{ printf '\\n%s out ' \"${m:?the first line that it was given is missing}\"; e=$( { {",
        f"{overall}sh -s <<'{_END}'",
        "n=$(cat /proc/sys/kernel/random/uuid) || exit 9",
        "printf '%s\\n' $n",
    ]
    for read in reads:
        fact, arguments = read.fact(), dict(read.arguments)
        command = fact.command(**arguments) if callable(fact.command) else fact.command
        if isinstance(command, str):
            command = StringCommand(command)
        needed = fact.requires_command(**arguments)
        quoted = StringCommand(QuoteString(command)).get_raw_value()
        run = f"( eval {quoted} ) </dev/null"
        if apart or fact.shell_executable:
            run = f"{limit} {fact.shell_executable or 'sh'} -c {quoted} </dev/null"
        if needed:
            quoted = StringCommand(QuoteString(needed)).get_raw_value()
            run = f"if command -v {quoted} >/dev/null 2>&1; then {run}; else (exit 127); fi"
        lines += [run, "printf '\\n%s %s\\n' $n $?; printf '\\n%s\\n' $n >&2"]
    lines += [
        _END,
        '} | base64 -w0 >&3; } 2>&1 | base64 -w0 ); printf \'\\n%s err %s\\n\' "$m" "$e"; } 3>&1',
        "",
    ]
    return "\n".join(lines)


def marked(output: Iterable[str]) -> dict[str, str]:
    """What a batch's script has answered: ``out`` and ``err`` in base64, ``busy``, or ``changed``.

    Lines without its mark are those of a login shell.
    """
    lines = (line.split(" ", 2) for line in output if line.startswith(f"{_MARK} "))
    return {word: "".join(rest) for _, word, *rest in lines}


def split(output: Iterable[str]) -> list[_Part]:
    """The parts of a batch's answer: a line of base64 for all output, one for all errors.

    An answer that is cut short has fewer. Raises ``ValueError`` when it has no beginning.
    """
    answer = marked(output)
    out = base64.b64decode(answer.get("out", ""), validate=True)
    err = base64.b64decode(answer.get("err", ""), validate=True)
    nonce, newline, rest = out.partition(b"\n")
    if not newline:
        raise ValueError("it has no first line")
    errors = err.split(b"\n" + nonce + b"\n")
    chunks = rest.split(b"\n" + nonce + b" ")
    parts = []
    written = chunks[0]
    for chunk, error in zip(chunks[1:], errors, strict=False):
        # what a part wrote is followed by its status, at the head of the next chunk
        status, newline, following = chunk.partition(b"\n")
        if not newline:
            break
        parts.append(_Part(int(status), written, error))
        written = following
    return parts


def joined(reads: Iterable[Read]) -> dict[Read, list[Read]]:
    """The reads to make for all of `reads`, each with those that it answers: a pure function.

    Reads of one `SeveralFact` become one, but for those that ask for another thing of that name.
    """
    questions: dict[Read, list[Read]] = {}
    several: dict[type[FactBase[Any]], tuple[dict[str, Any], list[Read]]] = {}
    for read in reads:
        names = read.names
        things, members = several.setdefault(read.fact, ({}, []))
        if names and all(things.get(name, thing) == thing for name, thing in names.items()):
            things.update(names)
            members.append(read)
        else:
            questions[read] = [read]
    for fact, (things, members) in several.items():
        if members and issubclass(fact, SeveralFact):
            one = Read.of(fact, **{fact.argument: tuple(things.values())})
            questions[one] = [*questions.get(one, []), *members]
    return questions


Moment = tuple[Any, int]
"""The stage of a run, and how many commands it has had on a host: what is true stays so."""


@dataclass
class View:
    """What is known of one host, and what the run will ask of it."""

    known: dict[tuple[Read, Any], Any] = field(default_factory=dict)
    wanted: dict[tuple[Read, Any], None] = field(default_factory=dict)
    stamp: Moment | None = None
    at: float = 0.0
    own: Callable[[], Iterable[Read]] = tuple
    coming: dict[str, Callable[[], Iterable[Read]]] = field(default_factory=dict)
    changing: bool = False
    ahead: Moment | None = None
    phase: Literal["", "collect", "check"] = ""
    depth: int = 0
    concern: str = ""
    refusal: str = ""
    problems: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    told: dict[bool, dict[str, list[str]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    arguments: tuple[Any, AllArguments] | None = None
    passed: dict[str, Moment] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)

    def fail(self, why: str) -> None:
        """Note what is wrong with the host, once, for the end of the run."""
        if why not in self.failures:
            self.failures.append(why)

    def learn(self, reads: Iterable[Read], identity: tuple[str, ...], value: Any) -> None:
        """Keep the value that answers all of these, each with its own names."""
        if not self.known:
            self.at = time.monotonic()
        for read in reads:
            own = value
            if read.names and isinstance(value, dict):
                own = {name: value[name] for name in read.names if name in value}
            self.known[read, identity] = own

    def age(self) -> None:
        """Drop all if some of it is too old."""
        if time.monotonic() - self.at > MAX_AGE_SECONDS:
            self.known.clear()

    def outdate(self) -> None:
        """Drop what the node may answer in another way once it was changed."""
        self.known = {key: value for key, value in self.known.items() if _of_others(key[0])}

    @contextmanager
    def working_for(self, concern: str) -> Iterator[None]:
        """What is changed meanwhile is noted under this concern's name."""
        outer, self.concern = self.concern, concern
        try:
            yield
        finally:
            self.concern = outer


def current() -> tuple[State, Host, View]:
    """The state and host that pyinfra is working for now, and what is known of that host."""
    state, host = cast("State", ctx_state.get()), cast("Host", ctx_host.get())  # type: ignore[no-untyped-call]
    return state, host, view_of(host)


def view_of(host: Host) -> View:
    """What is known of a host."""
    # Not a dictionary by host: pyinfra's host is one proxy object for all greenlets.
    view: View = host.connector_data.setdefault("chaos_engine", View())
    return view


def observe(fact: type[FactBase[T]], **arguments: Any) -> T:
    """The fact's value on the current host, from what is known or by one gathered read.

    + fact: the fact's class
    + arguments: of its ``command``, hashable

    A program that the fact requires and the node lacks gives the fact's ``default()``. Raises
    `NodeError` if the node cannot be read: a failed, hung or damaged read never becomes a default.

    **Example:** ``cmdline = observe(KernelCmdline)``
    """
    state, host, view = current()
    identity = _identity(host)
    read = Read.of(fact, **arguments)
    _drop_stale(state, host, view)
    if (read, identity) not in view.known:
        # One change is often followed by another, as in a first deploy: then all but the
        # operation's own reads would be in vain. Once one has changed nothing, all is read again.
        also = [r for r, i in view.wanted if i == identity]
        if view.changing:
            also = own if read in (own := list(view.own())) else []
        missing = (r for r in [read, *also] if (r, identity) not in view.known)
        _gather(state, host, view, identity, dict.fromkeys(missing))
    value = view.known[read, identity]
    if isinstance(value, NodeError):
        raise value
    return cast(T, value)


def want(reads: Iterable[Read], global_arguments: AllArguments | None = None) -> None:
    """Say that the run will `observe` these, so that the next gathered read includes them.

    + global_arguments: pyinfra's, of the operation that will; else those of the one at work
    """
    _, host, view = current()
    identity = _identity(host, global_arguments)
    view.wanted.update(dict.fromkeys((read, identity) for read in reads))


def expect(operation: OperationMeta, reads: Callable[[], Iterable[Read]]) -> None:
    """Say that an operation was registered for the current host.

    + reads: says what it will `observe`
    """
    current()[2].coming[operation._hash] = reads


def begin(reads: Callable[[], Iterable[Read]]) -> None:
    """Say that an operation begins on the current host.

    + reads: says what it will `observe`; called only if that matters
    """
    view = current()[2]
    view.own, view.changing = reads, False


def gather() -> None:
    """Read all that is wanted and not known of the current host, in one remote command."""
    state, host, view = current()
    identity = _identity(host)
    _drop_stale(state, host, view)
    missing = [r for r, i in view.wanted if i == identity and (r, i) not in view.known]
    if missing:
        _gather(state, host, view, identity, missing)


def changes() -> None:
    """Say that the operation at work changes the current host now."""
    view = current()[2]
    view.outdate()
    view.changing, view.ahead = True, None


@dataclass(frozen=True)
class Ahead:
    """What the next operation on a host will ask, answered by the command of the one at work.

    As that changes the node, all would have to be read anew, in a command of its own.
    """

    identity: tuple[str, ...]
    questions: dict[Read, list[Read]]
    mark: str = field(default_factory=partial(secrets.token_hex, 8))

    @classmethod
    def now(cls) -> Ahead | None:
        """For the current host; nothing where the next operation is none of this package or runs as
        somebody else, or where all output is shown, in which answers would be in the way."""
        state, host, view = current()
        order, at_work = host.op_hash_order, host.executing_op_hash
        if at_work is None or host.nested_executing_op_hash or state.print_output:
            return None
        following = order[order.index(at_work) + 1 :][:1]
        # of an operation that runs once, pyinfra keeps the others' hosts out (_run_once)
        mine = [one for one in following if one in state.ops[host]]
        reads = view.coming.get(mine[0]) if mine else None
        if reads is None or isinstance(host.connector, FakeConnector):
            return None
        identity = _identity(host)
        if _identity(host, state.ops[host][mine[0]].global_arguments) != identity:
            return None
        missing = [read for read in reads() if (read, identity) not in view.known]
        return cls(identity, joined(missing)) if missing else None

    def behind(self, command: StringCommand) -> StringCommand:
        """The command, which answers once it has succeeded; its status is its own."""
        return StringCommand(
            "{",
            command,
            # on a line of its own, whatever was printed before
            f"\n}} && {{ echo; echo {self.mark}; echo '{MARK}reading its state'; sh -c",
            QuoteString(script(self.questions)),
            "sh",
            QuoteString(PROBE),
            "</dev/null || true; }",
            **command.connector_arguments,
        )

    def take(self, output: CommandOutput) -> None:
        """Take the answers out of what the command has put out. One that is missing, or tells of
        an error, is left for the operation to ask for itself."""
        view = current()[2]
        lines: list[OutputLine] = []
        answer: list[str] | None = None
        for line in output.combined_lines:
            if line.buffer_name == "stdout" and line.line == self.mark:
                answer = []
                _drop_empty_line(lines)
            elif line.buffer_name == "stdout" and answer is not None:
                answer.append(line.line)
            else:
                lines.append(line)
        output.combined_lines[:] = lines
        try:
            parts = split(answer or [])
        except ValueError:
            return
        view.age()
        for (question, answered), part in zip(self.questions.items(), parts, strict=False):
            value = _value(question, part)
            if not isinstance(value, NodeError):
                view.learn(answered, self.identity, value)
        stage, executed = moment()
        view.ahead = stage, executed + 1


def forget() -> None:
    """Drop all that is known of the current host, such as after a reboot."""
    view = current()[2]
    view.known.clear()
    view.changing = False


def warn(message: str, of_node: bool = True) -> None:
    """Print a warning, once a run.

    + of_node: whether it is about the current host. One that is about settings is printed without
      a host, and once for all that have these settings
    """
    state, host, view = current()
    message = printable(message)  # it may quote what nodes, and others there, say
    said = view.warned if of_node else _warned.setdefault(state, set())
    if message in said:
        return
    said.add(message)
    text = format_text(f"Warning: {message}", fg="yellow")
    if of_node:
        host.log(text)
    else:
        logger.info(f"    {text}")


_warned: WeakKeyDictionary[State, set[str]] = WeakKeyDictionary()
"""The warnings about settings that a run has printed."""


@contextmanager
def phase(name: Literal["collect", "check"]) -> Iterator[tuple[list[str], list[str]]]:
    """While it lasts, operations of this package only say what they read (collect) or only decide
    (check). Gives two lists: the problems that they find, and the names of those that would
    change the node."""
    view = current()[2]
    view.phase, view.problems, view.pending, view.arguments = name, [], [], None
    try:
        yield view.problems, view.pending
    finally:
        view.phase = ""


def moment() -> Moment:
    """Where the run stands on the current host; what was decided holds until it is another one."""
    state, host, _ = current()
    executed = sum(data.operation_meta.executed for data in state.ops[host].values())
    return state.current_stage, executed


def usual_arguments() -> AllArguments:
    """pyinfra's own arguments of an operation that is called with none of them."""
    state, host, view = current()
    if not view.phase:
        return pop_global_arguments(state, host, {})[0]
    # pyinfra resolves all types anew each time; while a phase lasts only the deploy may be another
    if view.arguments is None or view.arguments[0] is not host.current_deploy_kwargs:
        resolved, _ = pop_global_arguments(state, host, {})
        view.arguments = host.current_deploy_kwargs, resolved
    return view.arguments[1]


def _drop_empty_line(lines: list[OutputLine]) -> None:
    """Drop the last line of standard output, if it is the empty one before the mark."""
    for place in reversed(range(len(lines))):
        if lines[place].buffer_name == "stdout":
            if not lines[place].line:
                del lines[place]
            return


def _of_others(read: Read) -> bool:
    return issubclass(read.fact, NodeFact) and read.fact.of_others


def _identity(host: Host, global_arguments: AllArguments | None = None) -> tuple[str, ...]:
    """As whom the node is read: answers as root and as a user are kept apart."""
    resolved = _resolved(host, global_arguments)
    return tuple(f"{key}={resolved[key]!r}" for key in _IDENTITY if resolved.get(key))


def _resolved(host: Host, global_arguments: AllArguments | None = None) -> dict[str, Any]:
    """pyinfra's own arguments of what is at work, or of an operation that has none."""
    found = global_arguments or host.current_op_global_arguments or usual_arguments()
    return cast("dict[str, Any]", found)


def _drop_stale(state: State, host: Host, view: View) -> None:
    before, view.stamp = view.stamp, moment()
    stage, executed = view.stamp
    # Before a run that was previewed people wait at the prompt, or mend what it has listed.
    resumed = before is not None and before[0] != stage and state.should_check_for_changes()  # type: ignore[no-untyped-call]
    if before is None or resumed:
        view.known.clear()
    view.age()
    # Inside a nested operation commands have run that the count does not show yet.
    if before is not None and (before[1] != executed or host.nested_executing_op_hash):
        if view.ahead != view.stamp or host.nested_executing_op_hash:
            view.outdate()
        view.changing = before[0] == stage


def _gather(
    state: State,
    host: Host,
    view: View,
    identity: tuple[str, ...],
    reads: Iterable[Read],
) -> None:
    if isinstance(host.connector, FakeConnector):  # its scripted answers are per command
        for read in reads:
            view.learn([read], identity, host.get_fact(read.fact, **dict(read.arguments)))
        return
    questions = joined(reads)
    answers = _ask(host, questions)
    # What spoils a joined read, such as a path on a dead share, shall not spoil the others; nor
    # shall a part that hangs those behind it
    failed = (q for q in questions if q not in answers or isinstance(answers[q], NodeError))
    apart = [read for question in failed for read in questions[question] if read not in answers]
    if apart:
        answers |= _ask(host, apart, apart=True)
    for question, answered in questions.items():
        for read in answered:
            view.learn([read], identity, answers[read] if read in answers else answers[question])


def _ask(host: Host, reads: Iterable[Read], apart: bool = False) -> dict[Read, Any]:
    """The answer to each read, a `NodeError` where there is none, by one remote command.

    Unless they are asked `apart`, those are missing that did not come in the time of all.
    """
    batch = tuple(reads)
    parts = _parts(host, batch, apart)
    if apart and len(parts) != len(batch):
        raise NodeError("its state could not be read: the answer is cut short; run again")
    return {read: _value(read, part) for read, part in zip(batch, parts, strict=False)}


def _parts(host: Host, batch: tuple[Read, ...], apart: bool) -> list[_Part]:
    """The parts of a batch, once no earlier run is at work on the node."""
    resolved = _resolved(host)
    arguments = {key: resolved[key] for key in CONNECTOR_ARGUMENT_KEYS if key in resolved}
    arguments.pop("_stdin", None)
    problem = unsupported(arguments)
    if problem:
        raise NodeError(problem)
    with waiting(host, "reading its state") as doing:
        output = _read(host, batch, apart, arguments, doing)
    answer = marked(output.stdout_lines)
    try:
        parts = split(output.stdout_lines)
    except ValueError as error:
        why = trouble(host) or (f"damaged: {error}; run again" if answer else silence(output))
        raise NodeError(f"its state could not be read: {why}") from error
    if current()[0].print_fact_info:
        host.log(f"Loaded {len(parts)} facts")
    return parts


def _read(
    host: Host, batch: tuple[Read, ...], apart: bool, arguments: Mapping[str, Any], doing: Doing
) -> CommandOutput:
    """What a batch's script put out, once no earlier run is at work on the node."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            if not host.connected:
                host.connect(reason="to read its state", raise_exceptions=True)
            prepare(host, arguments)
            output = _answered(host, script(batch, apart), arguments)
            answer = marked(output.stdout_lines)
            if not answer and repaired(host, arguments, output):
                continue
        except (EOFError, OSError, SSHException, PyinfraError) as error:
            raise NodeError(f"its state could not be read: {trouble(host, error)}") from error
        if "changed" in answer:
            raise NodeError(
                "scripts do not arrive on it as they were sent: its login shell reads quotes in "
                "another way than sh, as fish does, or starts another one; give the user another "
                "one: chsh -s /bin/bash"
            )
        if "busy" not in answer:
            return output
        if time.monotonic() > deadline:
            raise NodeError(
                "an earlier run was ended, but is still at work on it; lslocks tells which process "
                f"has {LOCK}: wait for that, or end it, and run again"
            )
        warn("an earlier run was ended, but is still at work on it; waiting for that")
        doing.now("waiting for an earlier run that is still at work on it", LOCK_SECONDS)


def _answered(
    host: Host, text: str, arguments: Mapping[str, Any], again: bool = True
) -> CommandOutput:
    """What a script put out that comes by standard input, or what has refused to run it.

    In its arguments sudo would log it, and they have a limit.
    """
    state = current()[0]
    shown = {"print_output": state.print_fact_output, "print_input": state.print_fact_input}

    def run(command: StringCommand, **more: Any) -> CommandOutput:
        return host.run_shell_command(command, **shown, **arguments, **more)[1]

    try:
        return run(StringCommand("sh -s", QuoteString(PROBE)), _stdin=[text])
    except OSError as error:
        if not again or isinstance(error, TimeoutError) or trouble(host):
            raise
    # What refuses it may be gone before all is sent: have it say why, with nothing to send
    output = run(StringCommand(f"echo; echo {_MARK} runs"))
    runs = "runs" in marked(output.stdout_lines)
    return _answered(host, text, arguments, again=False) if runs else output


def _value(read: Read, part: _Part) -> Any:
    fact, arguments = read.fact(), dict(read.arguments)
    if callable(fact.command):
        fact.command(**arguments)  # a fact may keep its arguments on itself for `process`
    if part.status == 127 and fact.requires_command(**arguments):
        return fact.default()
    if part.status in (124, 125, 137):  # 125 is that of uutils before 0.6, as in Ubuntu 25.10
        return NodeError(f"{fact.name}: no answer in {PART_SECONDS} s; look at the node's load")
    if part.status:
        lines = part.err.decode(errors="replace").strip().splitlines()
        if any("not been booted with systemd" in line for line in lines):  # systemctl's words
            return NodeError(NO_SYSTEMD)
        return NodeError(
            f"{fact.name}: the command that reads it ended with status {part.status}"
            f"{': ' + lines[-1] if lines else ''}"
        )
    try:
        lines = part.out.decode().split("\n")
        while lines and not lines[-1]:
            lines.pop()
        return fact.process(lines) if lines else fact.default()
    except UnicodeDecodeError as error:
        return NodeError(f"{fact.name}: not UTF-8: {error}")
    except FactProcessError as error:
        return NodeError(f"{fact.name}: {error}")
