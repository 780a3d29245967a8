# /state: the data that must outlive the instance, on an EBS volume of its own.
#
# A service finds the volume, and formats it if it is blank. The volume is mounted only if that succeeded. Services that keep data
# below /state require the mount (`RequiresMountsFor`), so a missing volume stops the boot and never leads to a second node.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  hardening = import ../../modules/hardening.nix;
  # Not below /dev: systemd would wait for a device of that name even if there is no volume.
  link = "/run/lnplaylive-state/volume";
  find = pkgs.writeShellApplication {
    name = "lnplaylive-state-volume";
    runtimeInputs = [
      pkgs.coreutils
      pkgs.diffutils
      pkgs.e2fsprogs
      pkgs.jq
      pkgs.util-linux
    ];
    text = builtins.readFile ./state-volume.sh;
  };
  remember = pkgs.writeShellApplication {
    name = "lnplaylive-state-network";
    runtimeInputs = [ pkgs.coreutils ];
    text = ''
      # On another network it would be another node.
      if [[ -e /state/network && $(</state/network) != "$LIGHTNING_NETWORK" ]]; then
        echo "host.network: this host's node is on $(</state/network), not on $LIGHTNING_NETWORK; a node cannot change its network" >&2
        exit 1
      fi
      echo "$LIGHTNING_NETWORK" >/state/network.new
      mv /state/network.new /state/network
    '';
  };
in
{
  systemd.services = {
    lnplaylive-state-volume = {
      description = "Find the volume for /state";
      requires = [ "lnplaylive-user-data.service" ];
      after = [ "lnplaylive-user-data.service" ];
      serviceConfig =
        hardening.base
        # It formats and checks a disk.
        // hardening.disks
        // {
          Type = "oneshot";
          RemainAfterExit = true;
          RuntimeDirectory = "lnplaylive-state";
          EnvironmentFile = config.services.lnplaylive.environmentFile;
          ExecStart = "${lib.getExe find} ${link}";
          # A volume may be attached after the instance has started, and checking a large file system takes time.
          TimeoutStartSec = "30min";
          StandardError = "journal+console";
        };
    };

    # The volume may have been enlarged.
    lnplaylive-state-growth = {
      description = "Grow the file system of the state volume";
      wantedBy = [ "lnplaylive-state.service" ];
      before = [ "lnplaylive-state.service" ];
      unitConfig = {
        RequiresMountsFor = [ "/state" ];
        # Without a volume, /state is a directory on the root disk.
        ConditionPathIsMountPoint = "/state";
      };
      serviceConfig =
        hardening.base
        // hardening.disks
        // {
          Type = "oneshot";
          RemainAfterExit = true;
          # Needed to resize a mounted file system.
          CapabilityBoundingSet = "CAP_SYS_RESOURCE";
          ReadWritePaths = [ "/state" ];
          ExecStart = "${config.systemd.package}/lib/systemd/systemd-growfs /state";
          StandardError = "journal+console";
        };
    };

    lnplaylive-state = {
      description = "Create the state directories and record the node's network";
      requires = [ "lnplaylive-user-data.service" ];
      after = [ "lnplaylive-user-data.service" ];
      unitConfig.RequiresMountsFor = [ "/state" ];
      serviceConfig =
        hardening.base
        # It creates directories for other users.
        // hardening.owners
        // {
          # systemd-tmpfiles reads the boot id, and complains on the console if it cannot.
          ProcSubset = "all";
          Type = "oneshot";
          RemainAfterExit = true;
          EnvironmentFile = config.services.lnplaylive.environmentFile;
          ReadWritePaths = [ "/state" ];
          ExecStart = [
            (lib.getExe remember)
            # At boot systemd-tmpfiles runs before the volume is mounted.
            "${config.systemd.package}/bin/systemd-tmpfiles --create --prefix=/state"
          ];
          StandardError = "journal+console";
        };
    };
  }
  //
    lib.genAttrs
      [
        "bitcoind-lnplaylive"
        "bitcoind-synchronised"
        "caddy"
        "clightning"
        "lnplaylive-backup"
        "lnplaylive-culler"
        "lnplaylive-frontend"
        "lnplaylive-rune"
        "lnplaylive-ticket-key"
      ]
      (_: {
        requires = [ "lnplaylive-state.service" ];
        after = [ "lnplaylive-state.service" ];
      });

  systemd.tmpfiles.settings.state."/state".d = {
    user = "root";
    group = "root";
    mode = "0755";
  };

  systemd.mounts = [
    {
      what = link;
      where = "/state";
      type = "ext4";
      options = "noatime,nodev,nosuid,noexec";
      requires = [ "lnplaylive-state-volume.service" ];
      after = [ "lnplaylive-state-volume.service" ];
      before = [ "umount.target" ];
      conflicts = [ "umount.target" ];
      unitConfig = {
        # Without a volume, /state is a directory on the root disk.
        ConditionPathExists = link;
        # Not part of local-fs.target, which comes before the network and therefore before the user-data.
        DefaultDependencies = false;
      };
      mountConfig.DirectoryMode = "0755";
    }
  ];
}
