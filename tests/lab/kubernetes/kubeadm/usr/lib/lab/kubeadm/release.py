"""What differs between the releases of kubeadm that the lab has."""

VERSION = "@VERSION@"
MAJOR, MINOR = (int(number) for number in VERSION.split(".")[:2])

API = "kubeadm.k8s.io/v1beta4" if MINOR >= 31 else "kubeadm.k8s.io/v1beta3"
"""The version of the configuration that is written; v1beta4 came with 1.31."""

DEPRECATED = ("kubeadm.k8s.io/v1beta3",) if MINOR >= 31 else ()
"""Versions that are read with a warning (seen with 1.36)."""

MIN_EXTERNAL_ETCD = "3.4.13-4" if MINOR < 29 else "3.5.24-0"
"""``MinExternalEtcdVersion`` in cmd/kubeadm/app/constants/constants.go. 1.36's was seen; 1.34 and
1.35 may accept older ones."""

PAUSE_IMAGE = "registry.k8s.io/pause:" + (
    "3.9" if MINOR < 29 else "3.10.1" if MINOR < 36 else "3.10.2"
)
"""``PauseVersion`` there; those of 1.35 and 1.36 were seen."""

PAUSE_FLAG = MINOR < 35
"""Whether kubelet is given the flag ``--pod-infra-container-image``. kubelet 1.35 does not know it
any more (kubernetes/kubernetes#133778, #133779)."""

UNWANTED_FLAGS = ("pod-infra-container-image",) if MINOR == 35 else ()
"""The flags of kubelet that ``upgrade`` removes (``runPostUpgrade`` in
cmd/kubeadm/app/cmd/phases/upgrade/postupgrade.go); 1.36 has an empty list."""

KUBELET_SKEW = 1 if MINOR < 29 else 3
"""``MaximumAllowedMinorVersionKubeletSkew`` in cmd/kubeadm/app/phases/upgrade/policy.go
(kubernetes/kubernetes#120825)."""

LOCAL_CRI_SOCKET = MINOR >= 34
"""Whether kubelet has the socket from instance-config.yaml, not from a flag: the feature gate
``NodeLocalCRISocket``, on since 1.34."""

ERROR_PREFIX = "error: " if MINOR >= 34 else ""
"""What comes before the text of a fatal error (seen with 1.36, and not with 1.28)."""
