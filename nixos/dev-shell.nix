# Everything that `tests/run` and `cargo demo` need.
{ lib, pkgs, ... }:
let
  rust = import ./rust.nix { inherit lib pkgs; };
in
{
  default = pkgs.mkShell {
    packages =
      rust.daemons
      ++ (with pkgs; [
        awscli2
        cargo
        cargo-nextest
        chromium
        clippy
        deadnix
        gcc
        git
        incus.client
        jq
        nixfmt
        nodejs_24
        rust-analyzer
        rustc
        rustfmt
        shellcheck
        statix
        (python3.withPackages (python: [
          python.boto3
          python.mypy
          python.pytest
          python.ruff
        ]))
      ]);
    RUST_SRC_PATH = "${pkgs.rustPlatform.rustLibSrc}";
    # Playwright's own browsers do not run on NixOS.
    CHROMIUM = lib.getExe pkgs.chromium;
  };
}
