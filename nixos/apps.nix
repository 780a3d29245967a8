# Programs for `nix run .#NAME`.
{
  self,
  lib,
  pkgs,
  ...
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  packages = self.packages.${system};
  rust = import ./rust.nix { inherit lib pkgs; };

  # The demo looks for other programs next to itself, and for the daemons on PATH.
  demo = pkgs.writeShellApplication {
    name = "demo";
    runtimeInputs = rust.daemons;
    text = ''
      # The pages of the shop; the simulated remote has none.
      [[ ''${1-} == remote ]] || set -- --frontend-dist ${packages.frontend-dist} "$@"
      exec ${packages.workspace}/bin/lnplaylive-demo "$@"
    '';
  };

  publishing = pkgs.python3Packages.buildPythonApplication {
    pname = "lnplaylive-aws";
    version = rust.version;
    src = ./publishing;
    pyproject = true;
    build-system = [ pkgs.python3Packages.setuptools ];
    dependencies = [ pkgs.python3Packages.boto3 ];
  };

  app = description: program: {
    type = "app";
    inherit program;
    meta = { inherit description; };
  };
in
{
  demo = app "Runs the whole shop on this machine" (lib.getExe demo);
  publish-aws-image = app "Publishes the AWS image as an AMI" "${publishing}/bin/publish-aws-image";
  deploy-aws = app "Deploys a shop on AWS" "${publishing}/bin/deploy-aws";
}
