"""The fields of the configurations that kubeadm reads, and their strict decoding.

From kubernetes.io/docs/reference/config-api (kubeadm-config.v1beta3, .v1beta4 and
kubelet-config.v1beta1). A type is the name of Go's, a list of one type, a map as ``{"*": TYPE}``,
or a structure as its fields by name.
"""

from __future__ import annotations

import re
from typing import Any

_DURATION = r"[+-]?(0|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+)"


def _fields(kind: Any, *names: str) -> dict[str, Any]:
    """Return fields of one type, by name; the names are separated by blanks."""
    return dict.fromkeys(" ".join(names).split(), kind)


_STRINGS = ["string"]
_ARGUMENTS = [_fields("string", "name value")]
_TAINTS = [_fields("string", "key value effect timeAdded")]
_PATCHES = _fields("string", "directory")
_ENDPOINT = {"advertiseAddress": "string", "bindPort": "int32"}
_VOLUMES = [{**_fields("string", "name hostPath mountPath pathType"), "readOnly": "bool"}]
_IMAGE = _fields("string", "imageRepository imageTag")
_VARIABLES = ["object"]
_TIMEOUTS = _fields(
    "Duration",
    "controlPlaneComponentHealthCheck kubeletHealthCheck kubernetesAPICall etcdAPICall",
    "tlsBootstrap discovery upgradeManifests",
)
_TYPE = _fields("string", "apiVersion kind")


def _kubeadm(beta: int) -> dict[str, dict[str, Any]]:
    """Return the kinds of kubeadm.k8s.io/v1betaBETA, for 3 and 4."""
    new = beta >= 4
    arguments: Any = _ARGUMENTS if new else {"*": "string"}
    component: dict[str, Any] = {"extraArgs": arguments, "extraVolumes": _VOLUMES}
    timeouts: dict[str, Any] = {"timeouts": _TIMEOUTS} if new else {}
    if new:
        component["extraEnvs"] = _VARIABLES
    node = {
        **_fields("string", "name criSocket imagePullPolicy"),
        "taints": _TAINTS,
        "kubeletExtraArgs": arguments,
        "ignorePreflightErrors": _STRINGS,
        **({"imagePullSerial": "bool"} if new else {}),
    }
    tokens = [
        {
            **_fields("string", "token description expires"),
            "ttl": "Duration",
            "usages": _STRINGS,
            "groups": _STRINGS,
        }
    ]
    local = {
        **_IMAGE,
        "dataDir": "string",
        "extraArgs": arguments,
        **({"extraEnvs": _VARIABLES} if new else {}),
        "serverCertSANs": _STRINGS,
        "peerCertSANs": _STRINGS,
    }
    external = {**_fields("string", "caFile certFile keyFile"), "endpoints": _STRINGS}
    server: dict[str, Any] = {**component, "certSANs": _STRINGS}
    if not new:
        server["timeoutForControlPlane"] = "Duration"
    cluster: dict[str, Any] = {
        **_TYPE,
        **_fields("string", "kubernetesVersion controlPlaneEndpoint certificatesDir"),
        **_fields("string", "imageRepository clusterName"),
        "etcd": {"local": local, "external": external},
        "networking": _fields("string", "serviceSubnet podSubnet dnsDomain"),
        "apiServer": server,
        "controllerManager": component,
        "scheduler": component,
        "dns": {**_IMAGE, **({"disabled": "bool"} if new else {})},
        "featureGates": {"*": "bool"},
    }
    if new:
        cluster |= {
            "proxy": {"disabled": "bool"},
            "encryptionAlgorithm": "string",
            **_fields("Duration", "certificateValidityPeriod caCertificateValidityPeriod"),
        }
    init = {
        **_TYPE,
        "bootstrapTokens": tokens,
        "nodeRegistration": node,
        "localAPIEndpoint": _ENDPOINT,
        "certificateKey": "string",
        "skipPhases": _STRINGS,
        "patches": _PATCHES,
        **({"dryRun": "bool"} if new else {}),
        **timeouts,
    }
    token = {
        **_fields("string", "token apiServerEndpoint"),
        "caCertHashes": _STRINGS,
        "unsafeSkipCAVerification": "bool",
    }
    discovery = {
        "bootstrapToken": token,
        "file": _fields("string", "kubeConfigPath"),
        "tlsBootstrapToken": "string",
        **({} if new else {"timeout": "Duration"}),
    }
    join = {
        **_TYPE,
        "nodeRegistration": node,
        "caCertPath": "string",
        "discovery": discovery,
        "controlPlane": {"localAPIEndpoint": _ENDPOINT, "certificateKey": "string"},
        "skipPhases": _STRINGS,
        "patches": _PATCHES,
        **({"dryRun": "bool"} if new else {}),
        **timeouts,
    }
    step = {
        "kubernetesVersion": "string",
        "ignorePreflightErrors": _STRINGS,
        "skipPhases": _STRINGS,
        "patches": _PATCHES,
        "imagePullPolicy": "string",
        **_fields("bool", "allowExperimentalUpgrades allowRCUpgrades certificateRenewal dryRun"),
        **_fields("bool", "etcdUpgrade forceUpgrade printConfig imagePullSerial"),
    }
    upgrade = {**_TYPE, **timeouts, "apply": step, "node": step, "plan": step, "diff": "object"}
    return {
        "InitConfiguration": init,
        "ClusterConfiguration": cluster,
        "JoinConfiguration": join,
        **({"UpgradeConfiguration": upgrade} if new else {}),
    }


