# One environment: what runs inside an instance on a remote, be it a container or a virtual machine.
#
# The instance is told two things by its server, in cloud-init's user-data: its SSH host key, and whose key lets one in as `lnplay`,
# an account that can ask for `lnplay up`, `status` and `down` and nothing else. Everything else comes over SSH: the environment's spec.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkEnableOption mkOption types;
  cfg = config.services.lnplay;
  # lnplay's own default; the service is found there by `lnplay up`.
  dir = "/var/lib/lnplay";
  hostKey = "/etc/ssh/ssh_host_ed25519_key";
  # Whom the shop logs in as.
  account = "lnplay";
  lnplay = lib.getExe' cfg.package "lnplay";
  # Without the tools and plugins that nobody here needs, some of which reach what an attendee must not. A copy, because
  # lightningd looks for its other programs beside itself.
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
      description = "Where `lnplay` comes from.";
    };
    bitcoind = lib.mkPackageOption pkgs "bitcoind" { };
    clightning = lib.mkPackageOption pkgs "clightning" { };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];

    # As `lnplay up` would write it; one that the system ships is started and stopped by it, never changed. The supervisor is root;
    # bitcoind and each node are users of their own, without privileges, in scopes with limits. Of systemd's sandboxing
    # nothing is used: a container without nesting allows no mounts.
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
        # The first user id of the daemons; each has its own.
        LNPLAY_FIRST_UID = "50000";
      };
      unitConfig = {
        # What `lnplay up` was told is all that it needs to come back after a reboot.
        ConditionPathExists = "${dir}/spec.json";
        # Nobody but systemd starts it again: after a full disk or a reboot of the whole server it has to come back by itself.
        StartLimitIntervalSec = 0;
      };
      serviceConfig = {
        Type = "notify";
        ExecStart = "${lnplay} supervise";
        Restart = "on-failure";
        RestartSec = 5;
        # The supervisor stops its daemons in order; what is left after that is killed.
        KillMode = "mixed";
        TimeoutStopSec = "2min";
        # A node that the kernel kills for its memory is restarted; the others run on.
        OOMPolicy = "continue";
        # 64 nodes are a thousand processes.
        TasksMax = "infinity";
        MemoryKSM = true;
        UMask = "0077";
        StandardOutput = "append:${dir}/logs/supervisor.log";
        StandardError = "append:${dir}/logs/supervisor.log";
      };
    };

    services.openssh = {
      enable = true;
      # Its one connection comes at once.
      startWhenNeeded = false;
      # One that is made here could not be known to who connects.
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
      # It runs the forced command.
      useDefaultShell = true;
    };
    users.groups.${account} = { };

    # What the forced command speaks to. See crates/lnplay-agent/src/session.rs.
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

    # No directory that everybody can write to: each daemon has its own, and is somebody who may have been taken over.
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
      # Everything else that it could do takes time before sshd starts.
      settings = {
        # Files in a container, a drive in a virtual machine: the images say where.
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
      # There is no network to wait for.
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
      # The server opens the ports that are for attendees, and forwards them: to loopback in a container, to its address in a
      # virtual machine, where only SSH and the nodes' WebSockets listen on that.
      firewall.enable = false;
    };
    # Nothing of ours waits for an address.
    systemd.network.wait-online.enable = false;

    # It lives for hours, and is never upgraded.
    nix.enable = lib.mkDefault false;
    documentation.enable = lib.mkForce false;
    services.logrotate.enable = lib.mkForce false;
    system.stateVersion = lib.mkDefault "26.05";
  };
}
