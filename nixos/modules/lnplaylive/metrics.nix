# Metrics for this machine's Prometheus, on loopback. docs/operator.md lists them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkEnableOption mkOption types;
  cfg = config.services.lnplaylive;
  inherit (cfg.metrics) directory;
  backup = config.services.clightning.backup;
in
{
  options.services.lnplaylive.metrics = {
    enable = mkEnableOption ''
      metrics for Prometheus, on loopback: the machine's on port 9100, the web shop's on port 9101, the plugin's on port 9102
    '';
    directory = mkOption {
      type = types.path;
      default = "/var/lib/lnplaylive-metrics";
      description = "Directory for the metrics of what runs from time to time, which the machine's exporter reads.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.metrics.enable) {
    services.lnplaylive.settings = {
      shop.metrics_listen = "127.0.0.1:9102";
      frontend.metrics_listen = "127.0.0.1:9101";
      culler.metrics_file = "${directory}/culler.prom";
    };
    services.prometheus.exporters.node = {
      enable = true;
      listenAddress = "127.0.0.1";
      enabledCollectors = [ "systemd" ];
      extraFlags = [ "--collector.textfile.directory=${directory}" ];
    };

    # Members may write metrics, and everybody may read them: they have no names of orders or environments.
    users.groups.lnplaylive-metrics = { };
    systemd.tmpfiles.settings.lnplaylive-metrics.${directory}.d = {
      user = "root";
      group = "lnplaylive-metrics";
      mode = "0775";
    };
    systemd.services.lnplaylive-culler = lib.mkIf cfg.culler.enable {
      serviceConfig = {
        SupplementaryGroups = [ "lnplaylive-metrics" ];
        ReadWritePaths = [ directory ];
      };
    };

    systemd.services.clightning-backup = lib.mkIf backup.enable {
      path = [ pkgs.coreutils ];
      serviceConfig = {
        SupplementaryGroups = [ "lnplaylive-metrics" ];
        ReadWritePaths = [ directory ];
        # Only runs if the copies were made.
        ExecStartPost = "${pkgs.writeShellScript "backup-metrics" (builtins.readFile ./backup-metrics.sh)} ${directory}/backup.prom";
      };
    };
    systemd.services.lnplaylive-backup = lib.mkIf backup.enable {
      path = [ pkgs.coreutils ];
      serviceConfig = {
        SupplementaryGroups = [ "lnplaylive-metrics" ];
        ReadWritePaths = [ directory ];
        # Only runs if all was uploaded: otherwise the metric gets older.
        ExecStartPost = "${pkgs.writeShellScript "upload-metrics" (builtins.readFile ./upload-metrics.sh)} ${backup.directory} ${backup.directory}/uploaded ${directory}/upload.prom";
      };
    };
    # Beside the watch, so that the time of the last copy says whether copies can be made.
    systemd.timers.clightning-backup = lib.mkIf backup.enable {
      description = "Copy Core Lightning's secret and channel backup each hour";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = "hourly";
        RandomizedDelaySec = "10min";
      };
    };
  };
}
