# What `nix run .#NAME` runs.
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

  # Finds the programs that it starts beside itself, and the daemons on PATH.
  demo = pkgs.writeShellApplication {
    name = "demo";
    runtimeInputs = rust.daemons;
    text = ''
      # The shop's pages, for whoever shows a shop.
      [[ ''${1-} == remote ]] || set -- --frontend-dist ${packages.frontend-dist} "$@"
      exec ${packages.lnplaylive}/bin/lnplaylive-demo "$@"
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
  demo = app "The whole business on this machine" (lib.getExe demo);
  publish-aws-image = app "Makes an AMI of the AWS image" "${publishing}/bin/publish-aws-image";
  deploy-aws = app "Runs a shop on AWS" "${publishing}/bin/deploy-aws";
}
