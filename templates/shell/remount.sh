# Mount a file system again with other options. Needs no other functions.

# mounted TARGET: print the file system's type and the options in force at a mount point, with commas
# around each. Print nothing if nothing is mounted there. The kernel escapes blanks and backslashes in names.
mounted() {
  at=$1 awk 'BEGIN {
    at = ENVIRON["at"]
    gsub(/\\/, "\\134", at); gsub(/ /, "\\040", at); gsub(/\t/, "\\011", at)
  }
  $5 == at { found = "," $(NF - 2) "," $6 "," $NF "," }
  END { if (found) print found }' /proc/self/mountinfo
}

# remount TARGET OPTIONS: add these options to a mount, and check that they are in force.
remount() {
  # mount(8) adds the options of fstab, also "ro", where somebody has made a file system writable for now
  case $(mounted "$1") in *,ro,*) mode= ;; *) mode=rw, ;; esac
  mount -o "remount,$mode$2" -- "$1" || return
  now=$(mounted "$1")
  for option in $(echo "$2" | tr , ' '); do
    case $option in
      # the kernel does not show its default options
      commit=5) case $now in *,commit=*) ;; *) continue ;; esac ;;
      nolazytime) case $now in *,lazytime,*) ;; *) continue ;; esac ;;
      strictatime) case $now in *,noatime,* | *,relatime,*) ;; *) continue ;; esac ;;
    esac
    case $now in *",$option,"*) ;; *)
      echo "mount -o remount,$option has no effect on $1" >&2; return 1 ;;
    esac
  done
}

# remount_again FAMILY_TARGET OPTION: mount with an earlier option again, if an ext4 is mounted: another
# file system there is not the one that had the option. FAMILY_TARGET is such as "atime /".
remount_again() {
  case $(mounted "${1#* }") in ,ext4,*) remount "${1#* }" "$2" ;; esac
}
