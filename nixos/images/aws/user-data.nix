# Converts the instance's user-data into the files that the services read, before any of them starts.
{ config, pkgs, ... }:
let
  cfg = config.services.lnplaylive;
  hardening = import ../../modules/hardening.nix;
  dir = "/run/lnplaylive";
  images = pkgs.linkFarm "lnplay-images" {
    inherit (cfg.images) container virtual-machine;
  };
in
{
  services.lnplaylive = {
    environmentFile = "${dir}/host.env";
    configFile = "${dir}/lnplaylive.toml";
    # backup_credentials, if there is such a file.
    backup.credentials = [ "backup:${dir}/backup" ];
    # Directories with files named tokens_REMOTE.token and keys_REMOTE.key.
    credentials = [
      "tokens:${dir}/tokens"
      "keys:${dir}/keys"
    ];
    keyCredentials = [ "keys:${dir}/keys" ];
  };
  services.clightning.includes = [ "${dir}/lightning.conf" ];

  # All our services start after this one, because they start after those of ./state.nix.
  systemd.services = {
    lnplaylive-user-data = {
      description = "Read settings from EC2 user-data";
      wantedBy = [ "multi-user.target" ];
      wants = [ "fetch-ec2-metadata.service" ];
      after = [ "fetch-ec2-metadata.service" ];
      serviceConfig = hardening.base // {
        Type = "oneshot";
        RemainAfterExit = true;
        RuntimeDirectory = "lnplaylive";
        RuntimeDirectoryMode = "0755";
        # The user-data contains secrets; the files that it writes are readable for root only.
        ExecStart = "${cfg.package}/bin/lnplaylive-user-data apply /etc/ec2-metadata/user-data --base ${cfg.checkedSettings} --images ${images} --out ${dir}";
        StandardError = "journal+console";
      };
    };
  };
}
