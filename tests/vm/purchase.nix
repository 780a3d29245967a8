# A purchase, with environments in containers of a real Incus, from the image that the host uploads.
{ harness, ... }:
{
  name = "lnplaylive-purchase";
  nodes = {
    inherit (harness) customer;
    host.imports = [
      harness.host
      harness.incus
    ];
  };
  testScript =
    harness.prelude
    + builtins.readFile ./harness/purchase.py
    + ''

      with subtest("There is a project for each order, and no more"):
          projects = json.loads(host.succeed("incus project list --format=json"))
          ours = [project["name"] for project in projects if project["name"].startswith("lnplaylive-")]
          assert len(ours) == 3, ours

      with subtest("An environment comes back with its remote"):
          host.succeed(f"incus restart lnplay --project={ours[0]}")
          host.wait_until_succeeds(f"incus exec lnplay --project={ours[0]} -- lnplay status | grep running", timeout=120)
    '';
}
