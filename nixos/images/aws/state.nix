# /state: what has to outlive the instance, on an EBS volume of its own.
#
# Found and, if blank, formatted by a service; mounted only if that found one. Whoever keeps something below /state requires
# the mount (`RequiresMountsFor`), so that a missing volume stops the boot and never makes a second node.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  hardening = import ../../modules/hardening.nix;
  # Not below /dev, or systemd would wait for a device of that name where there is to be none.
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
      # A node that came up on another network than before would be another node.
      if [[ -e /state/network && $(</state/network) != "$LIGHTNING_NETWORK" ]]; then
        echo "host.network: this host's node is on $(</state/network), not on $LIGHTNING_NETWORK; a node never changes its network" >&2
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
      description = "Volume for what outlives the instance";
      requires = [ "lnplaylive-user-data.service" ];
      after = [ "lnplaylive-user-data.service" ];
      serviceConfig =
        hardening.base
        # Formats and checks a disk.
        // hardening.disks
        // {
          Type = "oneshot";
          RemainAfterExit = true;
          RuntimeDirectory = "lnplaylive-state";
          EnvironmentFile = config.services.lnplaylive.environmentFile;
          ExecStart = "${lib.getExe find} ${link}";
          # A volume may be attached after the instance has started; and a check of a large one takes its time.
          TimeoutStartSec = "30min";
          StandardError = "journal+console";
        };
    };

    # The volume may have been made larger.
    lnplaylive-state-growth = {
      description = "Growth of the state volume's file system";
      wantedBy = [ "lnplaylive-state.service" ];
      before = [ "lnplaylive-state.service" ];
      unitConfig = {
        RequiresMountsFor = [ "/state" ];
        # Without a volume it is a directory on the root disk.
        ConditionPathIsMountPoint = "/state";
      };
      serviceConfig =
        hardening.base
        // hardening.disks
        // {
          Type = "oneshot";
          RemainAfterExit = true;
          # Only who has it may resize a file system that is mounted.
          CapabilityBoundingSet = "CAP_SYS_RESOURCE";
          ReadWritePaths = [ "/state" ];
          ExecStart = "${config.systemd.package}/lib/systemd/systemd-growfs /state";
          StandardError = "journal+console";
        };
    };

    lnplaylive-state = {
      description = "State directories, and the network of the node in them";
      requires = [ "lnplaylive-user-data.service" ];
      after = [ "lnplaylive-user-data.service" ];
      unitConfig.RequiresMountsFor = [ "/state" ];
      serviceConfig =
        hardening.base
        # Makes directories for other users.
        // hardening.owners
        // {
          # systemd-tmpfiles looks the boot's id up, and complains on the console where it cannot.
          ProcSubset = "all";
          Type = "oneshot";
          RemainAfterExit = true;
          EnvironmentFile = config.services.lnplaylive.environmentFile;
          ReadWritePaths = [ "/state" ];
          ExecStart = [
            (lib.getExe remember)
            # At boot, when it makes all others, the volume is not there yet.
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
        "caddy"
        "clightning"
        "lnplaylive-culler"
        "lnplaylive-frontend"
        "lnplaylive-rune"
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
        # Without a volume it is a directory on the root disk.
        ConditionPathExists = link;
        # Not a part of local-fs.target: that comes before the network, from which the user-data comes.
        DefaultDependencies = false;
      };
      mountConfig.DirectoryMode = "0755";
    }
  ];
}
