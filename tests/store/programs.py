"""Which Debian packages stand for which package of nixpkgs, by its pname.

A view has the programs that the package of nixpkgs has: what is missing there must be missing here.
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class View:
    """What stands in a package's place in the store."""

    # Debian packages whose programs are in its bin directory; PACKAGE:PROGRAM is one of them alone.
    debian: tuple[str, ...] = ()
    # Directories of what is not Debian's, copied whole.
    ours: tuple[str, ...] = ()
    # Programs by their name in nixpkgs.
    renamed: dict[str, str] = field(default_factory=dict)
    # Programs that are links, with what they lead to.
    links: dict[str, str] = field(default_factory=dict)
    # Programs that are written here.
    scripts: dict[str, str] = field(default_factory=dict)
    # It is a file, with this in it.
    text: str = ""
    # Packages of nixpkgs whose programs its own find whatever their PATH: it wraps them.
    wrapped_with: tuple[str, ...] = ()
    # Data, by its place in the package.
    data: dict[str, str] = field(default_factory=dict)
    # Other files that are written here.
    texts: dict[str, str] = field(default_factory=dict)
    # Has systemd's units and helpers.
    systemd: bool = False


def debian(*packages: str) -> View:
    """Return a view of the programs of Debian packages."""
    return View(debian=packages)


# Modules of PAM.
_SECURITY = "/usr/lib/x86_64-linux-gnu/security"

# What Debian's programs start by a path of their own, where nixpkgs' have one in the store. No PATH leads to /usr/bin.
COMPILED_IN = (
    "mount",
    "umount",
    "swapon",
    "swapoff",
    "sulogin",
    "fsck",
    "mkfs.ext4",
    "dbus-broker",
    "systemctl",
    "unix_chkpwd",
)

# The generators that nixpkgs builds systemd with. Debian has some more, and so have other packages of its.
GENERATORS = (
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-factory-reset-generator",
    "systemd-fstab-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-import-generator",
    "systemd-integritysetup-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-tpm2-generator",
    "systemd-veritysetup-generator",
)

# Units that nixpkgs picks from systemd and these packages of Debian's do not have: boot loaders, TPMs and consoles.
MISSING_UNITS = (
    "systemd-bless-boot.service",
    "systemd-boot-random-seed.service",
    "systemd-bootctl.socket",
    "systemd-bootctl@.service",
    "systemd-pcrextend.socket",
    "systemd-pcrextend@.service",
    "systemd-pcrlock.socket",
    "systemd-pcrlock@.service",
    "systemd-tpm2-clear.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    "systemd-update-utmp.service",
    "systemd-vconsole-setup.service",
)

_systemd = View(
    debian=(
        "systemd",
        "systemd-sysv",
        "udev",
        "systemd-container",
        "systemd-coredump",
        "systemd-cryptsetup",
        "systemd-repart",
    ),
    data={"lib/security": _SECURITY},
    systemd=True,
)
_util_linux = View(
    debian=("util-linux", "mount", "bsdutils", "fdisk", "util-linux-extra", "login"),
    data={"lib/security": _SECURITY},
    texts={"lib/tmpfiles.d/lastlog2-tmpfiles.conf": "d /var/lib/lastlog 0755 root root -\n"},
)
_bash = View(debian=("bash",), links={"sh": "bash"})
_certificates = "/usr/share/boot-certificates.crt"

