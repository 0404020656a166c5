"""Check the arguments of an operation when it is called, before anything is changed.

Arguments end up in shell scripts, units and configuration files. Quoting alone does not make them
safe. For example, no program accepts a NUL in an argument, a name with a newline becomes two lines
of a file, and apt removes docker.io if it gets ``docker.io-``. So each argument has a type, such as
`PackageName`, which declares the form of the argument's text. `check_arguments` stops the run if an
argument has another form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema
from pyinfra.api.exceptions import OperationValueError


@dataclass(frozen=True)
class Form:
    """The form that an argument's text has to have.

    + pattern: a regular expression that has to match the whole text
    + what: a description of the form, with an example
    """

    pattern: str
    what: str

    def check(self, text: str) -> str:
        """Return the text unchanged if it has this form.

        Raises ``ValueError`` with the form's description if the text has another form.
        """
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"it has to be {self.what}")
        return text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Return the schema with which pydantic checks that a setting has this form."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))


_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

# The grammar of an image's name, from reference.go in github.com/distribution/reference. Registries
# with an IPv6 address are left out
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = rf"{_LABEL}(\.{_LABEL})*(:[0-9]{{1,5}})?"
_PATH = "[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"
_TAG = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = "sha256:[0-9a-f]{64}"

AbsolutePath = Annotated[
    str,
    Form(
        r"(/[^/\x00-\x1f\x7f]+)+", "an absolute path on one line, such as /etc/docker/daemon.json"
    ),
]
Mode = Annotated[str, Form("[0-7]{3,4}", "an octal mode, such as 644")]
Owner = Annotated[str, Form("[A-Za-z0-9_][A-Za-z0-9_.-]*[$]?", "the name of a user or group")]
UnitName = Annotated[
    str,
    Form(
        r"[A-Za-z0-9_.:@\\-]+\.(service|socket|target|timer|mount|automount|swap|path|slice|scope)",
        "the name of a systemd unit, such as docker.service",
    ),
]
PackageName = Annotated[
    str, Form("[a-z0-9][a-z0-9+.-]*[a-z0-9+.]", "the name of a Debian package, such as docker.io")
]
PackageVersion = Annotated[
    str, Form("[A-Za-z0-9][A-Za-z0-9.+~:-]*", "the version of a Debian package, such as 1.36.2-1.1")
]
Version = Annotated[
    str,
    Form(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}", "a version of three numbers, such as 1.36.2"),
]
ImageName = Annotated[
    str,
    Form(
        rf"({_REGISTRY}/)?{_PATH}(/{_PATH})*(:{_TAG}(@{_DIGEST})?|@{_DIGEST})",
        "a container image with a tag, a digest or both, such as haproxy:3.0 or "
        "haproxy:3.0@sha256:DIGEST; DIGEST is 64 hex digits in lower case",
    ),
]
"""The name of a container image. Without a tag or a digest, Docker would use the tag ``latest``."""
DockerName = Annotated[
    str, Form("[A-Za-z0-9][A-Za-z0-9_.-]*", "a name that Docker accepts, such as lb-network")
]
Folder = Annotated[
    str,
    Form(
        "(/[A-Za-z0-9._-]+)+",
        "an absolute path with only letters, digits and /._-, such as /mnt/ssd",
    ),
]
LogSize = Annotated[str, Form("[1-9][0-9]*[kmg]", "a size with a suffix k, m or g, such as 10m")]
VolumeName = Annotated[str, Form("[A-Za-z0-9_][A-Za-z0-9_-]*", "a Gluster volume, such as pi1")]
MemorySize = Annotated[str, Form("[1-9][0-9]*[KMG]", "a size with a suffix K, M or G, such as 64M")]
MemorySizeOrNone = Annotated[
    str, Form("([1-9][0-9]*[KMG])?", "empty, or a size with a suffix K, M or G, such as 64M")
]
ExportPath = Annotated[
    str,
    Form("(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", "the path of an NFS export, such as /srv/log"),
]
ShareNameOrNone = Annotated[
    str,
    Form(
        "([A-Za-z0-9_][A-Za-z0-9_-]*|(/[A-Za-z0-9_][A-Za-z0-9._-]*)+)?",
        "empty, or the name of a Gluster volume, such as pi1, or the path of an NFS export, "
        "such as /srv/log/pi1",
    ),
]
LinkName = Annotated[
    str, Form("[A-Za-z][A-Za-z0-9._-]{0,14}", "the name of a network interface, such as eth0")
]
Endpoint = Annotated[
    str, Form("[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}", "a host and a port, such as k8s:6443")
]
AddressOrNone = Annotated[
    str, Form(rf"({_OCTET}(\.{_OCTET}){{3}})?", "empty, or an IPv4 address, such as 192.168.1.50")
]
MacAddress = Annotated[
    str,
    Form("([0-9a-f]{2}:){5}[0-9a-f]{2}", "a MAC address with colons, such as 02:42:ac:8f:4c:ff"),
]
SshDestination = Annotated[
    str,
    Form(
        "([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*",
        "a destination for ssh, such as admin@192.168.1.42",
    ),
]
FilePattern = Annotated[
    str,
    Form(
        "(/[A-Za-z0-9._*?-]+)+",
        "an absolute path, in which * and ? stand for other characters, "
        "such as /var/log/nodes/*.log",
    ),
]
HostName = Annotated[
    str,
    Form(
        "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        "a machine's name without its domain, in lower case, such as pi1",
    ),
]
DomainName = Annotated[
    str, Form("[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "the name of a machine, such as pi1")
]
Address = Annotated[
    str, Form(rf"{_OCTET}(\.{_OCTET}){{3}}", "an IPv4 address, such as 192.168.1.50")
]
# White space, quotes and dollars are not allowed. The word becomes part of the kernel's command
# line and of GRUB's configuration file, which is a shell script
KernelWord = Annotated[
    str,
    Form(
        "[A-Za-z0-9_][A-Za-z0-9_.,:/=@+-]*",
        "a word of the kernel's command line, such as cgroup_enable=memory",
    ),
]
KernelModule = Annotated[
    str, Form("[A-Za-z0-9_][A-Za-z0-9_-]*", "the name of a kernel module, such as br_netfilter")
]
SysctlName = Annotated[
    str,
    Form(
        r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+",
        "the name of a kernel parameter with dots, such as net.ipv4.ip_forward",
    ),
]
SysctlValue = Annotated[
    str,
    Form(
        "[^ \t\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^ \t\x00-\x1f\x7f])?",
        "the value of a kernel parameter, on one line",
    ),
]
FileStem = Annotated[str, Form("[A-Za-z0-9_][A-Za-z0-9_.-]*", "a file's name without its suffix")]


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise pyinfra's ``OperationValueError`` if an argument does not have the form of its type.

    + function: the operation; its annotations are the types of the arguments
    + arguments: the arguments of the call, by name
    """
    hints = _hints(function)
    for name, value in arguments.items():
        for problem in problems(name, hints.get(name, Any), value):
            raise OperationValueError(f"{function.__name__}: {problem}")


