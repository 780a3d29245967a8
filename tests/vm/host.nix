# The host: its units start, its TLS front end serves only the shop, and a reboot changes nothing.
{ harness, ... }:
{
  name = "lnplaylive-host";

  nodes = {
    inherit (harness) customer;
    host = harness.host;
    # The default, without DEPLOY_LNPLAYLIVE_FRONTEND.
    quiet =
      { lib, ... }:
      {
        imports = [ harness.host ];
        services.lnplaylive.frontend.enable = lib.mkForce false;
      };
  };

  testScript = harness.prelude + ''
    start_all()
    units = ["bitcoind-lnplaylive", "clightning", "lnplaylive-rune", "lnplaylive-frontend", "caddy"]

    with subtest("Every unit comes up, and stays up"):
        for unit in units:
            host.wait_for_unit(f"{unit}.service")
        host.wait_for_unit("lnplaylive-culler.timer")
        host.succeed("systemctl start lnplaylive-culler.service")
        host.wait_for_file("/var/backup/clightning/regtest/hsm_secret")
        failed = host.succeed("systemctl list-units --failed --plain --no-legend").strip()
        assert failed == "", failed

    public = "/var/lib/lnplaylive"
    rune = host.succeed(f"cat {public}/rune").strip()
    shop = rpc(host, "getinfo")["id"]

    with subtest("The shop is served over TLS 1.3, and only that"):
        host.wait_for_file("/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt")
        root = host.succeed("cat /var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt")
        customer.succeed(f"echo {shlex.quote(root)} >/tmp/root.crt")
        get = "curl --silent --show-error --fail --cacert /tmp/root.crt"
        customer.wait_until_succeeds(f"{get} https://host/ | grep -i '<!doctype html'", timeout=60)
        config = json.loads(customer.succeed(f"{get} https://host/config.json"))
        assert config["node_id"] == shop and config["rune"] == rune, config
        customer.fail(f"{get} --tls-max 1.2 https://host/")
        customer.succeed("curl --silent --output /dev/null --write-out '%{http_code}' http://host/ | grep ^308")
        assert upgraded(customer, "https://host/ws")
        for port in [3000, 9736, 9101, 18443]:
            customer.fail(f"curl --max-time 3 --silent http://host:{port}/")

    with subtest("The rune reaches what anybody may call, and nothing else"):
        customer.wait_for_unit("clightning.service")
        customer.succeed(f"lightning-cli connect {shop} host 9735")

        call = f"lightning-cli --keywords commando peer_id={shop} rune={rune}"
        customer.succeed(f"{call} method=lnplaylive-products")
        for method in ["getinfo", "lnplayops-orders", "createrune", "stop"]:
            customer.fail(f"{call} method={method}")

    with subtest("Visitors get tickets, and the products without asking the node"):
        mode = host.succeed(f"stat --format '%a %U %G' {public}/ticket_key").strip()
        assert mode == "640 clightning lnplaylive-public", mode
        ticket = json.loads(customer.succeed(f"{get} --request POST https://host/tickets"))
        assert len(ticket["ticket"]) == 98, ticket
        products = json.loads(customer.wait_until_succeeds(f"{get} https://host/products", timeout=60))
        assert products["products"], products

    with subtest("A node that is killed comes back, and the front door with it"):
        host.succeed("systemctl kill --signal=KILL clightning.service")
        host.wait_until_succeeds("lightning-cli getinfo", timeout=120)
        customer.wait_until_succeeds("curl --silent --fail --cacert /tmp/root.crt https://host/healthz", timeout=60)

    with subtest("A reboot changes neither node nor rune"):
        host.shutdown()
        host.start()
        for unit in units:
            host.wait_for_unit(f"{unit}.service")
        assert rpc(host, "getinfo")["id"] == shop
        assert host.succeed(f"cat {public}/rune").strip() == rune

    with subtest("Without DEPLOY_LNPLAYLIVE_FRONTEND there is no front door, and nothing has failed"):
        quiet.wait_for_unit("lnplaylive-rune.service")
        for unit in ["caddy", "lnplaylive-frontend"]:
            state = quiet.succeed(f"systemctl show --property=ActiveState --value {unit}.service").strip()
            assert state == "inactive", (unit, state)
        failed = quiet.succeed("systemctl list-units --failed --plain --no-legend").strip()
        assert failed == "", failed
  '';
}