_KUBELET = {
    **_TYPE,
    **_fields(
        "bool",
        "enableServer rotateCertificates serverTLSBootstrap enableDebuggingHandlers",
        "enableContentionProfiling cgroupsPerQOS singleProcessOOMKill runOnce cpuCFSQuota",
        "serializeImagePulls mergeDefaultEvictionSettings enableControllerAttachDetach",
        "protectKernelDefaults makeIPTablesUtilChains failSwapOn kernelMemcgNotification",
        "enableSystemLogHandler enableSystemLogQuery enableProfilingHandler",
        "enableDebugFlagsHandler seccompDefault registerNode localStorageCapacityIsolation",
        "failCgroupV1",
    ),
    **_fields(
        "int32",
        "port readOnlyPort registryPullQPS registryBurst eventRecordQPS eventBurst healthzPort",
        "oomScoreAdj nodeLeaseDurationSeconds imageGCHighThresholdPercent",
        "imageGCLowThresholdPercent maxPods nodeStatusMaxImages kubeAPIQPS kubeAPIBurst",
        "maxParallelImagePulls evictionMaxPodGracePeriod podsPerCore iptablesMasqueradeBit",
        "iptablesDropBit containerLogMaxFiles containerLogMaxWorkers",
    ),
    **_fields("int64", "podPidsLimit maxOpenFiles"),
    "memoryThrottlingFactor": "float64",
    **_fields(
        "Duration",
        "syncFrequency fileCheckFrequency httpCheckFrequency streamingConnectionIdleTimeout",
        "nodeStatusUpdateFrequency nodeStatusReportFrequency imageMinimumGCAge imageMaximumGCAge",
        "volumeStatsAggPeriod cpuManagerReconcilePeriod draManagerReconcilePeriod",
        "runtimeRequestTimeout cpuCFSQuotaPeriod evictionPressureTransitionPeriod",
        "containerLogMonitorInterval shutdownGracePeriod shutdownGracePeriodCriticalPods",
    ),
    **_fields(
        "string",
        "staticPodPath podLogsDir staticPodURL address tlsCertFile tlsPrivateKeyFile",
        "tlsMinVersion imagePullCredentialsVerificationPolicy healthzBindAddress clusterDomain",
        "kubeletCgroups systemCgroups cgroupRoot cgroupDriver cpuManagerPolicy",
        "memoryManagerPolicy topologyManagerPolicy topologyManagerScope hairpinMode podCIDR",
        "resolvConf contentType containerLogMaxSize configMapAndSecretChangeDetectionStrategy",
        "reservedSystemCPUs showHiddenMetricsForVersion systemReservedCgroup kubeReservedCgroup",
        "volumePluginDir providerID memoryReservationPolicy containerRuntimeEndpoint",
        "imageServiceEndpoint",
    ),
    **_fields(
        _STRINGS,
        "tlsCipherSuites preloadedImagesVerificationAllowlist clusterDNS enforceNodeAllocatable",
        "allowedUnsafeSysctls",
    ),
    "tlsCurvePreferences": ["int32"],
    **_fields(
        {"*": "string"},
        "cpuManagerPolicyOptions topologyManagerPolicyOptions qosReserved evictionHard",
        "evictionSoft evictionSoftGracePeriod evictionMinimumReclaim systemReserved kubeReserved",
    ),
    "staticPodURLHeader": {"*": _STRINGS},
    "featureGates": {"*": "bool"},
    "authentication": {
        "x509": _fields("string", "clientCAFile"),
        "webhook": {"enabled": "bool", "cacheTTL": "Duration"},
        "anonymous": {"enabled": "bool"},
    },
    "authorization": {
        "mode": "string",
        "webhook": _fields("Duration", "cacheAuthorizedTTL cacheUnauthorizedTTL"),
    },
    "memorySwap": _fields("string", "swapBehavior"),
    "logging": "object",
    "tracing": "object",
    "shutdownGracePeriodByPodPriority": [
        {"priority": "int32", "shutdownGracePeriodSeconds": "int64"}
    ],
    "crashLoopBackOff": _fields("Duration", "maxContainerRestartPeriod"),
    "reservedMemory": [{"numaNode": "int32", "limits": "object"}],
    "registerWithTaints": _TAINTS,
    "userNamespaces": _fields("int64", "idsPerPod"),
}

