# What a system is told whose programs are Debian's.
{
  # They find their loader where NixOS has a stub, or nothing.
  environment.stub-ld.enable = false;
  environment.ldso = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
  # Where sshd locks itself in.
  systemd.tmpfiles.settings.debian."/run/sshd".d = { };
}