def problems(where: str, hint: Any, value: Any) -> Iterator[str]:
    """Yield a message for each text in `value` that does not fit the value's type.

    + where: name of the value, for the messages
    + hint: type of the value. In an ``Annotated`` type, only a `Form` counts
    + value: a text, or a list, tuple, set, mapping or dataclass. Texts at any depth are checked
    """
    if isinstance(value, str):
        if (problem := _problem_of(value, _forms(hint))) is not None:
            yield f"{where} = {shown(value)}: {problem}"
        elif _takes_several(hint):
            yield f"{where} = {shown(value)}: a list of texts is wanted, not one text; use a list"
    elif isinstance(value, Mapping):
        of_key, of_value = [*_arguments(hint, Mapping), Any, Any][:2]
        for key, item in value.items():
            yield from problems(f"{where}, key", of_key, key)
            yield from problems(f"{where}[{shown(key)}]", of_value, item)
    elif isinstance(value, list | tuple | set | frozenset):
        of_item = [*_arguments(hint, Iterable), Any][0]
        for number, item in enumerate(value):
            yield from problems(f"{where}[{number}]", of_item, item)
    elif is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        for field in fields(value):
            if field.repr:  # a field without a repr has a file's content, perhaps a secret
                yield from problems(
                    f"{where}.{field.name}", hints.get(field.name, Any), getattr(value, field.name)
                )


def is_valid(hint: Any, value: Any) -> bool:
    """Tell whether all texts in a value have the forms that the value's type declares."""
    return next(problems("", hint, value), None) is None


def _problem_of(text: str, forms: Iterable[Form]) -> str | None:
    """Return why a text is not valid, ``None`` if it is valid.

    + forms: a valid text has all of these forms
    """
    if "\0" in text:
        return "it contains a NUL, which no program accepts in an argument"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "it is not Unicode text"
    try:
        for form in forms:
            form.check(text)
    except ValueError as error:
        return str(error)
    return None


def _forms(hint: Any) -> list[Form]:
    """Return the forms that a type declares for its texts."""
    if get_origin(hint) is Annotated:
        return [item for item in get_args(hint)[1:] if isinstance(item, Form)]
    if get_origin(hint) in (Union, UnionType):
        return [form for each in get_args(hint) for form in _forms(each)]
    return []


def _takes_several(hint: Any) -> bool:
    """Tell whether a type is for several values, such as ``Iterable[str]``."""
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Iterable)


def _arguments(hint: Any, kind: type) -> tuple[Any, ...]:
    """Return the types in a type's brackets, () if the type is not a subclass of `kind`.

    **Example:** ``_arguments(Mapping[str, int], Mapping) == (str, int)``
    """
    if get_origin(hint) in (Union, UnionType):
        return next(filter(None, (_arguments(each, kind) for each in get_args(hint))), ())
    origin = get_origin(hint)
    return get_args(hint) if isinstance(origin, type) and issubclass(origin, kind) else ()


@cache
def _hints(of: Any) -> dict[str, Any]:
    """Return the annotations of a function or class, by name."""
    try:
        return get_type_hints(of, include_extras=True)
    except (NameError, TypeError):  # an annotation that only type checkers can resolve
        return {}


def shown(value: object, length: int = 80) -> str:
    """Return a value's repr for a message.

    + length: the maximum number of characters. A longer repr is shortened to its beginning, ``...``
      and its last character
    """
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 4]}...{text[-1]}"


def memory_bytes(size: str) -> int:
    """Return the number of bytes of a `MemorySize`: ``memory_bytes("64M") == 67108864``."""
    return int(size[:-1]) << 10 * (1 + "KMG".index(size[-1]))
