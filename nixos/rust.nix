# The Rust workspace: its programs, and its lints and tests as derivations that are built to be checked.
{ lib, pkgs }:
let
  root = ../.;
  version = (lib.importTOML (root + "/Cargo.toml")).workspace.package.version;

  # What cargo reads, and nothing else: a changed module or page rebuilds no program.
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      (root + "/.cargo")
      (root + "/.config")
      (root + "/Cargo.lock")
      (root + "/Cargo.toml")
      (root + "/clippy.toml")
      (root + "/crates")
      # A test reads it.
      (root + "/nixos/images/user-data.example")
      (root + "/rustfmt.toml")
      (root + "/tests/e2e")
    ];
  };

  common = {
    inherit version src;
    cargoLock.lockFile = root + "/Cargo.lock";
    strictDeps = true;
  };
  build = args: pkgs.rustPlatform.buildRustPackage (common // args);

  # What our programs start, and so all that the tests need besides a standard environment.
  daemons = [
    pkgs.bitcoind
    pkgs.clightning
    pkgs.openssh
  ];
in
{
  inherit version src;

  frontendDist = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.maybeMissing (root + "/frontend-dist");
  };

  # All programs. Their tests are a check of their own.
  lnplaylive = build {
    pname = "lnplaylive";
    doCheck = false;
    meta = {
      description = "Sells private Lightning networks by the hour";
      license = lib.licenses.mit;
      mainProgram = "lnplaylive-demo";
      platforms = lib.platforms.linux;
    };
  };

  clippy = build {
    pname = "lnplaylive-clippy";
    nativeBuildInputs = [ pkgs.clippy ];
    buildPhase = "cargo clippy --offline --workspace --all-targets -- -D warnings";
    doCheck = false;
    auditable = false;
    installPhase = "touch $out";
  };

  # The tests find the daemons on PATH; they need loopback, which the sandbox has.
  tests = build {
    pname = "lnplaylive-tests";
    nativeCheckInputs = daemons;
    buildPhase = "cargo build --offline --workspace --bins --examples --tests";
    checkPhase = ''
      export HOME=$(mktemp --directory) TESTBED_BIN_DIR=$PWD/target/debug
      cargo nextest run --offline --workspace
    '';
    nativeBuildInputs = [ pkgs.cargo-nextest ];
    auditable = false;
    installPhase = "touch $out";
  };

  fmt =
    pkgs.runCommand "lnplaylive-fmt"
      {
        nativeBuildInputs = [
          pkgs.cargo
          pkgs.rustfmt
        ];
      }
      ''
        cd ${src} && cargo fmt --all --check && touch $out
      '';

  inherit daemons;
}
