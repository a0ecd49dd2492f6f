# shellcheck shell=bash
# Sourced by the other scripts: raises the soft limits of this shell and of what it starts to the hard
# ones. Locked memory holds the io_uring rings, descriptors hold connections and store files. Refusals
# are left to scripts/setup, which judges the limits that resulted.
ulimit -S -n "$(ulimit -H -n)" 2>/dev/null || true
ulimit -S -l "$(ulimit -H -l)" 2>/dev/null || true
