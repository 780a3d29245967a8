# The culler removes expired environments, and nothing else.
{ harness, ... }:
{
  name = "lnplaylive-cull";
  nodes.host.imports = [
    harness.host
    harness.incus
  ];
  testScript = harness.prelude + ''
    def project(name: str, **keys: str) -> None:
        config = " ".join(f"--config user.lnplaylive.{key}={value}" for key, value in keys.items())
        host.succeed(f"incus project create {name} --config features.images=false {config}")


    def names() -> set[str]:
        projects = json.loads(host.succeed("incus project list --format=json"))
        return {project["name"] for project in projects}


    host.wait_for_unit("clightning.service")
    # The key for the remote exists once the plugin has enrolled.
    host.wait_until_succeeds("test -s /var/lib/clightning/lnplaylive/remotes/here/server.fingerprint", timeout=120)

    now = int(host.succeed("date +%s"))
    over, later = str(now - 7200), str(now + 7200)
    order = "lnplaylive-{}-1111-4111-8111-111111111111"
    project(f"lnplaylive-{over}-aaaaaaaa", order=order.format("aaaaaaaa"), expires=over, state="provisioned")
    project(f"lnplaylive-{later}-bbbbbbbb", order=order.format("bbbbbbbb"), expires=later, state="provisioned")
    # Extended: the later of the two expiry times counts.
    project(f"lnplaylive-{over}-cccccccc", order=order.format("cccccccc"), expires=later, state="provisioned")
    # A project of somebody else, with a similar name.
    project(f"lnplaylive-{over}-dddddddd")
    project("mine")

    with subtest("One pass removes what is over"):
        host.succeed("systemctl start lnplaylive-culler.service")
        assert f"lnplaylive-{over}-aaaaaaaa" not in names()

    with subtest("And nothing else"):
        kept = {f"lnplaylive-{later}-bbbbbbbb", f"lnplaylive-{over}-cccccccc", f"lnplaylive-{over}-dddddddd", "mine"}
        assert kept <= names(), names()

    with subtest("The timer does it without being asked"):
        host.wait_for_unit("lnplaylive-culler.timer")
        host.succeed("systemctl list-timers lnplaylive-culler.timer | grep lnplaylive-culler.service")

    with subtest("It holds the remote's key and nothing of the node's"):
        user = host.succeed("systemctl show --property=DynamicUser --value lnplaylive-culler.service").strip()
        assert user == "yes", user
  '';
}
