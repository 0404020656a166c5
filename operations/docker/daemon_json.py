"""Merge options into daemon.json, and find options that keep Docker or pods from starting."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.text import setting
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

# Options of the log driver json-file
_LOG_OPTS = (
    *("max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"),
    *("mode", "max-buffer-size"),
)


# What Go's strconv.ParseBool reads
_GO_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_GO_FALSE = ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True)
class Options:
    """The options that this package sets in daemon.json.

    + log_max_size: size at which a container's log file is rotated, such as ``"10m"``
    + log_max_file: how many log files a container may have
    + data_root: folder of images, containers and their logs; ``None`` keeps the file's value
    + live_restore: whether containers keep running while Docker restarts; ``None`` keeps the file's
      value
    """

    log_max_size: LogSize
    log_max_file: int
    data_root: Folder | None = None
    live_restore: bool | None = None


_KEYS = (
    *("exec-opts", "log-driver", "log-opts", "storage-driver", "storage-opts"),
    *("data-root", "live-restore"),
)
"""The keys that `merge` may change."""


def merge(found: bytes | None, options: Options) -> bytes:
    """Set options in daemon.json, keep the other keys, and return the new content.

    + found: the file's content on the node, ``None`` if there is no file
    + options: the options to set

    If the file already has all options, `found` is returned unchanged. Options of another log
    driver or storage driver are removed. Raises `NodeError` if `found` is not a JSON object, or if
    exec-opts, log-opts or storage-opts has a value of the wrong type.
    """
    config = parse(found)
    exec_opts, log_opts = _value(config, "exec-opts", list), _value(config, "log-opts", dict)
    storage_opts = _value(config, "storage-opts", list)
    if config.get("log-driver", "json-file") != "json-file":
        log_opts = {}  # options of another log driver
    log_opts = {
        **log_opts,
        "max-size": options.log_max_size,
        "max-file": str(options.log_max_file),
    }
    if not all(isinstance(value, str) for value in log_opts.values()):
        raise NodeError(f"{CONFIG}: each value in log-opts has to be a string; fix it by hand")
    merged = {
        **config,
        "exec-opts": [
            *(option for option in exec_opts if _name(option) != "native.cgroupdriver"),
            "native.cgroupdriver=systemd",
        ],
        "log-driver": "json-file",
        "log-opts": log_opts,
        # Without a named driver, Docker 29 would use its new image store, where cri-dockerd cannot
        # account for images
        "storage-driver": DRIVER,
    }
    if storage_opts:  # overlay2 does not start with another driver's options: "unknown option"
        kept = [option for option in storage_opts if _name(option).startswith(f"{DRIVER}.")]
        merged["storage-opts"] = kept
    if options.data_root is not None:
        merged["data-root"] = options.data_root
    if options.live_restore is not None:
        merged["live-restore"] = options.live_restore
    if found and merged == config and not found.startswith(BOM_UTF8):
        return found
    return _dump(merged)


def _value(config: Mapping[str, Any], key: str, kind: type[list[Any] | dict[str, Any]]) -> Any:
    """Return the list or dictionary under a key of daemon.json.

    If the key is not set, the result is empty.

    + kind: the expected type of the value

    Raises `NodeError` if the value has another type.
    """
    value = config.get(key)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        what = "a list" if kind is list else "an object"
        raise NodeError(f"{CONFIG}: {key} is not {what}; fix it by hand")
    return value


def _dump(config: Mapping[str, Any]) -> bytes:
    """Return the content of a daemon.json with these keys and values."""
    text = json.dumps(config, indent=2, ensure_ascii=False)
    # A JSON string may contain a lone surrogate, which UTF-8 cannot encode. It is written as an
    # escape
    return text.encode(errors="backslashreplace") + b"\n"


def _name(option: object) -> str:
    """Return the name in an option ``name=value``, in lower case, as Docker compares names."""
    return str(option).partition("=")[0].strip().lower()


def contradictions(config: Mapping[str, Any], flags: Mapping[str, str]) -> list[str]:
    """Return a message for each option that Docker accepts, but that breaks Kubernetes.

    An option also gets a message if it breaks an option that this package sets.

    + config: the keys of the merged daemon.json, with their values
    + flags: the options on dockerd's command line, each with the file that sets the option
    """
    found = []
    features = config.get("features")
    place = flags.get("--feature containerd-snapshotter")
    if isinstance(features, dict) and features.get("containerd-snapshotter"):
        place = CONFIG
    if place:
        found.append(
            f"{place} turns on the feature containerd-snapshotter. With this feature, Docker "
            f"cannot pull images for the storage driver {DRIVER} (moby/moby#46254), and "
            "cri-dockerd cannot tell how much space images take; remove the feature, and pull the "
            "images in containerd's image store again"
        )
    place = flags.get("--userns-remap", CONFIG if config.get("userns-remap") else "")
    if place:
        found.append(
            f"{place} sets userns-remap. With this option, containers on the host's network do not "
            "start, such as the containers of Kubernetes' control plane; remove userns-remap"
        )
    parent = config.get("cgroup-parent") or ""
    if parent and not re.fullmatch(r".+\.slice", str(parent)):
        found.append(
            f"{CONFIG} sets cgroup-parent to {parent}, but Docker's cgroup driver is systemd, "
            "which needs a name that ends with .slice; change or remove cgroup-parent"
        )
    found += _unusable_log_opts(config)
    return found


def _unusable_log_opts(config: Mapping[str, Any]) -> list[str]:
    """Return a message for each log option with which Docker starts, but no container.

    Docker looks at these values only when it makes a container. Seen with Docker 26.1.5 (Debian).
    """
    log_opts = _value(config, "log-opts", dict)
    compress = log_opts.get("compress", "false")
    if compress not in _GO_TRUE + _GO_FALSE:
        return [
            f"{CONFIG} sets compress in log-opts to {compress!r}, with which no container starts; "
            'write "true" or "false", or remove compress'
        ]
    if compress in _GO_TRUE and log_opts.get("max-file") == "1":
        return [
            f"{CONFIG} sets compress in log-opts, but no container starts with compress and a "
            f"single log file; remove compress, or set {setting('docker_log_max_file')} to at "
            "least 2"
        ]
    return []


def conflicts(config: Mapping[str, Any], flags: Mapping[str, str]) -> list[str]:
    """Return a message for each key of daemon.json that a flag of dockerd sets too.

    dockerd refuses to start if both set the same option.

    + config, flags: as `contradictions` takes them
    """
    clashes = []
    for flag, place in flags.items():
        name = _NAMES.get(flag, flag.lstrip("-"))
        for key in (name, f"{name}s", f"{name[:-1]}ies"):
            if key in config:
                # If the place is not a path, the package's own unit has the flag. Nobody edits this
                # unit
                way_out = "remove the flag" if place.startswith("/") else f"remove {key}"
                clashes.append(
                    f"{flag} in {place} and {key} in {CONFIG} are the same option; {way_out}"
                )
    return clashes


def refusals(config: Mapping[str, Any], docker: int | None = None) -> list[str]:
    """Return a message for each option with which Docker would not start.

    + config: the keys of the merged daemon.json, with their values
    + docker: the major release of the installed Docker, ``None`` if Docker is not installed

    ``dockerd --validate`` does not refuse these options. It says "configuration OK", as tried with
    Docker 26.1.5 (Debian) and 29.7.2.
    """
    found = []
    for option in _value(config, "storage-opts", list):
        name = _name(option)
        removed = name == f"{DRIVER}.override_kernel_check" and (docker is None or docker >= 24)
        if removed or not name.startswith(f"{DRIVER}."):
            found.append(f"storage-opts has {option}, which {DRIVER} does not know; remove it")
    for name in config.get("log-opts") or ():
        if name not in _LOG_OPTS and not name.startswith("cache-"):
            found.append(f"log-opts has {name}, which json-file does not know; remove it")
    runtime, runtimes = config.get("default-runtime"), config.get("runtimes")
    known = ("runc", *(runtimes if isinstance(runtimes, dict) else ()))
    if isinstance(runtime, str) and re.fullmatch(r"[\w-]+", runtime) and runtime not in known:
        found.append(
            f"default-runtime is {runtime}, but the key runtimes has no {runtime}; add {runtime} "
            "there, or remove default-runtime"
        )
    for key in ("bip", "bip6"):
        if config.get("bridge") and config.get(key):
            found.append(f"bridge and {key} exclude each other; remove one of them")
    if config.get("icc") is False and config.get("iptables") is False:
        found.append(
            "icc and iptables are both false, but Docker needs iptables if icc is false; remove "
            "one of them"
        )
    return [f"{CONFIG}: {problem}" for problem in found]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value")


def parse(found: bytes | None) -> dict[str, Any]:
    """Return the JSON object in daemon.json, {} if the file is empty or missing.

    + found: the file's content, ``None`` if there is no file

    Raises `NodeError` if the content is not a JSON object.
    """
    if not found or not found.strip():
        return {}
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
    """Undo this package's changes in daemon.json, keep other changes, and return the new content.

    + current: the content now
    + original: the content before this package's first change, empty if there was no file
    + written: the content that this package wrote last

    If `original` is empty and no key is left, returns ``None``. The caller has to remove the file.
    """
    now, before, then = (parse(data) for data in (current, original, written))
    # Others may have added keys after `original`, and `written` has these keys too. So only the
    # keys in `_KEYS` are compared
    before_ours, then_ours = ({k: c[k] for k in _KEYS if k in c} for c in (before, then))
    rest = _changed_back(now, before_ours, then_ours)
    if rest == now:
        return current
    if not original and not rest:
        return None
    if original and rest == before:
        return original
    return _dump(rest)


def _changed_back(
    now: Mapping[str, Any], before: Mapping[str, Any], then: Mapping[str, Any]
) -> dict[str, Any]:
    """Return `now` without the changes that this package made.

    This package changed each key whose value differs between `before` and `then`:

    - If the key's value in `now` is the value in `then`, the key gets its value in `before` again.
      If `before` lacks the key, the key is removed.
    - If the key has another value in `now`, somebody else has changed the key. This other value
      stays. In an object or a list, this package's changes of items are undone.
    """
    rest = dict(now)
    for key in {**before, **then}:
        was, ours, found = before.get(key), then.get(key), now.get(key)
        if was == ours:
            continue
        if isinstance(ours, dict) and isinstance(found, dict) and found != ours:
            restored: Any = _changed_back(found, was if isinstance(was, dict) else {}, ours)
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
