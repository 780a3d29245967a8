# The host's backup, to a storage with the API of S3 on the host itself, whose buckets are directories.
{ pkgs, ... }:
let
  key = "host,key-of-the-storage";
in
{
  services.lnplaylive.backup = {
    bucket = "backups";
    endpoint = "http://127.0.0.1:9444";
    # Nobody has its secret key.
    recipients = [ "age1wgxt6pw9rr792y3dymnlqr582qn7uzxpyshe7k4mjn40ru8psutqpjf8lh" ];
    credentialsFile = "/run/secrets/storage";
  };

  systemd.services.storage = {
    requiredBy = [ "clightning.service" ];
    before = [ "clightning.service" ];
    serviceConfig = {
      StateDirectory = "storage/backups";
      ExecStart = "${pkgs.rclone}/bin/rclone serve s3 --config= --addr 127.0.0.1:9444 --auth-key ${key} /var/lib/storage";
    };
    preStart = ''
      umask 077
      mkdir -p /run/secrets
      printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' ${
        builtins.replaceStrings [ "," ] [ " " ] key
      } >/run/secrets/storage
    '';
  };
}
