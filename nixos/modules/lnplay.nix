# One environment: the system inside an instance on a remote, either a container or a virtual machine.
#
# The server passes two things to the instance in cloud-init's user-data: its SSH host key, and the public key that may log in as
# `lnplay`. That account can run `lnplay up`, `status` and `down` and nothing else. The environment's spec arrives over SSH.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkEnableOption mkOption types;
  cfg = config.services.lnplay;
  # lnplay's default; `lnplay up` expects the service to use it.
  dir = "/var/lib/lnplay";
  hostKey = "/etc/ssh/ssh_host_ed25519_key";
  # The account that the shop logs in to.
  account = "lnplay";
  lnplay = lib.getExe' cfg.package "lnplay";
  # Without the tools and plugins that an environment does not need; some of them give access to things that attendees must not
  # reach. The files are copied because lightningd looks for its other programs next to itself.
  clightning = pkgs.runCommand "clightning-environment" { } ''
    mkdir -p $out/bin
    cp ${cfg.clightning}/bin/lightningd $out/bin/
    cp -r --no-preserve=mode,ownership ${cfg.clightning}/libexec $out/libexec
    find $out/libexec -type f -exec chmod 0555 {} +
    cd $out/libexec/c-lightning/plugins
    rm -rf autoclean bookkeeper chanbackup cln-bip353 cln-currencyrate cln-grpc cln-lsps-client cln-lsps-service cln-renepay \
      clnrest exposesecret funder recklessrpc recover sql wss-proxy
  '';
in
{
  options.services.lnplay = {
    enable = mkEnableOption "an environment of Lightning nodes" // {
      default = true;
    };
    package = mkOption {
      type = types.package;
      description = "The package that provides `lnplay`.";
    };
    bitcoind = lib.mkPackageOption pkgs "bitcoind" { };
    clightning = lib.mkPackageOption pkgs "clightning" { };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];

    # The same unit that `lnplay up` would write. If the system has one, `lnplay up` starts and stops it but never changes it. The
    # supervisor runs as root; bitcoind and each node run as users of their own, without privileges, in scopes with limits.
    # systemd's sandboxing is not used, because a container without nesting allows no mounts.
    systemd.services.lnplay = {
      description = "Lightning environment";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      path = [
        cfg.bitcoind
        clightning
      ];
      environment = {
        LNPLAY_DIR = dir;
        BITCOIND = lib.getExe' cfg.bitcoind "bitcoind";
        BITCOIN_CLI = lib.getExe' cfg.bitcoind "bitcoin-cli";
        LIGHTNINGD = lib.getExe' clightning "lightningd";
        # The first user id; each daemon gets one of its own.
        LNPLAY_FIRST_UID = "50000";
      };
      unitConfig = {
        # The spec is stored by `lnplay up` and is all that is needed to start again after a reboot.
        ConditionPathExists = "${dir}/spec.json";
        # Nobody but systemd starts it again: after a full disk or a reboot of the whole server it has to come back by itself.
        StartLimitIntervalSec = 0;
      };
      serviceConfig = {
        Type = "notify";
        ExecStart = "${lnplay} supervise";
        Restart = "on-failure";
        RestartSec = 5;
        # The supervisor stops its daemons in order; systemd kills what is left.
        KillMode = "mixed";
        TimeoutStopSec = "2min";
        # If the kernel kills a node for lack of memory, the supervisor restarts it. The other nodes keep running.
        OOMPolicy = "continue";
        # 64 nodes have about a thousand processes.
        TasksMax = "infinity";
        MemoryKSM = true;
        UMask = "0077";
        StandardOutput = "append:${dir}/logs/supervisor.log";
        StandardError = "append:${dir}/logs/supervisor.log";
      };
    };

    services.openssh = {
      enable = true;
      # The shop connects as soon as the instance runs.
      startWhenNeeded = false;
      # Clients could not know a key that is generated here.
      generateHostKeys = false;
      hostKeys = [
        {
          type = "ed25519";
          path = hostKey;
        }
      ];
      settings = {
        PasswordAuthentication = false;
        KbdInteractiveAuthentication = false;
        PermitRootLogin = "no";
        AllowUsers = [ account ];
        UseDns = false;
        PrintLastLog = false;
      };
      extraConfig = ''
        ForceCommand ${lnplay} session
        DisableForwarding yes
        PermitTTY no
        PermitUserRC no
      '';
      allowSFTP = false;
    };
    users.users.${account} = {
      isSystemUser = true;
      group = account;
      home = "/home/${account}";
      createHome = true;
      # sshd needs a shell to run the forced command.
      useDefaultShell = true;
    };
    users.groups.${account} = { };

    # The forced command connects to this socket. See crates/lnplay-agent/src/session.rs.
    systemd.sockets.lnplay-session = {
      description = "Requests to lnplay";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenStream = "/run/lnplay.sock";
        SocketGroup = account;
        SocketMode = "0660";
        Accept = true;
        MaxConnections = 8;
      };
    };
    systemd.services."lnplay-session@" = {
      description = "A request to lnplay";
      unitConfig.CollectMode = "inactive-or-failed";
      serviceConfig = {
        ExecStart = "${lnplay} attend";
        StandardInput = "socket";
        StandardOutput = "socket";
        StandardError = "journal";
      };
    };

    # No world-writable directories: each daemon has its own, and any of them may have been taken over by an attendee.
    systemd.tmpfiles.rules = map (path: "d ${path} 0700 root root") [
      "/tmp"
      "/var/tmp"
      "/run/lock"
      "/dev/shm"
    ];

    users.mutableUsers = false;
    users.users.root.initialHashedPassword = "!";
    users.allowNoPasswordLogin = true;

    services.cloud-init = {
      enable = true;
      # Skips everything else that cloud-init does before sshd starts.
      settings = {
        # From files in a container, from a drive in a virtual machine: see ../images/lnplay.
        datasource_list = [ "NoCloud" ];
        network.config = "disabled";
        disable_root = true;
        ssh_pwauth = false;
        preserve_hostname = true;
        cloud_init_modules = [
          "users-groups"
          "ssh"
        ];
        cloud_config_modules = [ ];
        cloud_final_modules = [ ];
      };
    };
    systemd.services = {
      # Do not wait for the network.
      cloud-init = {
        wants = lib.mkForce [ "cloud-init-local.service" ];
        after = lib.mkForce [ "cloud-init-local.service" ];
        requires = lib.mkForce [ ];
      };
      cloud-config.enable = false;
      cloud-final.enable = false;
    };

    networking = {
      hostName = "";
      useNetworkd = true;
      useDHCP = true;
      # The server opens the attendees' ports and forwards them: to loopback in a container, and in a virtual machine to its own
      # address, on which only SSH and the nodes' WebSockets listen.
      firewall.enable = false;
    };
    # None of our services waits for an address.
    systemd.network.wait-online.enable = false;

    # Environments live for hours and are never upgraded.
    nix.enable = lib.mkDefault false;
    documentation.enable = lib.mkForce false;
    services.logrotate.enable = lib.mkForce false;
    system.stateVersion = lib.mkDefault "26.05";
  };
}
