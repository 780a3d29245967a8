# A purchase on the simulated remote: like `purchase`, but without containers.
{ harness, ... }:
{
  name = "lnplaylive-purchase-simulated";
  nodes = {
    inherit (harness) customer;
    host.imports = [
      harness.host
      harness.simulated
    ];
  };
  testScript = harness.prelude + builtins.readFile ./harness/purchase.py;
}
