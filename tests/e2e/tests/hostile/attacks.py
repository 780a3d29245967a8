"""What somebody who is root in an instance does to get at what is not theirs:   attacks.py ATTACK [ARGUMENT…]

Ends with 0 when the attack went through, with 3 when a wall held, and says in a line what it saw. Each attack takes a little
more than it may have, and no more: where its wall is missing the machine has to bear it.
"""

import ctypes
import errno
import os
import resource
import socket
import sys
import time

THROUGH, HELD = 0, 3
MIB = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)


def end(status, said):
    print(said, flush=True)
    sys.exit(status)


def processes(count):
    """Has so many children at a time."""
    children = []
    try:
        for _ in range(int(count)):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
        status = THROUGH
    except OSError as error:
        status = HELD if error.errno == errno.EAGAIN else 1
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
    end(status, f"{len(children)} children")


def memory(mib):
    """Uses so much memory. Whoever may not is killed."""
    pages = bytearray(int(mib) * MIB)
    for at in range(0, len(pages), 4096):
        pages[at] = 1
    end(THROUGH, f"{mib} MiB")


def disk(mib):
    """Takes so much of the root disk."""
    path = "/root/full"
    with open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, int(mib) * MIB)
            status = THROUGH
        except OSError as error:
            status = HELD if error.errno in (errno.EDQUOT, errno.ENOSPC, errno.EFBIG) else 1
            mib = error
    os.unlink(path)
    end(status, f"{mib} MiB")


def subvolume(mib):
    """Makes a btrfs subvolume, which its parent's limit does not count, and takes so much in it."""
    create, create_v2, above = 0x5000940E, 0x50009418, 1 << 40
    directory = os.open("/root", os.O_RDONLY)
    made = []
    for number, request in enumerate((create, create_v2, create | above, create_v2 | above)):
        name = f"sub{number}".encode()
        data = ctypes.create_string_buffer(4096)
        at = 8 if request & 0xFFFFFFFF == create else 56
        data[at : at + len(name)] = name
        ioctl = 16
        if libc.syscall(ioctl, directory, ctypes.c_ulong(request), data) == 0:
            made.append(name.decode())
        elif ctypes.get_errno() != errno.EPERM:
            end(1, os.strerror(ctypes.get_errno()))
    if not made:
        end(HELD, "no subvolume")
    with open(f"/root/{made[0]}/full", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, int(mib) * MIB)
    end(THROUGH, f"{mib} MiB in {made}")


