"""Merge Docker's configuration file, and find in it what Docker or Kubernetes cannot work with."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chaos_engine.facts.observe import NodeError
from chaos_engine.operations.engine.arguments import Folder, LogSize

CONFIG = "/etc/docker/daemon.json"
DRIVER = "overlay2"

# Flags that have another name in daemon.json
_NAMES = {
    "-H": "hosts",
    "-s": "storage-driver",
    "-g": "data-root",
    "--graph": "data-root",
    "-D": "debug",
    "-l": "log-level",
    "-G": "group",
    "-b": "bridge",
}

_LOG_OPTS = (
    *("max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"),
    *("mode", "max-buffer-size"),
)


@dataclass(frozen=True)
class Options:
    """The options that daemon.json shall have.

    + log_max_size: size at which a container's log file is rotated, ``"10m"``
    + log_max_file: how many such files a container may have
    + data_root: folder of images, containers and their logs; ``None`` keeps what the file says
    + live_restore: whether containers go on while Docker restarts; ``None`` keeps what the file
      says
    """

    log_max_size: LogSize
    log_max_file: int
    data_root: Folder | None = None
    live_restore: bool | None = None


def merge(found: bytes | None, options: Options) -> bytes:
    """Return the content of daemon.json with these options set, and all other keys kept.

    + found: the content that is there, ``None`` if there is no file. It is returned byte for byte
      if it says the same already

    Raises `NodeError` if what was found is not a JSON object.
    """
    config = parse(found) if found and found.strip() else {}
    exec_opts = _given(config, "exec-opts", [])
    log_opts = _given(config, "log-opts", {})
    storage_opts = _given(config, "storage-opts", [])
    if not isinstance(exec_opts, list) or not isinstance(log_opts, dict):
        raise NodeError(
            f"{CONFIG}: exec-opts is not a list or log-opts is not an object; fix it by hand"
        )
    if not isinstance(storage_opts, list):
        raise NodeError(f"{CONFIG}: storage-opts is not a list; fix it by hand")
    if config.get("log-driver", "json-file") != "json-file":
        log_opts = {}  # options of another log driver
    log_opts = {
        **log_opts,
        "max-size": options.log_max_size,
        "max-file": str(options.log_max_file),
    }
    if not all(isinstance(value, str) for value in log_opts.values()):
        raise NodeError(f"{CONFIG}: Docker takes strings only in log-opts; fix it by hand")
    merged = {
        **config,
        "exec-opts": [
            *(option for option in exec_opts if _name(option) != "native.cgroupdriver"),
            "native.cgroupdriver=systemd",
        ],
        "log-driver": "json-file",
        "log-opts": log_opts,
        # Named, it keeps Docker 29 from its new image store: cri-dockerd cannot account for that
        "storage-driver": DRIVER,
    }
    if storage_opts:  # with another driver's options overlay2 does not start: "unknown option"
        kept = [option for option in storage_opts if _name(option).startswith(f"{DRIVER}.")]
        merged["storage-opts"] = kept
    if options.data_root is not None:
        merged["data-root"] = options.data_root
    if options.live_restore is not None:
        merged["live-restore"] = options.live_restore
    if found and merged == config and not found.startswith(BOM_UTF8):
        return found
    text = json.dumps(merged, indent=2, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # lone surrogates, which JSON can hold as escapes
        return json.dumps(merged, indent=2).encode() + b"\n"


def _given(config: Mapping[str, Any], key: str, default: Any) -> Any:
    value = config.get(key)
    return default if value is None else value


def _name(option: object) -> str:
    """Return the name in ``name=value``, as Docker compares it."""
    return str(option).partition("=")[0].strip().lower()


def contradictions(config: Mapping[str, Any], flags: Mapping[str, str]) -> list[str]:
    """Say what Docker accepts, but Kubernetes or our own options do not work with.

    + config: what daemon.json shall say
    + flags: options of dockerd's command line, each with the file that has it
    """
    found = []
    features = config.get("features")
    place = flags.get("--feature containerd-snapshotter")
    if isinstance(features, dict) and features.get("containerd-snapshotter"):
        place = CONFIG
    if place:
        found.append(
            f"{place} switches on the feature containerd-snapshotter, with which Docker pulls no "
            f"image onto {DRIVER} (moby/moby#46254) and cri-dockerd cannot account for images; "
            "take it out, images that are kept there are then pulled anew"
        )
    place = flags.get("--userns-remap", CONFIG if config.get("userns-remap") else "")
    if place:
        found.append(
            f"{place} has userns-remap, with which no pod or container on the host's network "
            "starts, as those of Kubernetes' control plane are; take it out"
        )
    parent = config.get("cgroup-parent") or ""
    if parent and not re.fullmatch(r".+\.slice", str(parent)):
        found.append(
            f"{CONFIG} has the cgroup-parent {parent}, but with the cgroup driver systemd Docker "
            "takes names only that end with .slice; change it or take it out"
        )
    return found


def conflicts(config: Mapping[str, Any], flags: Mapping[str, str]) -> list[str]:
    """Say which keys of daemon.json are also set by flags; dockerd refuses to start with both.

    + config, flags: as `contradictions` takes them
    """
    clashes = []
    for flag, place in flags.items():
        name = _NAMES.get(flag, flag.lstrip("-"))
        for key in (name, f"{name}s", f"{name[:-1]}ies"):
            if key in config:
                # a place that is not a path is the package's unit, which nobody edits
                way_out = "remove the flag" if place.startswith("/") else f"take {key} out"
                clashes.append(
                    f"{flag} in {place} and {key} in {CONFIG} are the same option; {way_out}"
                )
    return clashes


def refusals(config: Mapping[str, Any], docker: int | None = None) -> list[str]:
    """Say what Docker refuses at its start in a merged daemon.json: a pure function.

    + docker: the major release of the Docker that is installed, ``None`` if none is

    ``dockerd --validate`` does not find these: it says "configuration OK". Tried with Docker 26.1.5
    (Debian) and 29.7.2.
    """
    return [f"{CONFIG}: {problem}" for problem in _refusals(config, docker)]


def _refusals(config: Mapping[str, Any], docker: int | None) -> Iterator[str]:
    for option in _list(config.get("storage-opts")):
        name = option.partition("=")[0].strip().lower()
        gone = name == "overlay2.override_kernel_check" and (docker is None or docker >= 24)
        if gone or not name.startswith("overlay2."):
            yield f"storage-opts has {option}, which {DRIVER} does not know; remove it"
    for name in config.get("log-opts") or ():
        if name not in _LOG_OPTS and not name.startswith("cache-"):
            yield f"log-opts has {name}, which json-file does not know; remove it"
    runtime, runtimes = config.get("default-runtime"), config.get("runtimes")
    if (
        isinstance(runtime, str)
        and re.fullmatch(r"[\w-]+", runtime)
        and runtime not in ("runc", *(runtimes if isinstance(runtimes, dict) else ()))
    ):
        yield f"default-runtime is {runtime}, which is not among the runtimes; remove it or add it"
    for one, other in (("bridge", "bip"), ("bridge", "bip6")):
        if config.get(one) and config.get(other):
            yield f"{one} and {other} exclude each other; remove one of them"
    if config.get("icc") is False and config.get("iptables") is False:
        yield "icc is false, for which Docker needs iptables, and iptables is false; remove one"


def _list(found: Any) -> list[str]:
    return [str(one) for one in found] if isinstance(found, list) else []


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value")


def parse(found: bytes) -> dict[str, Any]:
    """Return the object in the file. Raises `NodeError` if it is not a JSON object."""
    try:
        config = json.loads(found, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise NodeError(
            f"{CONFIG} is not JSON: {error}; fix it, or move it away to start anew"
        ) from None
    if not isinstance(config, dict):
        raise NodeError(f"{CONFIG} is not a JSON object; fix it, or move it away to start anew")
    return config


def without_options(current: bytes, original: bytes, written: bytes) -> bytes | None:
    """Return a daemon.json with our changes undone, and those of others kept.

    + current: the file as it is now
    + original: as it was before the first change, empty if there was none
    + written: as this package wrote it last

    Returns ``None`` for no file: there was none before, and no key is left.
    """
    now, before, then = (
        parse(data) if data and data.strip() else {} for data in (current, original, written)
    )
    rest = _options(now, before, then)
    if rest == now:
        return current
    if not original and not rest:
        return None
    return json.dumps(rest, indent=2, ensure_ascii=False).encode() + b"\n"


def _options(
    now: Mapping[str, Any], before: Mapping[str, Any], then: Mapping[str, Any]
) -> dict[str, Any]:
    """Return `now` with each key that changed from `before` to `then` changed back.

    A key that has a third value by now belongs to somebody else, and stays.
    """
    rest = dict(now)
    for key in {**before, **then}:
        was, ours, found = before.get(key), then.get(key), now.get(key)
        if was == ours:
            continue
        if isinstance(ours, dict) and isinstance(found, dict) and found != ours:
            restored: Any = _options(found, was if isinstance(was, dict) else {}, ours)
        elif isinstance(ours, list) and isinstance(found, list) and found != ours:
            old = was if isinstance(was, list) else []
            restored = [x for x in found if x not in ours or x in old]
            restored += [x for x in old if x not in ours and x not in restored]
        elif found == ours:
            restored = was
        else:
            continue
        if key in before or restored:
            rest[key] = restored
        else:
            rest.pop(key, None)
    return rest
