# One machine of a cluster:   member.sh DIR BRIDGE VETH ADDRESS VARIABLE DAEMON
#
# A network, a process and a mount namespace and a cgroup of its own, with a daemon whose state is in DIR/d. It is configured in
# there from its first command on, so nothing of it is ever this machine's. When its first process ends, all of it ends.
