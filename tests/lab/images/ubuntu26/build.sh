# Runs inside a layer over the base image that becomes the workers' with --userland ubuntu26: the
# worker's, with uutils and sudo-rs where Ubuntu 26.04 has them. The versions are those of the suite.
. /run/build/worker/build.sh

apt-get -qq update
apt-get -qq install rust-coreutils sudo-rs

# As Ubuntu's packages coreutils-from-uutils and gnu-coreutils: GNU's programs have names that begin
# with gnu, theirs are links to uutils, but for the three that Ubuntu 26.04 keeps (packages.ubuntu.com,
# resolute; discourse.ubuntu.com/t/an-update-on-rust-coreutils/80773). What uutils lacks stays too.
uutils=/usr/lib/cargo/bin/coreutils
dpkg-query -L coreutils | while read -r path; do
    case $path in /bin/* | /sbin/*) path=/usr$path ;; esac
    case $path in /usr/bin/* | /usr/sbin/*) ;; *) continue ;; esac
    name=${path##*/}
    case $name in cp | mv | rm) continue ;; esac
    test -e "$uutils/$name" || continue
    dpkg-divert --quiet --add --rename --divert "${path%/*}/gnu$name" "$path"
    "$uutils/ln" -s "../lib/cargo/bin/coreutils/$name" "$path"
done

# As Ubuntu's packages sudo and sudo-rs: alternatives, GNU's names end in .ws
for path in /usr/bin/sudo /usr/sbin/visudo; do
    dpkg-divert --quiet --add --rename --divert "$path.ws" "$path"
done
update-alternatives --quiet --install /usr/bin/sudo sudo /usr/bin/sudo.ws 40 \
    --slave /usr/sbin/visudo visudo /usr/sbin/visudo.ws
update-alternatives --quiet --install /usr/bin/sudo sudo /usr/lib/cargo/bin/sudo 50 \
    --slave /usr/sbin/visudo visudo /usr/lib/cargo/bin/visudo

rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
