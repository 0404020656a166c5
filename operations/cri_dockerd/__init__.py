"""Install cri-dockerd from a release tarball, and run its systemd units.

The module `install` has the operation. The module `tarball` reads and checks the tarball on the
computer that pyinfra runs on. The deploy `chaos_engine.deploys.cri_dockerd` calls both.
"""

from chaos_engine.operations.cri_dockerd.install import install_cri_dockerd
from chaos_engine.operations.cri_dockerd.tarball import CHECKSUMS, MAX_PACKED, extract

__all__ = ["CHECKSUMS", "MAX_PACKED", "extract", "install_cri_dockerd"]
