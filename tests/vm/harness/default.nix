# Machines and helpers for the tests.
{ self, lib }:
let
  rpc = {
    user = "test";
    password = "test";
  };
in
{
  # The beginning of every script.
  prelude = builtins.readFile ./prelude.py;

  # The host, on a regtest network whose blocks the customer mines, with locally signed certificates.
  host =
    { pkgs, ... }:
    {
      imports = [ self.nixosModules.default ];
      virtualisation = {
        cores = 2;
        memorySize = 2048;
        diskSize = 8192;
      };
      services.lnplaylive = {
        enable = true;
        network = "regtest";
        domain = "host";
        frontend.enable = true;
        openFirewall = true;
      };
      services.bitcoind.lnplaylive.extraCmdlineOptions = [ "-addnode=customer:18444" ];
      # No authority signs certificates for a host without a public domain.
      services.caddy.globalConfig = "local_certs";
      environment.systemPackages = [
        pkgs.curl
        pkgs.jq
      ];
    };

  # The buyer: a node with coins of a chain that it mines itself.
  customer =
    { pkgs, ... }:
    {
      imports = [ self.nixosModules.clightning ];
      virtualisation.memorySize = 1536;
      services.bitcoind.customer = {
        enable = true;
        extraConfig = ''
          regtest=1
          server=1
          rpcuser=${rpc.user}
          rpcpassword=${rpc.password}
          [regtest]
          bind=0.0.0.0:18444
        '';
      };
      services.clightning = {
        enable = true;
        network = "regtest";
        backup.enable = false;
        bitcoin = {
          group = "nogroup";
          unit = "bitcoind-customer.service";
          dataDir = "${pkgs.writeTextDir "bitcoin.conf" ''
            rpcuser=${rpc.user}
            rpcpassword=${rpc.password}
          ''}";
        };
      };
      networking.firewall.enable = false;
      environment.systemPackages = [
        pkgs.curl
        pkgs.jq
        (pkgs.writeShellScriptBin "bitcoin" ''
          exec ${pkgs.bitcoind}/bin/bitcoin-cli -regtest -rpcuser=${rpc.user} -rpcpassword=${rpc.password} "$@"
        '')
      ];
    };

  # A remote on the host: a real Incus, with environments in containers.
  incus =
    { pkgs, ... }:
    {
      virtualisation = {
        memorySize = lib.mkForce 6144;
        diskSize = lib.mkForce 20480;
        incus = {
          enable = true;
          preseed = {
            config."core.https_address" = "127.0.0.1:8443";
            networks = [
              {
                name = "incusbr0";
                type = "bridge";
                config = {
                  "ipv4.address" = "10.0.10.1/24";
                  "ipv4.nat" = "true";
                };
              }
            ];
            storage_pools = [
              {
                name = "default";
                driver = "dir";
              }
            ];
            profiles = [
              {
                name = "default";
                devices = {
                  eth0 = {
                    name = "eth0";
                    network = "incusbr0";
                    type = "nic";
                  };
                  root = {
                    path = "/";
                    pool = "default";
                    type = "disk";
                  };
                };
              }
            ];
          };
        };
      };
      networking.nftables.enable = true;
      networking.firewall.trustedInterfaces = [ "incusbr0" ];

      # A token, issued by the server before the node starts.
      systemd.services.remote-token = {
        requiredBy = [ "clightning.service" ];
        before = [ "clightning.service" ];
        after = [ "incus-preseed.service" ];
        requires = [ "incus-preseed.service" ];
        path = [ pkgs.incus.client ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          UMask = "0077";
        };
        script = ''
          mkdir -p /run/secrets
          [ -s /var/lib/remote-token ] || incus config trust add lnplaylive --quiet >/var/lib/remote-token
          cp /var/lib/remote-token /run/secrets/here
        '';
      };
      services.lnplaylive.remotes.here = {
        tokenFile = "/run/secrets/here";
        settings = {
          url = "https://127.0.0.1:8443";
          instance_type = "container";
          # Its pool is of the kind `dir`.
          unlimited_disk = true;
        };
      };
    };

  # The simulated remote, which runs environments as processes.
  simulated =
    { config, pkgs, ... }:
    let
      cfg = config.services.lnplaylive;
    in
    {
      virtualisation.memorySize = lib.mkForce 3072;
      systemd.services.remote = {
        requiredBy = [ "clightning.service" ];
        before = [ "clightning.service" ];
        path = [
          cfg.bitcoind.package
          config.services.clightning.package
          pkgs.openssh
        ];
        serviceConfig = {
          StateDirectory = "remote";
          WorkingDirectory = "/var/lib/remote";
          ExecStart = "${
            self.packages.${pkgs.stdenv.hostPlatform.system}.workspace
          }/bin/lnplaylive-demo remote --listen 127.0.0.1:8443";
          # Not in its state directory, which is created after this file is opened.
          StandardOutput = "truncate:/run/remote.announcement";
          ExecStartPost = pkgs.writeShellScript "remote-token" ''
            until [ -s /run/remote.announcement ]; do ${pkgs.coreutils}/bin/sleep 0.2; done
            umask 077
            ${pkgs.coreutils}/bin/mkdir -p /run/secrets
            ${lib.getExe pkgs.jq} --raw-output .token /run/remote.announcement >/run/secrets/here
          '';
        };
      };
      services.lnplaylive.remotes.here = {
        tokenFile = "/run/secrets/here";
        settings = {
          url = "https://127.0.0.1:8443";
          instance_type = "container";
        };
      };
    };
}
