"""Load kernel modules and set kernel parameters, now and at each boot."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from chaos_engine.facts import sysctl
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.facts.suspects import Search
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import FileStem, KernelModule, SysctlName, SysctlValue
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.repairs import Repair, literal
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File


def sysctl_file(stem: str) -> str:
    """Return the path of the file from which systemd sets kernel parameters at boot."""
    return f"/etc/sysctl.d/99-{stem}.conf"


def reads(stem: str, modules: Iterable[str], sysctls: Mapping[str, str]) -> list[Read]:
    """Return the facts that `set_kernel_parameters` reads when called with these arguments."""
    return [
        Read.of(sysctl.KernelModules, names=tuple(modules)),
        Read.of(sysctl.Sysctls, names=tuple(sysctls)),
        *files.reads(render(stem, modules, sysctls)),
    ]


@converge(reads=reads)
def set_kernel_parameters(
    stem: FileStem, modules: Iterable[KernelModule], sysctls: Mapping[SysctlName, SysctlValue]
) -> Commands:
    """Load kernel modules and set kernel parameters, now and at each boot.

    + stem: part of the names of the two files ``/etc/modules-load.d/STEM.conf`` and
      ``/etc/sysctl.d/99-STEM.conf``
    + modules: names as the kernel writes them. Modules are loaded first, because some parameters
      exist only with their module. Without modules, the first file is not written
    + sysctls: the value of each parameter, by the parameter's name with dots

    A parameter that somebody changed by hand is set again. Raises `NodeError` if the running kernel
    lacks a module. Also raises `NodeError` if another file sets a parameter to another value at
    boot, and systemd reads this file after ``99-STEM.conf``.

    **Example:** ``set_kernel_parameters("kubernetes", [], {"net.ipv4.ip_forward": "1"})``
    """
    modules = tuple(modules)
    states = observe(sysctl.KernelModules, names=modules)
    found = observe(sysctl.Sysctls, names=tuple(sysctls))
    check_lasting(stem, states, sysctls, found)
    load = [name for name in modules if states[name] != "loaded"]
    wrong = [name for name, value in sysctls.items() if found[name].live != value]
    written = render(stem, modules, sysctls)
    todo = files.decide(written)
    repairs = [repair(stem, name, sysctls[name], found[name]) for name in wrong if not todo]
    # If files change, the reasons do not name the present values. These may change before the
    # script runs: Docker sets some of them too, and an earlier operation may install Docker
    if not todo:
        because(*listed("load the kernel module", load))
        because(*(f"set {name} = {sysctls[name]} (it is {found[name].live})" for name in wrong))
    yield from files.transaction(
        todo,
        before=compose_notes(load, sysctls),
        apply=compose(sysctls),
        noop=f"{stem}'s kernel parameters: as wanted",
        force=bool(load or wrong),
        repairs=repairs,
    )


def repair(stem: str, name: str, value: str, found: sysctl.Sysctl) -> Repair:
    """Return the `Repair` for a parameter that this run sets. This is a pure function.

    + stem: the same as for `set_kernel_parameters`
    + name, value: the parameter's name, and the value to set
    + found: the parameter's present value, and the files that set the parameter at boot

    `Repair.suspects` lists the files that set the parameter to another value. A program may have
    changed the parameter by applying one of these files.
    """
    keys = "|".join(literal(key).replace("/", "[./]") for key in sysctl.aliases(name))
    given = rf"[\"']?{literal(value)}[\"']?"
    innocent = rf"=[[:space:]]*{given}([^a-zA-Z0-9]|$)|echo[[:space:]]+{given}[[:space:]]*>"
    others = (
        (one.file, f"{sysctl.dotted(one.key)} = {one.value}")
        for one in found.boot
        if one.file != sysctl_file(stem)
        and one.value.split() != value.split()
        and not one.key.startswith("-")
    )
    return Repair(
        thing=name,
        wanted=value,
        kind="sysctl",
        name=sysctl.slashed(name),
        search=Search(name, rf"({keys})([^a-zA-Z0-9_./-]|$)", innocent),
        suspects=tuple(f"{file}, which sets {line} (remove that line)" for file, line in others),
    )


def render(stem: str, modules: Iterable[str], sysctls: Mapping[str, str]) -> list[File]:
    """Return the file that lists the modules, and the file that sets the parameters.

    Without modules, only the second file is returned.
    """
    head = "# Written by chaos-engine\n"
    names = "".join(f"{name}\n" for name in modules)
    return [
        *([File(f"/etc/modules-load.d/{stem}.conf", head + names)] if names else []),
        File(sysctl_file(stem), head + "".join(f"{k} = {v}\n" for k, v in sysctls.items())),
    ]


def check_lasting(
    stem: str,
    states: Mapping[str, sysctl.ModuleState],
    sysctls: Mapping[str, str],
    found: Mapping[str, sysctl.Sysctl],
) -> None:
    """Raise `NodeError` if a module is missing, or if another file overrides a parameter at boot.

    + stem, sysctls: the same as for `set_kernel_parameters`
    + states: the state of each module, by the module's name
    + found: each parameter's present value and the files that set it at boot, by the parameter's
      name

    This is a pure function.
    """
    missing = [name for name, state in states.items() if state == "missing"]
    if missing:
        raise NodeError(
            f"the running kernel has no module {', '.join(missing)}. If the kernel was upgraded "
            "since the last boot, reboot the node. If not, install the kernel's extra modules; on "
            "older Ubuntu for the Raspberry Pi, they are in linux-modules-extra-raspi"
        )
    ours = sysctl_file(stem)
    own = [sysctl.BootSetting(ours, sysctl.slashed(key), value) for key, value in sysctls.items()]
    for name, value in sysctls.items():
        # systemd ignores files of the same name in other folders: /etc has precedence
        others = [one for one in found[name].boot if _file_name(one) != _file_name(own[0])]
        # sysctl.d(5): files of all folders apply in the order of their names
        last = sysctl.last_at_boot(name, sorted([*others, *own], key=_file_name))
        if last and last.file != ours and last.value.split() != value.split():
            raise NodeError(
                f"{last.file} sets {sysctl.dotted(last.key)} = {last.value} at each boot, and so "
                f"overrides the value {value} in {ours}; remove the line from {last.file}"
            )


def _file_name(setting: sysctl.BootSetting) -> bytes:
    """Return the name of the file that sets the parameter, without the folder."""
    return os.fsencode(setting.file.rpartition("/")[2])


def compose_notes(load: Iterable[str], sysctls: Iterable[str]) -> str:
    """Return the shell script that loads modules, and notes the parameters' values for undo.

    The values are noted before the file is written. If the power is cut in between, systemd sets
    the parameters at boot, and the next run could not tell their values from the wanted ones.
    """
    lines = [
        f"modprobe -- {quote(name)} || {{ echo {quote(name)} cannot be loaded >&2; exit 1; }}"
        for name in load
    ]
    return "\n".join([*lines, *(f"sysctl_was {quote(sysctl.slashed(name))}" for name in sysctls)])


def compose(sysctls: Mapping[str, str]) -> str:
    """Return the shell script that sets parameters, and reads each value back."""
    lines = []
    for name, value in sysctls.items():
        lines += [
            f"printf '%s\\n' {quote(value)} > {quote(sysctl.path(name))}",
            f'[ "$(cat {quote(sysctl.path(name))})" = {quote(value)} ] || '
            f"{{ echo {quote(f'{name} does not become {value}')} >&2; exit 1; }}",
        ]
    return "\n".join(lines)
