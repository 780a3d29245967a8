# What every service of ours is started with, and the exceptions, each with its name and its reason.
#
# Use:  serviceConfig = hardening.base // hardening.internet // { … };
{
  # Nothing but its own state directory to write to, no privilege, no network, no other process to look at.
  base = {
    AmbientCapabilities = "";
    CapabilityBoundingSet = "";
    DevicePolicy = "closed";
    IPAddressDeny = "any";
    KeyringMode = "private";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateMounts = true;
    PrivateTmp = true;
    PrivateUsers = true;
    ProcSubset = "pid";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictAddressFamilies = [ "AF_UNIX" ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
    ];
    UMask = "0077";
  };

  # For what speaks with other machines. The cloud's metadata service stays out of reach: it would hand out the instance's
  # user-data, and the tokens in it, to whoever takes such a service over.
  internet = {
    IPAddressDeny = [
      "169.254.169.254"
      "fd00:ec2::254"
    ];
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
    ];
  };

  # For daemons that look for the machine's own addresses, which the kernel tells over netlink. On top of `internet`.
  ownAddresses = {
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
      "AF_UNIX"
    ];
  };

  # For what speaks with services on this machine only. On top of `internet`, instead of its IPAddressDeny.
  loopback = {
    IPAddressAllow = "localhost";
    IPAddressDeny = "any";
  };

  # For who takes ports below 1024. The capability has no effect in a user namespace of its own.
  lowPorts = {
    AmbientCapabilities = "CAP_NET_BIND_SERVICE";
    CapabilityBoundingSet = "CAP_NET_BIND_SERVICE";
    PrivateUsers = false;
  };

  # For root's own chores that hand files to other users.
  owners = {
    CapabilityBoundingSet = [
      "CAP_CHOWN"
      "CAP_DAC_OVERRIDE"
      "CAP_FOWNER"
      "CAP_FSETID"
    ];
    PrivateUsers = false;
    # A directory's files belong to its group by its set-group-ID bit.
    RestrictSUIDSGID = false;
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
      "@chown"
    ];
  };

  # For root's own chores on disks that are not mounted.
  disks = {
    DeviceAllow = "block-* rw";
    PrivateDevices = false;
    PrivateUsers = false;
  };
}
