# The host's backup, to a storage on the host itself. It is a WebDAV server: the upload is one request, PUT, which both answer alike.
{ pkgs, ... }:
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
      StateDirectory = "storage/backups/shop.example";
      ExecStart = "${pkgs.rclone}/bin/rclone serve webdav --config= --addr 127.0.0.1:9444 /var/lib/storage";
    };
    preStart = ''
      umask 077
      mkdir -p /run/secrets
      printf '[default]\naws_access_key_id = host\naws_secret_access_key = secret\n' >/run/secrets/storage
    '';
  };
}
