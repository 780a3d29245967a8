// Runs an LXD or Incus daemon where the kernel has no host side of vsock:   vsock-shim DAEMON [ARGUMENT…]
//
// A seccomp filter hands four system calls of the daemon, and of what it starts, to a supervisor. It
//   - binds a vsock socket to any address where the daemon asks for the host's (VMADDR_CID_HOST),
//   - grants a virtual machine's address (VHOST_VSOCK_SET_GUEST_CID) on what is not a vhost-vsock device,
//   - grants a memory lock limit (RLIMIT_MEMLOCK), which needs a capability that containers often lack,
// and lets all others through. It ends with the last process under the filter.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// From linux/vhost.h.
#define SET_GUEST_CID 0x4008af60u

#define FIELD(name) ((unsigned)offsetof(struct seccomp_data, name))

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int install_filter(void) {
    // Jumps are relative to the next instruction; the comments say where they lead.
    struct sock_filter filter[] = {
        /*  0 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(arch)),
        /*  1 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 11), // else 13
        /*  2 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(nr)),
        /*  3 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bind, 3, 0),      // 7
        /*  4 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 4, 0),     // 9
        /*  5 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 5, 0), // 11
        /*  6 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setrlimit, 8, 6), // 15, else 13
        /*  7 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(args[2])),
        /*  8 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sizeof(struct sockaddr_vm), 5, 4), // 14, else 13
        /*  9 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(args[1])),
        /* 10 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SET_GUEST_CID, 3, 2), // 14, else 13
        /* 11 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(args[1])),
        /* 12 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_MEMLOCK, 1, 0), // 14, else 13
        /* 13 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        /* 14 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        /* 15 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(args[0])),
        /* 16 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_MEMLOCK, 0, 1), // else 18
        /* 17 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        /* 18 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0) fail("seccomp");
    return listener;
}

// Opens the process that a thread is of, for its files.
static int open_process(pid_t thread) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", thread);
    FILE *status = fopen(path, "r");
    if (!status) return -1;
    pid_t process = -1;
    while (fgets(line, sizeof line, status) && sscanf(line, "Tgid: %d", &process) != 1) continue;
    fclose(status);
    return syscall(SYS_pidfd_open, process, 0);
}

// Binds a thread's socket to any address if it asks for the host's. Returns whether it did, with the result in `error`.
static int bind_anywhere(const struct seccomp_data *call, pid_t thread, int *error) {
    struct sockaddr_vm address;
    struct iovec local = {&address, sizeof address};
    struct iovec remote = {(void *)call->args[1], sizeof address};
    if (process_vm_readv(thread, &local, 1, &remote, 1, 0) != sizeof address) return 0;
    if (address.svm_family != AF_VSOCK || address.svm_cid != VMADDR_CID_HOST) return 0;
    address.svm_cid = VMADDR_CID_ANY;
    int pidfd = open_process(thread);
    int fd = pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, (int)call->args[0], 0);
    *error = fd < 0 || bind(fd, (void *)&address, sizeof address) ? -errno : 0;
    close(fd);
    close(pidfd);
    return 1;
}

static void answer(int listener) {
    struct seccomp_notif request = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0) {
        // Killed while it was waiting.
        if (errno == EINTR || errno == ENOENT) return;
        fail("SECCOMP_IOCTL_NOTIF_RECV");
    }
    const struct seccomp_data *call = &request.data;
    struct seccomp_notif_resp response = {.id = request.id};
    // A null limit only reads.
    int limit = call->nr == SYS_setrlimit || (call->nr == SYS_prlimit64 && call->args[2]);
    int granted = call->nr == SYS_ioctl || limit ||
                  (call->nr == SYS_bind && bind_anywhere(call, request.pid, &response.error));
    if (!granted) response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static void supervise(int listener) {
    for (;;) {
        struct pollfd ready = {listener, POLLIN, 0};
        if (poll(&ready, 1, -1) < 0 && errno != EINTR) fail("poll");
        if (ready.revents & POLLHUP) exit(0);
        if (ready.revents & POLLIN) answer(listener);
    }
}

static void send_fd(int socket, int fd) {
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(socket, &message, 0) < 0) fail("sendmsg");
}

static int receive_fd(int socket) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    // Nothing comes where the other side could not install its filter.
    if (recvmsg(socket, &message, 0) <= 0 || !CMSG_FIRSTHDR(&message)) exit(1);
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

int main(int count, char **arguments) {
    int sockets[2];
    if (count < 2) {
        fprintf(stderr, "usage: vsock-shim DAEMON [ARGUMENT...]\n");
        return 2;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)) fail("socketpair");
    pid_t supervisor = fork();
    if (supervisor < 0) fail("fork");
    if (supervisor == 0) {
        close(sockets[1]);
        int listener = receive_fd(sockets[0]);
        close(sockets[0]);
        supervise(listener);
    }
    close(sockets[0]);
    int listener = install_filter();
    send_fd(sockets[1], listener);
    close(listener);
    execvp(arguments[1], arguments + 1);
    fail(arguments[1]);
}
