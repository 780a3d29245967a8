# The AWS image, started as on EC2: with settings from a metadata service, and a blank volume for its state.
{
  self,
  nixpkgs,
  harness,
  ...
}:
{ lib, hostPkgs, ... }:
let
  pkgs = hostPkgs;
  imdsServer = import (pkgs.path + "/nixos/tests/common/imds-server.nix") { inherit pkgs; };

  # The only changes are access for the test driver, and the source of certificates.
  image =
    (nixpkgs.lib.nixosSystem {
      modules = [
        self.nixosModules.default
        ../../nixos/images/aws
        (pkgs.path + "/nixos/modules/testing/test-instrumentation.nix")
        (pkgs.path + "/nixos/modules/profiles/qemu-guest.nix")
        {
          nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
          amazonImage.format = "qcow2";
          # The driver's key.
          systemd.services."serial-getty@ttyS0".enable = lib.mkForce false;
          boot.kernelParams = lib.mkAfter [ "console=ttyS0" ];
          services.caddy.globalConfig = "local_certs";
        }
      ];
    }).config;
  disk = "${image.system.build.image}/${image.image.fileName}";

  userData =
    name:
    pkgs.writeText "user-data-${name}" ''
      [host]
      DEPLOY_LNPLAYLIVE_FRONTEND = true
      domain = "shop.example"
      network = "${name}"
      state_volume = true
    '';
in
{
  name = "lnplaylive-image";
  # Only for its QEMU; the script creates the machine under test.
  nodes.machine = { };

  testScript =
    { nodes, ... }:
    harness.prelude
    + ''
      import os
      import pathlib
      import shutil
      import subprocess
      import tempfile

      qemu = "${nodes.machine.virtualisation.qemu.package}"
      scratch = pathlib.Path(tempfile.mkdtemp())
      metadata = scratch / "metadata"
      state = scratch / "state.qcow2"
      for directory in ["1.0/meta-data/public-keys/0", "latest/api"]:
          (metadata / directory).mkdir(parents=True)
      (metadata / "1.0/meta-data/hostname").write_text("shop")
      (metadata / "1.0/meta-data/ami-manifest-path").write_text("(test)")
      (metadata / "1.0/meta-data/instance-id").write_text("i-1234567890abcdef0")
      (metadata / "1.0/meta-data/public-keys/0/openssh-key").write_text("ssh-ed25519 AAAA test")
      (metadata / "latest/api/token").write_text("token")
      shutil.copy("${userData "regtest"}", metadata / "1.0/user-data")
      subprocess.check_call([f"{qemu}/bin/qemu-img", "create", "-f", "qcow2", str(state), "8G"])


      def instance(name: str) -> Node:
          """Starts a new instance of the image, with the state volume."""
          directory = pathlib.Path(os.environ.get("TMPDIR", tempfile.gettempdir())) / f"vm-state-{name}"
          directory.mkdir(parents=True, exist_ok=True)
          root = directory / "root.qcow2"
          subprocess.check_call(
              [f"{qemu}/bin/qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", "${disk}", str(root), "40G"]
          )
          return create_machine(
              f"{qemu}/bin/qemu-kvm -m 2048 -smp 2"
              f" -drive file={root},if=virtio,werror=report -drive file={state},if=virtio,werror=report"
              " -device virtio-net-pci,netdev=ec2"
              " -netdev 'user,id=ec2,net=169.0.0.0/8,guestfwd=tcp:169.254.169.254:80-"
              f"cmd:${lib.getExe imdsServer} {metadata}' $QEMU_OPTS",
              name=name,
          )


      first = instance("first")
      first.start()

      with subtest("It becomes what its user-data says"):
          for unit in ["bitcoind-lnplaylive", "clightning", "lnplaylive-rune", "lnplaylive-frontend", "caddy"]:
              first.wait_for_unit(f"{unit}.service", timeout=300)
          shop = rpc(first, "getinfo")
          assert shop["network"] == "regtest", shop
          first.succeed(
              "curl --silent --fail --insecure --connect-to shop.example:443:127.0.0.1:443 https://shop.example/config.json"
          )

      with subtest("Its disk has grown, and what is kept is on the volume"):
          first.succeed("test $(findmnt --noheadings --bytes --output SIZE /) -gt 30000000000")
          first.succeed("findmnt /state | grep ext4")
          first.succeed("test -s /state/clightning/regtest/hsm_secret")

      with subtest("It never rebuilds itself, and its services cannot read its user-data"):
          first.fail("systemctl cat amazon-init.service")
          first.fail("runuser -u clightning -- cat /etc/ec2-metadata/user-data")

      with subtest("Another instance with the same volume is the same node"):
          first.shutdown()
          second = instance("second")
          second.start()
          second.wait_for_unit("clightning.service", timeout=300)
          assert rpc(second, "getinfo")["id"] == shop["id"]

      with subtest("On another network nothing starts, and the reason is said"):
          second.shutdown()
          shutil.copy("${userData "signet"}", metadata / "1.0/user-data")
          third = instance("third")
          third.start()
          third.wait_until_succeeds("journalctl -u lnplaylive-state | grep 'never changes its network'", timeout=300)
          third.fail("systemctl is-active clightning.service bitcoind-lnplaylive.service")
          third.shutdown()
    '';
}
