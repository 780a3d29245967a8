# One environment: what runs inside an instance on a remote, be it a container or a virtual machine.
#
# The instance is told two things by its server, in cloud-init's user-data: its SSH host key, and whose key lets one in as root.
# Everything else comes over SSH: `lnplay up` with the environment's spec.
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
    environment.systemPackages = [
      cfg.package
      cfg.bitcoind
      cfg.clightning
    ];

    # As `lnplay up` would write it; one that the system ships is started and stopped by it, never changed. It has no hardening:
    # the instance is the wall around it, holds nothing else, and its buyer is handed its nodes.
    systemd.services.lnplay = {
      description = "Lightning environment";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      path = [
        cfg.bitcoind
        cfg.clightning
      ];
      environment = {
        LNPLAY_DIR = dir;
        BITCOIND = lib.getExe' cfg.bitcoind "bitcoind";
        BITCOIN_CLI = lib.getExe' cfg.bitcoind "bitcoin-cli";
        LIGHTNINGD = lib.getExe' cfg.clightning "lightningd";
      };
      unitConfig = {
        # What `lnplay up` was told is all that it needs to come back after a reboot.
        ConditionPathExists = "${dir}/spec.json";
        StartLimitIntervalSec = 600;
        StartLimitBurst = 5;
      };
      serviceConfig = {
        Type = "notify";
        ExecStart = "${lib.getExe' cfg.package "lnplay"} supervise";
        Restart = "on-failure";
        RestartSec = 2;
        # The supervisor stops its daemons in order; what is left after that is killed.
        KillMode = "mixed";
        TimeoutStopSec = "2min";
        # A node that the kernel kills for its memory is started again; it is no reason to stop the others.
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
        PermitRootLogin = "prohibit-password";
        UseDns = false;
        PrintLastLog = false;
      };
    };
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
        disable_root = false;
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
