# One machine of a cluster:   machine.sh plug DIR BRIDGE VETH CGROUP ADDRESS/PREFIX VARIABLE DAEMON
#
# A daemon, with its state in DIR/d, in a network, process and mount namespace of its own and in the given cgroup. All is set up
# before the daemon's first start, so nothing of this machine's is ever the daemon's. What runs in there ends with it.
set -e
what=$1
shift
dir=$1 bridge=$2 veth=$3 cgroup=$4 address=$5 variable=$6 daemon=$7

case $what in
plug)
    rm -f "$dir/ended"
    if [ -e /sys/fs/cgroup/cgroup.procs ]; then
        echo $$ >"/sys/fs/cgroup/$cgroup/cgroup.procs"
    else
        for hierarchy in /sys/fs/cgroup/*/cgroup.procs; do
            echo $$ >"${hierarchy%/*}/$cgroup/cgroup.procs"
        done
    fi
    exec 9</proc/self/ns/net
    exec unshare --net -- /bin/sh "$0" boot "$@"
    ;;
boot)
    nsenter --net=/proc/self/fd/9 ip link add "$veth" type veth peer name eth0 netns $$
    nsenter --net=/proc/self/fd/9 ip link set "$veth" master "$bridge" up
    exec 9<&-
    # No way further than the bridge: nothing of a test leaves this machine.
    ip link set lo up
    ip address add "$address" dev eth0
    ip link set eth0 up
    exec unshare --mount --pid --fork --kill-child --mount-proc -- /bin/sh "$0" run "$@"
    ;;
run)
    # The interfaces in /sys are those of the namespace that it was mounted in.
    mkdir -p "$dir/sys"
    mount -t sysfs sysfs "$dir/sys"
    mount --rbind /sys/fs/cgroup "$dir/sys/fs/cgroup"
    mount --rbind "$dir/sys" /sys
    unset HTTPS_PROXY HTTP_PROXY https_proxy http_proxy
    # Not this process's own place: the first one in a process namespace also buries orphans, such as containers' monitors.
    env "$variable=$dir/d" "$daemon" &
    wait $! || status=$?
    echo "${status:-0}" >"$dir/ended"
    ;;
esac
