# The sandbox of all our services, and the relaxations, each with a name and a reason.
#
# Use:  serviceConfig = hardening.base // hardening.internet // { … };
{
  # May write only to the service's own state directory. No privileges, no network, no view of other processes.
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

  # For services that use the network. The cloud's metadata service stays blocked, because it would give the instance's user-data,
  # with the tokens in it, to anyone who takes over such a service.
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

  # For daemons that ask the kernel for the machine's addresses, over netlink. Use on top of `internet`.
  ownAddresses = {
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
      "AF_UNIX"
    ];
  };

  # For services that connect only to services on this machine. Use on top of `internet`; replaces its IPAddressDeny.
  loopback = {
    IPAddressAllow = "localhost";
    IPAddressDeny = "any";
  };

  # For services on ports below 1024. The capability has no effect in a user namespace, so there is none.
  lowPorts = {
    AmbientCapabilities = "CAP_NET_BIND_SERVICE";
    CapabilityBoundingSet = "CAP_NET_BIND_SERVICE";
    PrivateUsers = false;
  };

  # For tasks that run as root and give files to other users.
  owners = {
    CapabilityBoundingSet = [
      "CAP_CHOWN"
      "CAP_DAC_OVERRIDE"
      "CAP_FOWNER"
      "CAP_FSETID"
    ];
    PrivateUsers = false;
    # Set-group-ID on a directory, so that its files belong to its group.
    RestrictSUIDSGID = false;
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
      "@chown"
    ];
  };

  # For tasks that run as root on disks that are not mounted.
  disks = {
    DeviceAllow = "block-* rw";
    PrivateDevices = false;
    PrivateUsers = false;
  };
}
