#!/bin/sh
# gevent's loop.reset_sigchld() does not end its waiting for children, so another Popen gets status 0.
#
# Version:   gevent 26.9.0
# Expected:  after it gevent waits for no child, as before its first Popen, so a child of
#            subprocess.Popen that fails has the status 1
# Seen:      the loop still waits for the child, subprocess finds none, and takes that for status 0.
#            After gevent.signal.signal(SIGCHLD, SIG_DFL), which calls reset_sigchld too, it is 1
# So:        tests that call both kinds of Popen end gevent's waiting by gevent.signal.signal
# Needs:     Python 3.10 or newer with venv, PyPI
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check gevent==26.9.0
echo "version: gevent $(env/bin/python -c 'import gevent; print(gevent.__version__)')"
cat >child.py <<'END'
import os, signal, subprocess, sys
import gevent, gevent.signal
from gevent.subprocess import Popen

Popen(["true"]).wait()
if sys.argv[1] == "loop":
    gevent.get_hub().loop.reset_sigchld()
elif sys.argv[1] == "signal":
    gevent.signal.signal(signal.SIGCHLD, signal.SIG_DFL)
child = subprocess.Popen(["false"])
# Wait until the child has ended, and leave it there
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
gevent.sleep(0.2)
print(f"{sys.argv[1]}: {child.wait()}")
END
for how in neither loop signal; do env/bin/python child.py $how; done | tee seen
printf 'neither: 0\nloop: 0\nsignal: 1\n' | cmp -s - seen ||
  { echo "that has changed" >&2; exit 1; }