VIEWS: dict[str, View] = {
    "acl": debian("acl"),
    "age": debian("age"),
    "alertmanager": View(debian=("prometheus-alertmanager",), renamed={"alertmanager": "prometheus-alertmanager"}),
    "attr": debian("attr"),
    "bash": _bash,
    "bash-interactive": _bash,
    "bitcoind": View(ours=("bitcoind",)),
    "busybox": debian("busybox-static"),
    "bzip2": debian("bzip2"),
    "caddy": debian("caddy"),
    "clightning": View(ours=("clightning",)),
    "cloud-init": View(debian=("cloud-init",), wrapped_with=("dmidecode", "cloud-utils", "busybox")),
    "cloud-utils": View(
        debian=("cloud-guest-utils",), wrapped_with=("e2fsprogs", "gptfdisk", "gawk", "gnused", "util-linux")
    ),
    "coreutils": debian("coreutils"),
    "coreutils-full": debian("coreutils"),
    "cpio": debian("cpio"),
    "curl": debian("curl"),
    "dash": debian("dash"),
    "dbus": View(
        debian=("dbus-bin", "dbus-daemon", "dbus", "dbus-system-bus-common"), data={"share/dbus-1": "/usr/share/dbus-1"}
    ),
    "dbus-broker": debian("dbus-broker"),
    # Nothing to be indexed for a desktop.
    "desktop-file-utils": View(scripts={"update-desktop-database": "#!/bin/sh\n"}),
    # Without the user _dhcpcd, which only Debian has, it separates no privileges. nixpkgs builds it without.
    "dhcpcd": debian("dhcpcd-base"),
    "diffutils": debian("diffutils"),
    "dmidecode": debian("dmidecode"),
    "e2fsprogs": debian("e2fsprogs"),
    "envsubst": View(scripts={"envsubst": (Path(__file__).parent / "envsubst").read_text()}),
    "file": debian("file"),
    "findutils": debian("findutils"),
    "fontconfig": View(scripts={"fc-cache": "#!/bin/sh\n"}),
    "gawk": View(debian=("gawk",), links={"awk": "gawk"}),
    "glibc": View(debian=("libc-bin",), data={"etc/rpc": "/debian-etc/rpc"}),
    "getconf-glibc": debian("libc-bin:getconf"),
    "gnugrep": debian("grep"),
    "gnused": debian("sed"),
    "gnutar": debian("tar"),
    "gptfdisk": debian("gdisk"),
    "gzip": debian("gzip"),
    "hostname-debian": debian("hostname"),
    "iana-etc": View(data={"etc/services": "/debian-etc/services", "etc/protocols": "/debian-etc/protocols"}),
    "iproute2": debian("iproute2"),
    "iptables": View(
        debian=("iptables",),
        links={
            f"{family}tables{kind}": "xtables-nft-multi"
            for family in ("ip", "ip6")
            for kind in ("", "-save", "-restore")
        },
    ),
    "iputils": debian("iputils-ping"),
    "jq": debian("jq"),
    "json2x": View(scripts={"json2x": (Path(__file__).parent / "json2x").read_text()}),
    "kbd": debian("kbd"),
    "kmod-blacklist": View(texts={"modprobe.conf": ""}),
    "kmod": debian("kmod"),
    "less": debian("less"),
    "libcap": debian("libcap2-bin"),
    "libxslt": debian("xsltproc"),
    "linux-pam": View(debian=("libpam-modules-bin",), data={"lib/security": _SECURITY}),
    "lndir": debian("xutils-dev:lndir"),
    "lnplaylive-workspace": View(ours=("lnplaylive",)),
    # The machine is started with Debian's.
    "linux": View(texts={"bzImage": ""}),
    "logrotate": debian("logrotate"),
    # No volumes of its kind here.
    "lvm2": View(texts={"lib/tmpfiles.d/lvm2.conf": "d /run/lock/lvm 0700 root root -\n"}),
    "lzip": debian("lzip"),
    "mktemp": debian("coreutils:mktemp"),
    "net-tools": debian("net-tools"),
    "ncurses": debian("ncurses-bin"),
    "node_exporter": View(debian=("prometheus-node-exporter",), renamed={"node_exporter": "prometheus-node-exporter"}),
    "nss-cacert": View(
        data={"etc/ssl/certs/ca-bundle.crt": _certificates, "etc/ssl/trust-source": "/usr/share/ca-certificates"}
    ),
    # The rules are also checked with it where they are made, as on the machine that builds them.
    "nftables": debian("nftables"),
    # There is none in Debian; without it, glibc looks names up itself.
    "nsncd": View(scripts={"nsncd": "#!/bin/sh\nexec systemd-notify --ready --exec \\; sleep infinity\n"}),
    "openresolv": debian("openresolv"),
    "openssh": View(
        debian=("openssh-client", "openssh-common", "openssh-server", "openssh-sftp-server"),
        data={"etc/ssh/moduli": "/debian-etc/ssh/moduli", "libexec/sftp-server": "/usr/lib/openssh/sftp-server"},
    ),
    "perl": debian("perl", "perl-base"),
    "procps": debian("procps"),
    "prometheus": debian("prometheus"),
    "rclone": debian("rclone"),
    "shared-mime-info": View(scripts={"update-mime-database": "#!/bin/sh\n"}),
    "remarshal": View(scripts={"json2yaml": (Path(__file__).parent / "json2yaml").read_text()}),
    "shadow": debian("passwd", "login", "uidmap", "util-linux:su", "util-linux-extra:newgrp", "util-linux-extra:sg"),
    "sudo": debian("sudo"),
    # Nothing switches to another system here.
    "switch-to-configuration": View(scripts={"switch-to-configuration": "#!/bin/sh\nexit 1\n"}),
    "systemd": _systemd,
    "systemd-minimal": _systemd,
    "tzdata": View(data={"share/zoneinfo": "/usr/share/zoneinfo"}),
    "util-linux": _util_linux,
    "util-linux-minimal": _util_linux,
    "xz": debian("xz-utils"),
    "zstd": debian("zstd"),
}

