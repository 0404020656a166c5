"""Check the keys of daemon.json on a node where Docker cannot check the file itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from chaos_engine.operations.docker.daemon_json import CONFIG


def invalid_keys(config: Mapping[str, Any]) -> list[str]:
    """Return a message for each key or value in daemon.json that dockerd would not accept.

    The function finds keys that no Docker from 20.10 to 29 knows
    (https://docs.docker.com/reference/cli/dockerd/), and values of the wrong type. ``null`` counts
    as not set. This check is for nodes where Docker is not installed yet, or is older than 23 and
    has no ``dockerd --validate``. With an invalid file, Docker would fail at each start, and
    systemd would restart it again and again.
    """
    found = []
    for key, value in config.items():
        if key not in KINDS:
            near = get_close_matches(key, [k for k in KINDS if KINDS[k] != _IGNORED], 1)
            hint = f" (is {near[0]} meant?)" if near else ""
            found.append(f"{CONFIG} has {key}, which Docker does not know{hint}; remove it")
        elif value is not None and not _ACCEPTS[KINDS[key]](value):
            found.append(f"{CONFIG}: {key} has to be {KINDS[key]}; fix it by hand")
    return found


def _list_of(kind: type) -> Callable[[object], bool]:
    """Return a function that tells whether a value is a list with items of this type."""
    return lambda value: isinstance(value, list) and all(_is(one, kind) for one in value)


def _object_of(kind: type) -> Callable[[object], bool]:
    """Return a function that tells whether a value is an object with values of this type."""
    return lambda value: isinstance(value, dict) and all(_is(one, kind) for one in value.values())


def _is(value: object, kind: type) -> bool:
    """Tell whether Go's JSON decoder accepts a value for a type. ``null`` fits every type."""
    return value is None or isinstance(value, kind)


_IGNORED = "anything but an object"

# dockerd refuses other keys in this object (daemon/config, findConfigurationConflicts)
_PROXIES = "an object with no other keys than http-proxy, https-proxy and no-proxy"
_PROXY_KEYS = {"http-proxy", "https-proxy", "no-proxy"}

_ACCEPTS: dict[str, Callable[[object], bool]] = {
    "a text": lambda value: isinstance(value, str),
    "true or false": lambda value: isinstance(value, bool),
    "a number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "a list of texts": _list_of(str),
    "a list of objects": _list_of(dict),
    "an object": lambda value: isinstance(value, dict),
    "an object of objects": _object_of(dict),
    "an object of texts": _object_of(str),
    "an object of true and false": _object_of(bool),
    _PROXIES: lambda value: (
        isinstance(value, dict) and _PROXY_KEYS.issuperset(value) and _object_of(str)(value)
    ),
    _IGNORED: lambda value: not value or not isinstance(value, dict),
}

_NAMES = {
    "a text": """api-cors-header bip bip6 bridge bridge-accept-fwmark cgroup-parent
        cluster-advertise cluster-store containerd containerd-namespace
        data-root default-cgroupns-mode default-gateway
        default-gateway-v6 default-ipc-mode default-runtime default-shm-size exec-root
        firewall-backend fixed-cidr fixed-cidr-v6 group host-gateway-ip
        init-path ip log-driver log-format log-level metrics-addr min-api-version pidfile
        seccomp-profile storage-driver swarm-default-advertise-addr tlscacert tlscert tlskey
        userland-proxy-path userns-remap""",
    "true or false": """allow-direct-routing cri-containerd debug experimental icc init ip-forward
        ip-forward-no-drop ip-masq ip6tables iptables ipv6 live-restore no-new-privileges raw-logs
        rootless selinux-enabled tls tlsverify userland-proxy""",
    "a number": """cpu-rt-period cpu-rt-runtime max-concurrent-downloads max-concurrent-uploads
        max-download-attempts mtu network-control-plane-mtu network-diagnostic-port
        oom-score-adjust shutdown-timeout""",
    "a list of texts": """allow-nondistributable-artifacts authorization-plugins cdi-spec-dirs dns
        dns-opts dns-search exec-opts hosts host-gateway-ips insecure-registries labels
        node-generic-resources registry-mirrors storage-opts""",
    "an object": "builder nri-opts",
    _PROXIES: "proxies",
    "an object of objects": "default-network-opts default-ulimits runtimes",
    "an object of texts": "cluster-store-opts log-opts",
    "an object of true and false": "features",
    # names of dockerd's flags that daemon.json has no keys for: Docker ignores them silently
    _IGNORED: """add-runtime authorization-plugin cdi-spec-dir cluster-store-opt config-file
        containerd-plugins-namespace default-address-pool default-network-opt default-ulimit dns-opt
        exec-opt feature help host http-proxy https-proxy insecure-registry label log-opt
        no-proxy node-generic-resource registry-mirror storage-opt validate version""",
    "a list of objects": "default-address-pools",
}
KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
