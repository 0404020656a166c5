"""kubeadm's configuration files: read, decoded strictly, checked, completed by defaults."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from . import node, release, schema
from .node import Fatal

Document = dict[str, Any]

_KUBELET = ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration")
_OLD = re.compile(r"kubeadm\.k8s\.io/(v1alpha[0-9]|v1beta[12])")
_TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_INVALID = 3
"""kubeadm's exit status for a configuration that does not pass the checks of its fields."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, as sigs.k8s.io/yaml does; times stay texts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise Fatal(
                    "error converting YAML to JSON: yaml: unmarshal errors:\n"
                    f'  line {line}: key "{name}" already set in map'
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: str, *, strict: bool) -> dict[str, Document]:
    """Return the documents of a file by kind.

    Unknown fields and wrong types are fatal if STRICT (``kubeadm config validate``), else there is
    a warning for unknown fields, as in ``init`` and ``join``.
    """
    documents: dict[str, Document] = {}
    unknown = []
    for content in _read(path):
        api, kind = content.get("apiVersion"), content.get("kind")
        if not api or not kind:
            raise Fatal(
                f"invalid configuration for GroupVersionKind {_group(api)}, Kind={kind or ''}: "
                "kind and apiVersion is mandatory information that must be specified"
            )
        if kind in documents:
            raise Fatal(f'invalid configuration: kind "{kind}" is specified twice in YAML file')
        if _OLD.fullmatch(str(api)):
            raise Fatal(
                f'your configuration file uses an old API spec: "{api}" (kind: "{kind}"). Please '
                "use an older kubeadm and run 'kubeadm config migrate --old-config old-config-file "
                "--new-config new-config-file', which will write the new, similar spec using a "
                "newer API version."
            )
        if not _is_known(str(api), str(kind)):
            unknown.append(_go(str(api), str(kind)))
        documents[str(kind)] = content
    if unknown:
        raise Fatal(
            f"unknown configuration APIs: []schema.GroupVersionKind{{{', '.join(unknown)}}}"
        )
    for kind, content in documents.items():
        _decode(str(content["apiVersion"]), kind, content, strict=strict)
    return documents


def _read(path: str) -> list[Document]:
    try:
        text = Path(path).read_text()
    except OSError as error:
        why = str(error.strerror).lower()
        raise Fatal(f'unable to read config from "{path}" : open {path}: {why}') from None
    try:
        found = [each for each in yaml.load_all(text, _Loader) if each is not None]
    except yaml.YAMLError as error:
        raise Fatal(f"error converting YAML to JSON: yaml: {error}") from None
    for each in found:
        if not isinstance(each, dict):
            raise Fatal("couldn't get version/kind; json parse error: json: cannot unmarshal")
    return found


def _is_known(api: str, kind: str) -> bool:
    if api == "kubeadm.k8s.io/v1beta4" and release.MINOR < 31:
        if release.MINOR >= 28:
            raise Fatal(
                f'experimental API spec: "{api}" is not allowed. You can use the '
                "--allow-experimental-api flag if the command supports it."
            )
        return False
    return (api, kind) in schema.KINDS


def _decode(api: str, kind: str, content: Document, *, strict: bool) -> None:
    if api in release.DEPRECATED:
        node.warn(
            f'your configuration file uses a deprecated API spec: "{api}" (kind: "{kind}"). Please '
            "use 'kubeadm config migrate --old-config old-config-file --new-config "
            "new-config-file', which will write the new, similar spec using a newer API version."
        )
    fields = schema.KINDS[api, kind]
    where = f"error unmarshaling configuration {_go(api, kind)}: "
    try:
        schema.check_types(kind, content, fields)
    except schema.WrongType as error:
        raise Fatal(f"{where if strict else ''}{error}") from None
    lost = schema.unknown_fields(content, fields)
    if lost:
        text = where + "strict decoding error: "
        text += ", ".join(f'unknown field "{name}"' for name in lost)
        if strict:
            raise Fatal(text)
        node.warn(text)


def _group(api: object) -> str:
    group, _, version = str(api or "").rpartition("/")
    return f"{group}/{version}"


def _go(api: str, kind: str) -> str:
    group, _, version = api.rpartition("/")
    values = f'Group:"{group}", Version:"{version}", Kind:"{kind}"'
    return f"schema.GroupVersionKind{{{values}}}"


