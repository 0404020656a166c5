#!/bin/sh
# With SOURCE_DATE_EPOCH set, a wheel of setuptools still depends on the umask of who builds it.
#
# Version:   setuptools 80.9.0
# Expected:  the same sources and the same SOURCE_DATE_EPOCH give the same bytes
# Seen:      the times are the same, but each entry has the mode that the file has on the disk: two
#            wheels. An sdist takes neither times nor modes from anywhere else than the disk, and
#            has the time of the build in its gzip header
# So:        sources get plain modes before the build, and an sdist is packed again
# Needs:     Python 3.9 or newer with venv, PyPI
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check setuptools==80.9.0
echo "version: setuptools $(env/bin/python -c 'import setuptools; print(setuptools.__version__)')"

build() { # UMASK FOLDER
  (
    umask "$1"
    mkdir "$2"
    cd "$2"
    printf '[project]\nname = "two"\nversion = "1"\n[tool.setuptools]\npy-modules = ["two"]\n' \
      >pyproject.toml
    echo 'ONE = 2' >two.py
    SOURCE_DATE_EPOCH=1700000000 ../env/bin/python -c 'from setuptools import build_meta
build_meta.build_wheel("out")' >/dev/null 2>&1
  )
  env/bin/python - "$2" <<'END'
import glob, hashlib, sys, zipfile
(path,) = glob.glob(f"{sys.argv[1]}/out/*.whl")
wheel = zipfile.ZipFile(path)
print(f"{sys.argv[1]}: two.py has mode {wheel.getinfo('two.py').external_attr >> 16 & 0o777:o},",
      f"times {len({one.date_time for one in wheel.infolist()})},",
      f"sha256 {hashlib.sha256(open(path, 'rb').read()).hexdigest()[:16]}")
END
}
{ build 022 umask-022; build 022 again-022; build 077 umask-077; } | tee seen
checksums=$(sed 's/.*sha256 //' seen | sort | uniq -c | awk '{ print $1 }' | sort | xargs)
[ "$checksums" = "1 2" ] && grep -q 'umask-022: two.py has mode 644' seen &&
  grep -q 'umask-077: two.py has mode 600' seen || { echo "that has changed" >&2; exit 1; }
