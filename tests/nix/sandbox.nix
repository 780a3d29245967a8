# The derivation that runs the Rust tests, and what its build sees: for ./sandbox.
{ nixpkgs }:
let
  inherit (import ./load.nix { inherit nixpkgs; }) self lib;
  inherit (self.checks.x86_64-linux) tests;
  inherit (tests) stdenv;
in
{
  drv = tests.drvPath;
  source = "${tests.src}";
  inherit (tests) buildPhase checkPhase;
  rustLog = tests.RUST_LOG;
  # The packages whose programs are on PATH.
  packages = map lib.getName (stdenv.initialPath ++ [ stdenv.cc ] ++ tests.nativeBuildInputs);
}
