"""Stand-in for kubeadm: checks as strictly as the real one, and makes the files that it makes."""
