# Wrong configurations of the host, and which sentence each is refused with.
{
  self,
  nixpkgs,
  lib,
  pkgs,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;

  # What a configuration is refused with: the messages of the assertions that do not hold.
  refusals =
    modules:
    let
      inherit
        (nixpkgs.lib.nixosSystem {
          modules = modules ++ [
            {
              nixpkgs.hostPlatform = system;
              system.stateVersion = "26.05";
            }
          ];
        })
        config
        ;
    in
    map (assertion: assertion.message) (lib.filter (assertion: !assertion.assertion) config.assertions);

  plain = [
    self.nixosModules.default
    {
      boot.loader.grub.enable = false;
      fileSystems."/" = {
        device = "none";
        fsType = "tmpfs";
      };
      services.lnplaylive = {
        enable = true;
        remotes.good = {
          tokenFile = "/run/secrets/token";
          settings.url = "https://203.0.113.7:8443";
        };
      };
    }
  ];
  aws = [
    self.nixosModules.default
    ../../nixos/images/aws
  ];
  host = settings: plain ++ [ { services.lnplaylive = settings; } ];
  remote =
    settings:
    host {
      remotes.other = {
        settings.url = "https://203.0.113.8:8443";
      }
      // settings;
    };

  backup =
    settings:
    host {
      backup = {
        bucket = "my-shop-backup";
        region = "eu-central-1";
        recipients = [ "age1wgxt6pw9rr792y3dymnlqr582qn7uzxpyshe7k4mjn40ru8psutqpjf8lh" ];
      }
      // settings;
    };

  monitored =
    settings: host (lib.recursiveUpdate (import ./monitored.nix) { monitoring = settings; });

  good = {
    plain = plain;
    aws = aws;
    monitored = monitored { };
    monitored-aws = aws ++ [ { services.lnplaylive = import ./monitored.nix; } ];
    with-a-backup = backup { };
    with-a-backup-elsewhere = backup {
      region = "";
      endpoint = "https://s3.example";
      credentialsFile = "/run/secrets/storage";
    };
    with-a-certificate = remote {
      certFile = "/etc/client.crt";
      keyFile = "/run/secrets/client.key";
      settings = {
        url = "https://203.0.113.8:8443";
        server_fingerprint = lib.concatStrings (lib.genList (_: "0") 64);
      };
    };
  };

  # Each with a part of the sentence.
  wrong = {
    token-in-the-store = {
      configuration = remote { tokenFile = "${pkgs.writeText "token" "secret"}"; };
      sentence = "remotes.other.tokenFile";
    };
    token-as-a-path-literal = {
      configuration = remote { tokenFile = ./assertions.nix; };
      sentence = "remotes.other.tokenFile";
    };
    key-in-the-store = {
      configuration = remote {
        certFile = "/etc/client.crt";
        keyFile = "${pkgs.writeText "key" "secret"}";
        settings = {
          url = "https://203.0.113.8:8443";
          server_fingerprint = "00";
        };
      };
      sentence = "remotes.other.keyFile";
    };
    environment-in-the-store = {
      configuration = host { environmentFile = "${pkgs.writeText "env" "X=1"}"; };
      sentence = "environmentFile";
    };
    password-in-the-store = {
      configuration = monitored { email.passwordFile = "${pkgs.writeText "password" "secret"}"; };
      sentence = "monitoring.email.passwordFile";
    };
    webhook-as-a-path-literal = {
      configuration = monitored { webhookUrlFile = ./assertions.nix; };
      sentence = "monitoring.webhookUrlFile";
    };
    two-networks = {
      configuration = plain ++ [
        {
          services.lnplaylive.network = "signet";
          services.clightning.network = "bitcoin";
        }
      ];
      sentence = "services.clightning.network is bitcoin and services.lnplaylive.network is signet";
    };
    frontend-without-a-domain-on-aws = {
      configuration = aws ++ [ { services.lnplaylive.frontend.enable = true; } ];
      sentence = "services.lnplaylive.domain";
    };
    remote-without-token-or-certificate = {
      configuration = remote { };
      sentence = "remotes.other: name a tokenFile, or certFile and keyFile";
    };
    certificate-without-a-fingerprint = {
      configuration = remote {
        certFile = "/etc/client.crt";
        keyFile = "/run/secrets/client.key";
      };
      sentence = "remotes.other: name a tokenFile, or certFile and keyFile";
    };
    backup-for-nobody = {
      configuration = backup { recipients = [ ]; };
      sentence = "services.lnplaylive.backup.recipients";
    };
    backup-without-a-region = {
      configuration = backup { region = ""; };
      sentence = "services.lnplaylive.backup.region";
    };
    backup-with-a-key-in-the-store = {
      configuration = backup { credentialsFile = "${pkgs.writeText "key" "secret"}"; };
      sentence = "services.lnplaylive.backup.credentialsFile";
    };
    websocket-for-everybody = {
      configuration = plain ++ [ { services.clightning.websocket = "0.0.0.0:9736"; } ];
      sentence = "services.clightning.websocket";
    };
  };

  accepted = lib.mapAttrsToList (
    name: configuration:
    let
      messages = refusals configuration;
    in
    lib.throwIf (
      messages != [ ]
    ) "${name} is refused: ${lib.concatStringsSep "; " messages}" "${name}: accepted"
  ) good;

  refused = lib.mapAttrsToList (
    name:
    { configuration, sentence }:
    let
      messages = refusals configuration;
      found = lib.filter (lib.hasInfix sentence) messages;
    in
    lib.throwIf (found == [ ])
      "${name} is not refused with \"${sentence}\": ${builtins.toJSON messages}"
      "${name}: ${builtins.unsafeDiscardStringContext (lib.head found)}"
  ) wrong;
in
pkgs.writeText "lnplaylive-assertions" (lib.concatLines (accepted ++ refused))
