# Runs the machines of a private LXD or Incus cluster and takes them down:   keeper.sh DIR BRIDGE ADDRESS/PREFIX MACHINE
#
# DIR has a directory for each machine; MACHINE is `machine.sh`. BRIDGE, made here with ADDRESS, is the wire between the machines
# and this one. Commands come one a line on stdin, a pipe from who wants the cluster:
#   start NAME ADDRESS/PREFIX VARIABLE DAEMON   boots a machine
#   kill NAME                                   ends one as a power failure would
#   cut NAME, mend NAME                         takes its network cable out, and puts it back
#   keep                                        spares the logs at the end
# When stdin ends, also because they were killed, everything goes: machines, cgroups, mounts, bridge, files.
trap '' INT TERM HUP
dir=$1 bridge=$2 address=$3 machine=$4

# Where cgroups are made: one directory, or one for each hierarchy of version 1.
hierarchies() {
    if [ -e /sys/fs/cgroup/cgroup.procs ]; then
        echo /sys/fs/cgroup
    else
        for procs in /sys/fs/cgroup/*/cgroup.procs; do echo "${procs%/*}"; done
    fi
}

# Makes a cgroup, with all the controllers that its parent has.
make() {
    for hierarchy in $(hierarchies); do
        at=$hierarchy/$1
        parent=${at%/*}
        if [ "$parent" != "$hierarchy" ] && [ -e "$parent/cgroup.subtree_control" ]; then
            for controller in $(cat "$parent/cgroup.controllers"); do
                echo "+$controller" >"$parent/cgroup.subtree_control"
            done
        fi
        mkdir -p "$at"
        # Version 1: empty in a new one, which then takes no process.
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$at/tasks" ] || [ ! -e "$at/$file" ] || cat "$parent/$file" >"$at/$file"
        done
    done
}

# Ends all that is in a cgroup, and the cgroup.
end() {
    tries=200
    while [ "$tries" -gt 0 ]; do
        found=
        for hierarchy in $(hierarchies); do
            [ -d "$hierarchy/$1" ] || continue
            found=1
            for pid in $(find "$hierarchy/$1" -name cgroup.procs -exec cat {} +); do kill -KILL "$pid"; done
            find "$hierarchy/$1" -depth -type d -exec rmdir {} +
        done 2>/dev/null
        [ -n "$found" ] || return
        sleep 0.05
        tries=$((tries - 1))
    done
}

ip link add "$bridge" type bridge && ip address add "$address" dev "$bridge" && ip link set "$bridge" up
make "$bridge"

keep=
while read -r word name rest; do
    case $word in
    start)
        make "$bridge/$name"
        # Apart from its containers: a cgroup of version 2 with processes has no children. LXC knows this name.
        make "$bridge/$name/init.scope"
        # shellcheck disable=SC2086 # an address, a variable and a program
        /bin/sh "$machine" plug "$dir/$name" "$bridge" "$bridge$name" "$bridge/$name/init.scope" $rest \
            </dev/null >>"$dir/$name/daemon.log" 2>&1 &
        ;;
    kill)
        end "$bridge/$name"
        ip link delete "$bridge$name"
        ;;
    cut) ip link set "$bridge$name" down ;;
    mend) ip link set "$bridge$name" up ;;
    keep) keep=1 ;;
    esac
done

# A machine that has only just been started finds its cgroup gone, and ends.
end "$bridge"
ip link delete "$bridge"
# Mounts went with the machines. Pools and images are most of what is left.
for state in "$dir"/*/d; do
    [ -z "$keep" ] || { mkdir -p "$state/../logs" && cp -r "$state/logs/." "$state/../logs/"; }
    rm -rf "$state"
done
[ -n "$keep" ] || rm -rf "$dir"
