# The operator of the host, at the end of the webhook: keeps all that is posted in /run/operator/alerts.
{ lib, pkgs, ... }:
{
  # Debian has none.
  services.grafana.enable = lib.mkForce false;

  systemd.sockets.operator = {
    requiredBy = [ "alertmanager.service" ];
    before = [ "alertmanager.service" ];
    socketConfig = {
      ListenStream = "127.0.0.1:9445";
      Accept = true;
    };
  };
  systemd.services."operator@" = {
    path = [ pkgs.coreutils ];
    serviceConfig = {
      StandardInput = "socket";
      StandardOutput = "socket";
      RuntimeDirectory = "operator";
      RuntimeDirectoryPreserve = true;
    };
    script = ''
      length=0
      while IFS= read -r line && line=''${line%$'\r'} && [[ -n $line ]]; do
        [[ ''${line,,} != content-length:* ]] || length=''${line##*: }
      done
      head --bytes="$length" >>/run/operator/alerts
      printf 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
    '';
  };
  systemd.services.alertmanager-webhook = {
    requiredBy = [ "alertmanager.service" ];
    before = [ "alertmanager.service" ];
    serviceConfig.Type = "oneshot";
    script = ''
      umask 077
      mkdir -p /run/secrets
      echo http://127.0.0.1:9445/ >/run/secrets/alert-webhook
    '';
  };
}
