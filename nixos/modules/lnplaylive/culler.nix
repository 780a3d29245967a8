# The culler removes expired environments from the remotes, hourly by default.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.lnplaylive;
  hardening = import ../hardening.nix;
  keys = "${cfg.settings.state_dir}/remotes";

  # The plugin's client keys (DIR/REMOTE/FILE) are passed to this service as credentials, whose names are flat: state_REMOTE_FILE.
  # This script restores the directory layout, as a state directory of the culler's own, so that it needs neither the node's state
  # directory nor its user. It gets no enrolment tokens, because the plugin uses those, once.
  layOut = pkgs.writeShellScript "lnplaylive-culler-keys" ''
    set -eu
    for file in "$CREDENTIALS_DIRECTORY"/state_*; do
      name=''${file##*/state_}
      case $name in
        # It is culled for the shop with this id.
        shop.id) install -D -m 0600 "$file" "$RUNTIME_DIRECTORY/remotes/shop.id" ;;
      esac
      for known in client.crt client.key server.fingerprint; do
        case $name in
          *_"$known") install -D -m 0600 "$file" "$RUNTIME_DIRECTORY/remotes/''${name%_"$known"}/$known" ;;
        esac
      done
    done
  '';
in
{
  options.services.lnplaylive.culler = {
    enable = lib.mkEnableOption "the removal of expired environments" // {
      default = true;
    };
    onCalendar = mkOption {
      type = types.str;
      default = "hourly";
      description = "When to run, as in {manpage}`systemd.time(7)`.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.culler.enable) {
    # LoadCredential needs these directories, even before the plugin has created any keys.
    systemd.tmpfiles.settings.lnplaylive-culler =
      lib.genAttrs
        [
          cfg.settings.state_dir
          keys
        ]
        (_: {
          d = {
            user = config.services.clightning.user;
            group = config.services.clightning.user;
            mode = "0700";
          };
        });

    systemd.services.lnplaylive-culler = {
      description = "Remove expired environments";
      wants = [ "network-online.target" ];
      after = [
        "clightning.service"
        "network-online.target"
      ];
      path = [ pkgs.coreutils ];
      environment = {
        LNPLAYLIVE_STATE_DIR = "/run/lnplaylive-culler";
        # It has no tokens, and any keys that it enrolled would be lost after the run.
        LNPLAYLIVE_CULLER__ENROL = "false";
      };
      unitConfig.RequiresMountsFor = [ keys ];
      serviceConfig =
        hardening.base
        // hardening.internet
        // {
          Type = "oneshot";
          DynamicUser = true;
          RuntimeDirectory = "lnplaylive-culler";
          RuntimeDirectoryMode = "0700";
          LoadCredential = cfg.keyCredentials ++ [ "state:${keys}" ];
          EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
          ExecStartPre = layOut;
          ExecStart = "${cfg.package}/bin/lnplaylive-culler --config ${cfg.configFile}";
          TimeoutStartSec = "50min";
        };
    };

    systemd.timers.lnplaylive-culler = {
      description = "Timer for the removal of expired environments";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.culler.onCalendar;
        Persistent = true;
        RandomizedDelaySec = "10min";
      };
    };
  };
}