_EMPTY = View()


def special(name: str) -> View | None:
    """What stands for a derivation that is not a package of nixpkgs, and is not built either."""
    # They are compiled for each program; what they would start, nobody starts here.
    if name.startswith("security-wrapper-"):
        return View(debian=("coreutils:true",), renamed={"security-wrapper": "true"})
    if name.startswith("initrd-linux-"):
        return View(texts={"initrd": ""})
    # The settings name its files. Who wants the image has it already.
    if re.fullmatch(r"lnplay-(container|vm)-image", name):
        # Just enough for a simulated remote, which looks at the beginning of what is uploaded.
        return View(texts={"metadata.tar.xz": "\0" * 257 + "ustar", "rootfs": "hsqs"})
    if name.startswith("firmware"):
        return _EMPTY
    # Debian's finds its modules by itself.
    if name.startswith("perl-") and name.endswith("-env"):
        return VIEWS["perl"]
    if name.startswith(("50-coredump.conf", "kmod-debian-aliases.conf")):
        return View(text="# Not here\n")
    if name.startswith("linux-config-"):
        return View(text="CONFIG_ARCH_MMAP_RND_BITS_MAX=32\nCONFIG_ARCH_MMAP_RND_COMPAT_BITS_MAX=16\n")
    return None


# What else the machine is made of: its kernel, libraries that programs load, and what stands for no one package of
# nixpkgs.
OTHERS = (
    "busybox-static",
    "ca-certificates",
    "libconfig-inifiles-perl",
    "libfile-slurp-perl",
    "libjson-perl",
    "libjson-xs-perl",
    "libnss-systemd",
    "libpam-modules",
    "libpam-systemd",
    # systemd loads it when a unit has a filter for system calls.
    "libseccomp2",
    "linux-image-cloud-amd64",
    "ncurses-base",
    "python3",
    "netbase",
    "systemd-oomd",
    "systemd-timesyncd",
    "systemd-userdbd",
    "tzdata",
)


def main() -> None:
    """Print the Debian packages for all packages of nixpkgs, or for those named by arguments, one a line."""
    views = [VIEWS[name] for name in sys.argv[1:]] or [*VIEWS.values(), debian(*OTHERS)]
    print("\n".join(sorted({source.split(":")[0] for view in views for source in view.debian})))


if __name__ == "__main__":
    main()