KINDS: dict[tuple[str, str], dict[str, Any]] = {
    **{
        (f"kubeadm.k8s.io/v1beta{beta}", kind): fields
        for beta in (3, 4)
        for kind, fields in _kubeadm(beta).items()
    },
    ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"): _KUBELET,
    ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"): {"*": "object"},
}
"""The fields of each kind, by apiVersion and kind. Of kube-proxy's nothing is checked."""


class WrongType(ValueError):
    """A value is of another type than its field; the text is that of Go's decoder, but for the
    structure's name, which is the kind's here."""


def unknown_fields(value: Any, wanted: Any, at: str = "") -> list[str]:
    """Return the paths of the fields that the type does not have: ``nodeRegistration.nonsense``."""
    if isinstance(wanted, list) and isinstance(value, list):
        pairs = [(item, wanted[0], f"{at}[{index}]") for index, item in enumerate(value)]
    elif isinstance(wanted, dict) and isinstance(value, dict):
        if "*" not in wanted:
            lost = [f"{at}.{name}".lstrip(".") for name in value if name not in wanted]
        else:
            lost = []
        pairs = [
            (item, wanted.get(name, wanted.get("*")), f"{at}.{name}".lstrip("."))
            for name, item in value.items()
        ]
        return lost + [path for pair in pairs for path in unknown_fields(*pair)]
    else:
        return []
    return [path for pair in pairs for path in unknown_fields(*pair)]


def check_types(kind: str, value: Any, wanted: Any, at: str = "") -> None:
    """Raise `WrongType` for the first value that is none of its field's type; null is of any."""
    if value is None or wanted is None or wanted == "object":
        return
    if isinstance(wanted, list):
        _expect(kind, value, list, at, "[]" + _go_name(wanted[0]))
        for item in value:
            check_types(kind, item, wanted[0], at)
    elif isinstance(wanted, dict):
        _expect(kind, value, dict, at, _go_name(wanted))
        for name, item in value.items():
            inner = wanted.get(name, wanted.get("*"))
            check_types(kind, item, inner, f"{at}.{name}".lstrip("."))
    elif wanted == "Duration":
        _expect(kind, value, str, at, "string")
        if not re.fullmatch(_DURATION, value):
            raise WrongType(f'time: invalid duration "{value}"')
    else:
        types = {"string": str, "bool": bool, "float64": (int, float)}
        _expect(kind, value, types.get(wanted, int), at, wanted)


def _expect(kind: str, value: Any, types: Any, at: str, name: str) -> None:
    # In Python a bool is an int
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
        raise WrongType(
            f"json: cannot unmarshal {_json_name(value)} into Go struct field {kind}.{at} "
            f"of type {name}"
        )


def _json_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "object")


def _go_name(wanted: Any) -> str:
    if isinstance(wanted, list):
        return "[]" + _go_name(wanted[0])
    if isinstance(wanted, dict):
        return f"map[string]{_go_name(wanted['*'])}" if "*" in wanted else "struct"
    return str(wanted)
