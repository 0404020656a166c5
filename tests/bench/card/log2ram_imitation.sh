# Imitates log2ram's approach (github.com/azlux/log2ram): /var/log is a file system in RAM. It is filled
# from the card at start, and copied back once a day and at stop, by `cp -rfup`, as log2ram does where
# rsync is missing. 128 MiB is its default size.
set -eu
case $1 in
  start)
    mkdir -p /var/hdd.log
    mount --bind /var/log /var/hdd.log
    mount --make-private /var/hdd.log
    mount -t tmpfs -o size=128m,mode=755,noatime log2ram /var/log
    cp -rfup /var/hdd.log/. /var/log/
    systemctl restart systemd-journald rsyslog
    ;;
  empty) # as logrotate does once a day
    find /var/log /var/hdd.log -xdev -type f ! -name '*.journal*' -exec truncate -s 0 {} +
    ;;
  sync) cp -rfup /var/log/. /var/hdd.log/ ;;
esac
