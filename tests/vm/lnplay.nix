# A single environment: eight nodes, which come back after a reboot.
{ self, harness, ... }:
let
  spec = builtins.toJSON {
    environment = "test";
    node_count = 8;
    block_time = 5;
    coin_distribution = "egalitarian";
    channel_setup = "circular";
    seed = 1;
    names = [ ];
    colors = [ ];
    ports = {
      listen_first = 20001;
      public_first = 20001;
    };
    public_url_template = "ws://127.0.0.1:{port}";
    connect_page = "https://shop.example/connect";
  };
in
{
  name = "lnplaylive-lnplay";
  nodes.environment =
    { lib, pkgs, ... }:
    {
      imports = [ self.nixosModules.lnplay ];
      virtualisation = {
        cores = 2;
        memorySize = 3072;
      };
      # The contents of cloud-init's seed, as from a server.
      services.cloud-init.enable = lib.mkForce false;
      environment.etc."spec.json".text = spec;
      environment.systemPackages = [ pkgs.curl ];
    };
  testScript = harness.prelude + ''
    environment.wait_for_unit("multi-user.target")

    with subtest("It comes up, and says how to reach its nodes"):
        lines = [json.loads(line) for line in environment.succeed("lnplay up - </etc/spec.json").splitlines()]
        strings = lines[-1]["connection_strings"]
        assert len(strings) == 8, lines[-1]

    with subtest("Its nodes answer"):
        for port in range(20001, 20009):
            assert upgraded(environment, f"http://127.0.0.1:{port}/"), port

    with subtest("It is the system's own unit that keeps it, and it comes back after a reboot"):
        environment.succeed("systemctl is-active lnplay.service")
        environment.shutdown()
        environment.start()
        environment.wait_for_unit("lnplay.service")
        for port in range(20001, 20009):
            environment.wait_until_succeeds(f"curl --silent http://127.0.0.1:{port}/ || test $? != 7", timeout=60)

    with subtest("Nobody gets in with a password"):
        environment.succeed("sshd -G | grep -i '^passwordauthentication no'")
        environment.succeed("sshd -G | grep -i '^permitrootlogin no'")
        environment.succeed("sshd -G | grep -i '^allowusers lnplay'")
        environment.succeed("sshd -G | grep -i '^forcecommand .*/lnplay session'")

    with subtest("Its daemons are users without privileges"):
        environment.succeed("test $(pgrep --euid root --count lightningd) = 0")
        environment.succeed("test $(pgrep --euid 50001 --count lightningd) = 1")
  '';
}
