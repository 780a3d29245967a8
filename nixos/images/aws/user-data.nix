# User-data, turned into the files that services are started with, before any of them.
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
    # Every file in them, as tokens_REMOTE.token and keys_REMOTE.key.
    credentials = [
      "tokens:${dir}/tokens"
      "keys:${dir}/keys"
    ];
    keyCredentials = [ "keys:${dir}/keys" ];
  };
  services.clightning.includes = [ "${dir}/lightning.conf" ];

  # All of ours starts after it, because it starts after ./state.nix does.
  systemd.services = {
    lnplaylive-user-data = {
      description = "Settings from EC2 user-data";
      wantedBy = [ "multi-user.target" ];
      wants = [ "fetch-ec2-metadata.service" ];
      after = [ "fetch-ec2-metadata.service" ];
      serviceConfig = hardening.base // {
        Type = "oneshot";
        RemainAfterExit = true;
        RuntimeDirectory = "lnplaylive";
        RuntimeDirectoryMode = "0755";
        # It writes secrets that only root may read, as the user-data is.
        ExecStart = "${cfg.package}/bin/lnplaylive-user-data apply /etc/ec2-metadata/user-data --base ${cfg.checkedSettings} --images ${images} --out ${dir}";
        StandardError = "journal+console";
      };
    };
  };
}