def sockets(count):
    """Has so many sockets open in one process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    except (OSError, ValueError):
        pass
    opened = []
    try:
        for _ in range(int(count)):
            opened.append(socket.socket())
        status = THROUGH
    except OSError as error:
        status = HELD if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM) else 1
    end(status, f"{len(opened)} sockets")


def spread_sockets(count, processes):
    """Has so many sockets open in so many processes together. Whoever has no memory for them is killed."""
    ends, each, children = [], int(count) // int(processes), []
    for _ in range(int(processes)):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            held = []
            try:
                _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
                for _ in range(each):
                    held.append(socket.socket())
            except OSError:
                pass
            os.write(writer, f"{len(held)}\n".encode())
            time.sleep(60)
            os._exit(0)
        os.close(writer)
        ends.append(reader)
        children.append(child)
    opened = sum(int(os.read(reader, 16) or 0) for reader in ends)
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    end(THROUGH if opened >= int(count) else HELD, f"{opened} sockets")


def busy(processes, seconds):
    """Keeps so many processes busy."""
    children = []
    for _ in range(int(processes)):
        child = os.fork()
        if child == 0:
            until = time.monotonic() + float(seconds)
            while time.monotonic() < until:
                pass
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    end(THROUGH, f"{len(children)} busy processes")


def processors(count):
    """Runs on so many processors, one after the other: whoever can may keep all of them busy at once."""
    allowed = 0
    for processor in range(os.cpu_count() or 1):
        try:
            os.sched_setaffinity(0, {processor})
            allowed += 1
        except OSError as error:
            if error.errno != errno.EINVAL:
                end(1, error)
    end(THROUGH if allowed >= int(count) else HELD, f"{allowed} processors")


def swap():
    """Looks whether the kernel would move its memory to the server's swap, where it takes the others' disk time."""
    # The limit of cgroup v2, or what LXD and Incus set with v1 without swap accounting.
    for path, wanted in (("/sys/fs/cgroup/memory.swap.max", "max"), ("/sys/fs/cgroup/memory/memory.swappiness", "60")):
        if not os.path.exists(path):
            continue
        try:
            with open(path, "w") as file:
                file.write(wanted)
        except OSError:
            pass
        with open(path) as file:
            allowed = file.read().strip()
        end(HELD if allowed == "0" else THROUGH, f"{path} is {allowed}")
    end(1, "no limit is to be seen")


def kernel_log():
    """Asks for the kernel's log. That the server's kernel.dmesg_restrict refuses it is luck, not a wall of the environment."""
    read_all = 3
    buffer = ctypes.create_string_buffer(1 << 18)
    length = libc.klogctl(read_all, buffer, len(buffer))
    held = length < 0 and ctypes.get_errno() == errno.ENOSYS
    end(HELD if held else THROUGH, os.strerror(ctypes.get_errno()) if length < 0 else f"{length} bytes")


def connect(*targets):
    """Connects to any of these, HOST:PORT each, with a NIC put up by hand if there is one: `nic=ADDRESS/LENGTH,GATEWAY`."""
    if targets[0].startswith("nic="):
        address, gateway = targets[0].removeprefix("nic=").split(",")
        for command in (
            f"ip link set eth0 up && ip address replace {address} dev eth0",
            f"ip route replace default via {gateway}",
        ):
            os.system(f"({command}) 2>/dev/null")
        targets = targets[1:]
    reached, errors = [], set()
    for target in targets:
        host, port = target.rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=1.5).close()
            reached.append(target)
        except OSError as error:
            errors.add(str(error))
    end(THROUGH if reached else HELD, f"reached {reached}, {sorted(errors)}")


def spoof(source, *targets):
    """Connects to any of these from an address that is not its own, ADDRESS/LENGTH."""
    os.system(f"ip address add {source} dev eth0 2>/dev/null")
    reached, errors = [], set()
    for target in targets:
        host, port = target.rsplit(":", 1)
        try:
            address = (source.split("/")[0], 0)
            socket.create_connection((host, int(port)), timeout=3, source_address=address).close()
            reached.append(target)
        except OSError as error:
            errors.add(str(error))
    os.system(f"ip address del {source} dev eth0 2>/dev/null")
    end(THROUGH if reached else HELD, f"reached {reached}, {sorted(errors)}")


def keys(count):
    """Adds so many keys to root's keyring. They are counted by the server's user id."""
    add_key, user_keyring = 248, -4
    for number in range(int(count)):
        name = f"k{os.getpid()}-{number}".encode()
        if libc.syscall(add_key, b"user", name, b"x", 1, user_keyring) < 0:
            # Without a place for the keyring itself there is none.
            status = HELD if ctypes.get_errno() in (errno.EDQUOT, errno.ENOKEY) else 1
            end(status, f"{number} keys, then {os.strerror(ctypes.get_errno())}")
    end(THROUGH, f"{count} keys")


def guest_api():
    """Asks the server for what it tells instances."""
    for path in ("/dev/lxd/sock", "/dev/incus/sock"):
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(path)
                sock.sendall(b"GET /1.0/config HTTP/1.0\r\nHost: x\r\n\r\n")
                end(THROUGH, sock.recv(200).decode(errors="replace"))
        except OSError as error:
            said = error
    end(HELD, said)


def nested():
    """Mounts /proc in a user namespace of its own, as a container in the container would."""
    status = os.system("unshare --user --map-root-user --pid --fork --mount-proc true 2>/dev/null")
    end(HELD if status else THROUGH, f"unshare ended with {status}")


def device():
    """Makes a device node of one of the server's disks."""
    path = "/root/disk"
    try:
        os.mknod(path, 0o600 | 0o060000, os.makedev(7, 0))
    except PermissionError as error:
        end(HELD, error)
    os.unlink(path)
    end(THROUGH, "a block device")


def search(*needles):
    """Looks for any of these in all that the kernel and the instance's own files tell, and names each that it finds."""
    wanted = [needle.encode() for needle in needles]
    found, looked = {}, 0

    def look(path, data):
        for needle in wanted:
            if needle in data:
                found.setdefault(needle.decode(), path)

    # Of processes what each of them has; of the rest every file that ends.
    skip = ("/proc/kcore", "/proc/kmsg", "/proc/kpage", "/proc/sysrq-trigger", "/sys/kernel/tracing", "/sys/kernel/debug")
    mine = f"/proc/{os.getpid()}/"
    for top in ("/proc", "/sys", "/dev", "/run", "/etc", "/var/lib/cloud", "/var/lib/lnplay", "/var/log", "/tmp"):
        for directory, directories, files in os.walk(top):
            directories[:] = [d for d in directories if not d.startswith("task") and d not in ("fd", "fdinfo", "map_files", "attr")]
            if directory.startswith(skip) or (directory + "/").startswith(mine):
                directories[:] = []
                continue
            look(directory, directory.encode())
            for name in files:
                path = os.path.join(directory, name)
                if path.startswith(skip) or name in ("mem", "pagemap", "clear_refs", "auxv", "syscall", "stack"):
                    continue
                look(path, path.encode())
                try:
                    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
                except OSError:
                    continue
                try:
                    look(path, os.read(handle, 1 << 18))
                    looked += 1
                except OSError:
                    pass
                finally:
                    os.close(handle)
    buffer = ctypes.create_string_buffer(1 << 18)
    read_all = 3
    length = libc.klogctl(read_all, buffer, len(buffer))
    if length > 0:
        look("the kernel's log", buffer.raw[:length])
    end(THROUGH if found else HELD, f"{looked} files, found {sorted(found.items())}")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
