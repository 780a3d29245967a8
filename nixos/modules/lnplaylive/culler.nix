# The culler: removes what has expired from the remotes, about hourly.
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

  # The plugin's client keys, DIR/REMOTE/FILE, reach this service as credentials, whose names are flat: state_REMOTE_FILE. Put
  # back in place here, they are a state directory of its own: it never sees the node's, nor runs as its user. Enrolment tokens
  # it is not given: they can be used once, by the plugin.
  layOut = pkgs.writeShellScript "lnplaylive-culler-keys" ''
    set -eu
    for file in "$CREDENTIALS_DIRECTORY"/state_*; do
      name=''${file##*/state_}
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
    enable = lib.mkEnableOption "removing expired environments" // {
      default = true;
    };
    onCalendar = mkOption {
      type = types.str;
      default = "hourly";
      description = "When.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.culler.enable) {
    # There, even before the plugin has made any: what is to be loaded must exist.
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
      description = "Removal of expired environments";
      wants = [ "network-online.target" ];
      after = [
        "clightning.service"
        "network-online.target"
      ];
      path = [ pkgs.coreutils ];
      environment = {
        LNPLAYLIVE_STATE_DIR = "/run/lnplaylive-culler";
        # It has no tokens, and the keys that it would enrol with are gone with the pass.
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
      description = "Removal of expired environments, from time to time";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.culler.onCalendar;
        Persistent = true;
        RandomizedDelaySec = "10min";
      };
    };
  };
}
