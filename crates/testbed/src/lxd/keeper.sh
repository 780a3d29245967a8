# Runs a private LXD or Incus daemon and takes it down:   keeper.sh DIR VARIABLE BRIDGE DAEMON…
#
# DIR holds the daemon's state in `d` (where VARIABLE, LXD_DIR or INCUS_DIR, points) and its log. Stdin is a pipe from who wants
# the daemon. It ends when they let go of it, also when they were killed, and then everything goes: containers, daemon, mounts,
# bridge, files. A line on stdin that says `keep` spares the logs.
#
# With UPLINK_HOST and UPLINK_SERVER the daemon is in a network namespace named BRIDGE, packet filter and all; a pair of devices joins
# the two, with these addresses: on the device BRIDGE here, and there. With EMULATION, the directory that tests/vm-emulation/build
# made, it also runs virtual machines.
trap '' INT TERM HUP
dir=$1 variable=$2 bridge=$3
shift 3
state=$dir/d

if [ -n "${UPLINK_HOST-}" ]; then
    {
        ip netns add "$bridge" && ip link add "$bridge" type veth peer name uplink netns "$bridge" &&
            ip address add "$UPLINK_HOST" dev "$bridge" && ip link set "$bridge" up &&
            ip -n "$bridge" address add "$UPLINK_SERVER" dev uplink && ip -n "$bridge" link set uplink up &&
            ip -n "$bridge" link set lo up
    } >>"$dir/daemon.log" 2>&1
    if [ -n "${EMULATION-}" ]; then
        set -- "$EMULATION/run" "$@"
    else
        # The /sys of that namespace, with its devices. Nothing of it outlives the daemon and what it starts.
        # shellcheck disable=SC2016 # the inner shell's
        set -- unshare --mount --propagation private sh -ec '
            mount -t tmpfs scratch /mnt
            mkdir /mnt/cgroup
            mount --rbind /sys/fs/cgroup /mnt/cgroup
            mount -t sysfs sysfs /sys
            mount --rbind /mnt/cgroup /sys/fs/cgroup
            exec "$@"' namespace "$@"
    fi
    set -- nsenter "--net=/run/netns/$bridge" "$@"
fi

# The first try of the daemon to look things up on the internet fails at once: nothing of a test leaves this machine.
env "$variable=$state" HTTPS_PROXY=http://127.0.0.1:9 "$@" </dev/null >>"$dir/daemon.log" 2>&1 &
daemon=$!
echo "$daemon" >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"

keep=
while read -r word; do
    [ "$word" = keep ] && keep=1
done

# Processes of ours: those that name the directory in their arguments or environment.
ours() {
    grep -lsF "$state" /proc/[0-9]*/cmdline /proc/[0-9]*/environ | cut -d/ -f3 | sort -u | grep -vx "$$"
}
# A container's monitor names the directory; its child is the container's init, with which all in it ends.
monitors() {
    for pid in $(ours); do
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q '^\[lxc monitor\]' && echo "$pid"
    done
}
inits() {
    for pid in $(monitors); do
        grep -ls "^PPid:[[:space:]]*$pid\$" /proc/[0-9]*/status | cut -d/ -f3
    done
}
machines() {
    for pid in $(ours); do
        grep -qs '^qemu-system' "/proc/$pid/comm" && echo "$pid"
    done
}
# until TENTHS CONDITION…
until_() {
    tenths=$1
    shift
    while ! "$@" && [ "$tenths" -gt 0 ]; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
}
no_instances() { [ -z "$(monitors)$(machines)" ]; }
no_daemon() { ! kill -0 "$daemon" 2>/dev/null; }

# By force but in order, so that each monitor removes its cgroups and the daemon its bridge.
for pid in $(inits) $(machines); do kill -KILL "$pid"; done 2>/dev/null
until_ 50 no_instances
kill -PWR "$daemon" 2>/dev/null
until_ 100 no_daemon
# Whatever has not gone by itself.
tries=50
while left=$(ours) && [ -n "$left" ] && [ "$tries" -gt 0 ]; do
    # Init processes first: an orphan of a monitor is no longer found through it.
    for pid in $(inits) $left; do kill -KILL "$pid"; done 2>/dev/null
    sleep 0.1
    tries=$((tries - 1))
done
awk -v at="$state/" 'index($5 "/", at) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
    while read -r mount; do umount -l "$mount"; done
[ -e "/run/netns/$bridge" ] && ip netns delete "$bridge"
[ -e "/sys/class/net/$bridge" ] && ip link delete "$bridge"
if [ -n "$keep" ]; then
    mkdir -p "$dir/logs"
    cp -r "$state"/logs/. "$dir/logs/" 2>/dev/null
    rm -rf "$state"
else
    rm -rf "$dir"
fi