class Problems:
    """Collects what is wrong with fields, as ``field.ErrorList`` does."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def invalid(self, field: str, value: object, why: str) -> None:
        shown = f'"{value}"' if isinstance(value, str) else str(value)
        self.texts.append(f"{field}: Invalid value: {shown}: {why}")

    def required(self, field: str, why: str) -> None:
        self.texts.append(f"{field}: Required value: {why}")

    def settle(self) -> None:
        """Raise `Fatal` if there were any."""
        if self.texts:
            text = self.texts[0] if len(self.texts) == 1 else f"[{', '.join(self.texts)}]"
            raise Fatal(text, _INVALID)


def validate(path: str) -> None:
    """Do what ``kubeadm config validate`` does, without looking at the node."""
    documents = load(path, strict=True)
    if not documents:
        raise Fatal("no kind or apiVersion found")
    if documents.keys() & {"InitConfiguration", "ClusterConfiguration"}:
        initial(documents, detect=lambda: node.SOCKETS[0])
    if "JoinConfiguration" in documents:
        joining(documents["JoinConfiguration"], detect=lambda: node.SOCKETS[0])


def initial(
    documents: dict[str, Document], *, detect: Callable[[], str]
) -> tuple[Document, Document]:
    """Return InitConfiguration and ClusterConfiguration, checked, with defaults.

    DETECT gives the runtime's endpoint where none is set.
    """
    init = dict(documents.get("InitConfiguration") or {})
    cluster = dict(documents.get("ClusterConfiguration") or {})
    problems = Problems()
    init["nodeRegistration"] = _registration(init, problems, detect)
    init["localAPIEndpoint"] = _endpoint(init, "localAPIEndpoint", problems)
    for index, one in enumerate(init.get("bootstrapTokens") or []):
        _check_token(one.get("token"), f"bootstrapTokens.{index}.token", problems)
    _check_key(init.get("certificateKey"), "certificateKey", problems)
    _complete(cluster, problems)
    problems.settle()
    return init, cluster


def _complete(cluster: Document, problems: Problems) -> None:
    cluster.setdefault("kubernetesVersion", f"v{release.VERSION}")
    cluster.setdefault("certificatesDir", "/etc/kubernetes/pki")
    cluster.setdefault("clusterName", "kubernetes")
    cluster.setdefault("imageRepository", "registry.k8s.io")
    defaults = {"serviceSubnet": "10.96.0.0/12", "dnsDomain": "cluster.local"}
    cluster["networking"] = {**defaults, **(cluster.get("networking") or {})}
    check_version(str(cluster["kubernetesVersion"]))
    for name in ("serviceSubnet", "podSubnet"):
        subnet = cluster["networking"].get(name)
        if subnet:
            _check_subnet(f"networking.{name}", subnet, problems)
    endpoint = cluster.get("controlPlaneEndpoint")
    if endpoint:
        host, _, port = endpoint.rpartition(":") if ":" in endpoint else (endpoint, "", "6443")
        if not port.isdecimal() or not 0 < int(port) < 65536 or not _is_host(host):
            problems.invalid("controlPlaneEndpoint", endpoint, "hostport is not valid")
    for index, name in enumerate((cluster.get("apiServer") or {}).get("certSANs") or []):
        if not _is_host(name.removeprefix("*.")):
            why = "altname is not a valid IP address, DNS label or a DNS label with subdomain "
            problems.invalid(f"apiServer.certSANs[{index}]", name, f"{why}wildcards")
    _check_etcd(cluster, problems)


def check_version(text: str) -> None:
    """Refuse what is no version, and one that is too old for this kubeadm."""
    match = re.fullmatch(r"v?([0-9]+)\.([0-9]+)\.([0-9]+)([-+].*)?", text)
    if not match:
        raise Fatal(f'version "{text}" doesn\'t match patterns for neither semantic version nor '
                    "labels (stable, latest, ...)")  # fmt: skip
    if (int(match[1]), int(match[2])) < (release.MAJOR, release.MINOR - 1):
        raise Fatal(
            "this version of kubeadm only supports deploying clusters with the control plane "
            f"version >= {release.MAJOR}.{release.MINOR - 1}.0. Current version: {text}"
        )


def normal_version(text: str) -> str:
    """Return a version as v1.36.2; refuse what is none, and one that is too old."""
    check_version(text)
    return f"v{text.removeprefix('v')}"


def _check_subnet(field: str, subnet: str, problems: Problems) -> None:
    try:
        network = ip_network(subnet, strict=False)
    except ValueError:
        problems.invalid(field, subnet, "couldn't parse subnet")
        return
    if field.endswith("podSubnet") and network.version == 4 and network.prefixlen > 24:
        # Each node gets a /24 of it
        why = f"the size of pod subnet with mask {network.prefixlen} is smaller than the size of "
        problems.invalid(field, subnet, f"{why}node subnet with mask 24")


def _check_etcd(cluster: Document, problems: Problems) -> None:
    etcd = cluster.get("etcd") or {}
    if "local" in etcd and "external" in etcd:
        problems.invalid("etcd", "", ".Etcd.Local and .Etcd.External are mutually exclusive")
    external = etcd.get("external")
    if external is None:
        cluster["etcd"] = {"local": {"dataDir": "/var/lib/etcd", **(etcd.get("local") or {})}}
        return
    files = {name: external.get(name) or "" for name in ("caFile", "certFile", "keyFile")}
    if bool(files["certFile"]) != bool(files["keyFile"]):
        why = (
            "either both or none of .Etcd.External.CertFile and .Etcd.External.KeyFile must be set"
        )
        problems.invalid("etcd.external", "", why)
    elif files["certFile"] and not files["caFile"]:
        why = "setting .Etcd.External.CertFile and .Etcd.External.KeyFile requires "
        problems.invalid("etcd.external", "", f"{why}.Etcd.External.CAFile")
    for url in external.get("endpoints") or []:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            problems.invalid("etcd.external.endpoints", url, "not a valid URL")
        elif any(files.values()) and parts.scheme != "https":
            why = "the URL must be using the HTTPS scheme"
            problems.invalid("etcd.external.endpoints", url, why)
    for name, path in files.items():
        if path and not path.startswith("/"):
            problems.invalid(f"etcd.external.{name}", path, "path is not absolute")


def joining(join: Document | None, *, detect: Callable[[], str]) -> Document:
    """Return JoinConfiguration, checked, with defaults; DETECT as in `initial`."""
    join = dict(join or {})
    problems = Problems()
    join.setdefault("caCertPath", "/etc/kubernetes/pki/ca.crt")
    discovery = dict(join.get("discovery") or {})
    join["discovery"] = discovery
    token, file = discovery.get("bootstrapToken"), discovery.get("file")
    if token is None and file is None:
        problems.invalid("discovery", "", "bootstrapToken or file must be set")
    if token is not None and file is not None:
        problems.invalid("discovery", "", "bootstrapToken and file cannot both be set")
    if token is not None:
        discovery.setdefault("tlsBootstrapToken", token.get("token"))
        _check_discovery(token, problems)
        _check_token(discovery["tlsBootstrapToken"], "discovery.tlsBootstrapToken", problems)
    join["nodeRegistration"] = _registration(join, problems, detect)
    control = join.get("controlPlane")
    if control is not None:
        control = dict(control)
        control["localAPIEndpoint"] = _endpoint(
            control, "localAPIEndpoint", problems, at="controlPlane."
        )
        _check_key(control.get("certificateKey"), "controlPlane.certificateKey", problems)
        join["controlPlane"] = control
    problems.settle()
    return join


def _check_discovery(token: Document, problems: Problems) -> None:
    field = "discovery.bootstrapToken"
    endpoint = token.get("apiServerEndpoint") or ""
    if not endpoint:
        problems.required(field, "APIServerEndpoint is not set")
    if not token.get("caCertHashes") and not token.get("unsafeSkipCAVerification"):
        problems.invalid(
            f"{field}.caCertHashes",
            "",
            "using token-based discovery without caCertHashes can be unsafe. Set "
            "unsafeSkipCAVerification as true in your kubeadm config file or pass "
            "--discovery-token-unsafe-skip-ca-verification flag to continue",
        )
    _check_token(token.get("token"), f"{field}.token", problems)
    if ":" not in endpoint:
        why = (
            f"address {endpoint}: missing port in address"
            if endpoint
            else "missing port in address"
        )
        problems.invalid(f"{field}.apiServerEndpoint", endpoint, why)


def _registration(owner: Document, problems: Problems, detect: Callable[[], str]) -> Document:
    options = dict(owner.get("nodeRegistration") or {})
    name = str(options.get("name") or node.hostname())
    if not _NAME.fullmatch(name) or len(name) > 253:
        problems.invalid(
            "nodeRegistration.name",
            name,
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
            "'-' or '.', and must start and end with an alphanumeric character",
        )
    endpoint = str(options.get("criSocket") or detect())
    scheme, separator, path = endpoint.partition("://")
    if not separator and endpoint.startswith("/"):
        endpoint = f"unix://{endpoint}"
    elif scheme != "unix" or not path.startswith("/"):
        why = f'only URL scheme "unix" is supported, got "{scheme if separator else ""}"'
        problems.invalid("nodeRegistration.criSocket", endpoint, why)
    policy = options.get("imagePullPolicy")
    if policy not in (None, "Always", "IfNotPresent", "Never"):
        why = "must be one of: Always, IfNotPresent, Never"
        problems.invalid("nodeRegistration.imagePullPolicy", policy, why)
    arguments = options.get("kubeletExtraArgs") or []
    if isinstance(arguments, dict):
        arguments = [{"name": name, "value": value} for name, value in arguments.items()]
    for argument in arguments:
        if not argument.get("name"):
            problems.invalid("nodeRegistration.kubeletExtraArgs", "", "argument has no name")
    return {**options, "name": name, "criSocket": endpoint, "kubeletExtraArgs": arguments}


def _endpoint(owner: Document, name: str, problems: Problems, at: str = "") -> Document:
    endpoint = dict(owner.get(name) or {})
    address = endpoint.setdefault("advertiseAddress", node.default_address())
    port = endpoint.setdefault("bindPort", 6443)
    if not _is_address(address):
        problems.invalid(f"{at}{name}.advertiseAddress", address, "ip address is not valid")
    if not 0 < port < 65536:
        problems.invalid(f"{at}{name}.bindPort", str(port), "port must be a valid number between 1 "
                         "and 65535, inclusive")  # fmt: skip
    return endpoint


def _check_token(token: object, field: str, problems: Problems) -> None:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        problems.invalid(field, token or "", "the bootstrap token is invalid")


def _check_key(key: str | None, field: str, problems: Problems) -> None:
    if key and not re.fullmatch("[0-9a-fA-F]{64}", key):
        why = "certificate key must be a hex encoded string of 32 bytes"
        problems.invalid(field, key, why)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    return _is_address(text) or (bool(_NAME.fullmatch(text)) and len(text) <= 253)


def kubelet(documents: dict[str, Document], cluster: Document) -> Document:
    """Return the KubeletConfiguration for all nodes: the file's, with kubeadm's defaults.

    Fields that are empty get lost when kubeadm writes it (``omitempty`` in Go).
    """
    given = _filled(documents.get(_KUBELET[1]) or {})
    service = ip_network(cluster["networking"]["serviceSubnet"].split(",")[0], strict=False)
    defaults = {
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"cacheTTL": "0s", "enabled": True},
            "x509": {"clientCAFile": f"{cluster['certificatesDir']}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "systemd",
        "clusterDNS": [str(service[10])],
        "clusterDomain": cluster["networking"]["dnsDomain"],
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "rotateCertificates": True,
        "staticPodPath": "/etc/kubernetes/manifests",
    }
    return {**defaults, **given, "apiVersion": _KUBELET[0], "kind": _KUBELET[1]}


def _filled(value: Document) -> Document:
    kept = {name: _filled(item) if isinstance(item, dict) else item for name, item in value.items()}
    return {name: item for name, item in kept.items() if item not in ({}, [], "", None)}


def dump(*documents: Document) -> str:
    """Return DOCUMENTS as kubeadm writes YAML: fields in the order of the alphabet."""
    return "---\n".join(yaml.safe_dump(each, default_flow_style=False) for each in documents)


def arguments(pairs: Iterable[Document]) -> list[str]:
    """Return extra arguments as words of a command line."""
    return [f"--{pair['name']}={pair.get('value', '')}" for pair in pairs]
