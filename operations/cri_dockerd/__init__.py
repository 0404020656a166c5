"""Install cri-dockerd from its tarball, and have its units run.

`install` has the operation, `tarball` reads and checks the archive on this computer. The deploy
`chaos_engine.deploys.cri_dockerd` calls both.
"""

from chaos_engine.operations.cri_dockerd.install import install_cri_dockerd
from chaos_engine.operations.cri_dockerd.tarball import CHECKSUMS, MAX_PACKED, extract

__all__ = ["CHECKSUMS", "MAX_PACKED", "extract", "install_cri_dockerd"]
