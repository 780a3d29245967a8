# The Rust workspace: its programs, and its lints and tests as derivations.
{ lib, pkgs }:
let
  root = ../.;
  version = (lib.importTOML (root + "/Cargo.toml")).workspace.package.version;

  # Only the files that cargo reads, so that a change of a module or a page rebuilds nothing here.
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      (root + "/.cargo")
      (root + "/.config")
      (root + "/Cargo.lock")
      (root + "/Cargo.toml")
      (root + "/clippy.toml")
      (root + "/crates")
      # Read by tests.
      (root + "/docs/operator.md")
      (root + "/frontend/src/lib/lnplay.fixture.json")
      (root + "/nixos/images/user-data.example")
      (root + "/nixos/modules/clightning-backup.sh")
      (root + "/nixos/modules/lnplaylive/backup-upload.sh")
      (root + "/nixos/modules/lnplaylive/caddy-servers")
      (root + "/nixos/modules/lnplaylive/connections.nft")
      (root + "/rustfmt.toml")
      (root + "/tests/e2e")
      (root + "/tests/fuzz")
      (root + "/tests/nix/remotes.json")
      (root + "/tests/soak")
    ];
  };

  common = {
    inherit version src;
    cargoLock.lockFile = root + "/Cargo.lock";
    strictDeps = true;
  };
  build = args: pkgs.rustPlatform.buildRustPackage (common // args);

  # The daemons that the tests start.
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

  # All programs of the workspace, including the demo and the stand-ins. The tests run in a derivation of their own.
  workspace = build {
    pname = "lnplaylive-workspace";
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

  # The tests find the daemons on PATH. They need loopback, which the sandbox provides.
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
