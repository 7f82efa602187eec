"""Init, keepers, other steps, and what a process could become."""


@attack
def signals_at_init_and_keepers():
    for pid in targets():
        for number in (signal.SIGCONT, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT,
                       signal.SIGSTOP, signal.SIGKILL):
            attempt(f"kill {pid} {number.name}", lambda: os.kill(pid, number))
        info = ctypes.create_string_buffer(struct.pack("iii", 18, 0, -1), 128)
        door(f"tkill {pid}", (200, 130), pid, 18)
        door(f"tgkill {pid}", (234, 131), pid, pid, 18)
        door(f"sigqueue {pid}", (129, 138), pid, 18, info)
        door(f"tgsigqueue {pid}", (297, 240), pid, pid, 18, info)
        attempt(f"pidfd {pid}", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGCONT))
        attempt(f"a folder as pidfd {pid}", lambda: signal.pidfd_send_signal(os.open(f"/proc/{pid}", os.O_RDONLY), signal.SIGCONT), ABSENT)
    if not FREE:
        attempt("everybody", lambda: os.kill(-1, signal.SIGCONT))


@attack
def limits_of_init_and_keepers():
    import resource
    for pid in targets():
        attempt(f"prlimit {pid}", lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)))
        attempt(f"read prlimit {pid}", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE))
        attempt(f"affinity {pid}", lambda: os.sched_setaffinity(pid, {0}))
        attempt(f"priority {pid}", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
        attempt(f"priority of the group of {pid}", lambda: os.setpriority(os.PRIO_PGRP, pid, 19), {errno.ESRCH} if FREE else ())
        attempt(f"scheduler {pid}", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
        door(f"ioprio {pid}", (251, 30), 1, pid, 3 << 13)
    attempt("priority of the user", lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19)) if not FREE else None


@attack
def tracing_init_and_keepers():
    buffer = ctypes.create_string_buffer(64)
    iov = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(buffer), 64))
    far = ctypes.create_string_buffer(struct.pack("QQ", 0x10000, 64))
    for pid in targets():
        door(f"attach {pid}", (101, 117), 16, pid, 0, 0)
        door(f"seize {pid}", (101, 117), 0x4206, pid, 0, 0)
        door(f"process_vm_readv {pid}", (310, 270), pid, iov, 1, far, 1, 0)
        door(f"process_vm_writev {pid}", (311, 271), pid, iov, 1, far, 1, 0)
        door(f"kcmp {pid}", (312, 272), os.getpid(), pid, 0, 0, 0)
        attempt(f"pidfd_getfd {pid}", lambda: in_child(lambda: call(438, os.pidfd_open(pid), 0, 0)))
        attempt(f"process_madvise {pid}", lambda: in_child(lambda: call(440, os.pidfd_open(pid), far, 1, 20, 0)))
    door("traceme", (101, 117), 0, 0, 0, 0)


@attack
def proc_files_of_init_and_keepers():
    for pid in targets():
        for name in ("mem", "environ", "maps", "smaps", "auxv", "syscall", "stack", "personality", "pagemap", "io", "timers"):
            path = f"/proc/{pid}/{name}"

            def read():
                with open(path, "rb") as file:
                    if name not in ("mem", "pagemap") and not file.read(1):
                        raise OSError(errno.EACCES, "empty")
            attempt(f"read {path}", read, ABSENT | {errno.EIO, errno.ESRCH})
        for name in ("exe", "root", "cwd", "fd/0", "fd/3", "ns/mnt", "ns/user"):
            attempt(f"link /proc/{pid}/{name}", lambda: os.readlink(f"/proc/{pid}/{name}"), ABSENT)
        for name in ("fd", "map_files", "fdinfo"):
            attempt(f"list /proc/{pid}/{name}", lambda: os.listdir(f"/proc/{pid}/{name}"), ABSENT)
        for name in ("mem", "oom_score_adj", "clear_refs", "coredump_filter", "comm", "sched", "uid_map", "setgroups", "loginuid",
                     "autogroup", "make-it-fail"):
            opens(f"/proc/{pid}/{name}", os.O_WRONLY)
        # Everybody may open these; it is the writing that is judged.
        for name, value in (("timerslack_ns", b"51000"), ("attr/current", b"x"), ("attr/exec", b"x"), ("attr/keycreate", b"x")):
            def write():
                fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
                os.write(fd, value)
            attempt(f"write /proc/{pid}/{name}", write, ABSENT | {errno.EINVAL})


@attack
def the_memory_killers_choice():
    """Lower than init's own, the kernel would end the sandbox before its payload; lower than nought, before
    the user's own programs."""
    try:
        lowest = int(open("/proc/1/oom_score_adj").read()) if HOST["scores_hold"] else 0
    except OSError:
        lowest = 0

    def lower(value):
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(value))
        if int(open("/proc/self/oom_score_adj").read()) >= lowest:
            raise OSError(errno.EACCES, "no effect")
    for value in (lowest - 1, -17, -1000):
        attempt(f"oom_score_adj {value}", lambda: in_child(lambda: lower(value)))


@attack
def another_identity():
    import resource
    uid = 0 if os.getuid() else 12345
    attempt("setuid", lambda: in_child(lambda: os.setuid(uid)), {errno.EINVAL})
    attempt("setgid", lambda: in_child(lambda: os.setgid(uid)), {errno.EINVAL})
    attempt("setresuid", lambda: in_child(lambda: os.setresuid(-1, uid, -1)), {errno.EINVAL})
    attempt("setgroups", lambda: in_child(lambda: os.setgroups([12345])), {errno.EINVAL})
    path = os.path.join(tempfile.mkdtemp(), "x")
    open(path, "w").close()
    attempt("chown", lambda: os.chown(path, uid, -1), {errno.EINVAL})
    for word in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        value = next(line.split()[1] for line in open("/proc/self/status") if line.startswith(word + ":"))
        claim(f"{word} holds some", int(value, 16) != 0, value)
    head = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    door("capset", (126, 91), head, ctypes.create_string_buffer(struct.pack("6I", 0x200000, 0x200000, 0, 0, 0, 0)))
    door("ambient", (157, 167), 47, 2, 21, 0, 0)
    door("securebits", (157, 167), 28, 1, 0, 0, 0)

    def raise_limit():
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (1 << 40, 1 << 40))
        except ValueError:
            raise OSError(errno.EPERM, "")
        # Who sets it may be told that it is done.
        if resource.getrlimit(resource.RLIMIT_CORE)[1] != 1 << 40:
            raise OSError(errno.EPERM, "it stays")
    attempt("raise a limit", lambda: in_child(raise_limit))


@attack
def privileges_that_can_come_back():
    said = {line.split(":")[0]: line.split(":")[1].strip() for line in open("/proc/self/status") if ":" in line}
    claim("new privileges", said["NoNewPrivs"] != "1")
    claim("no filter", said["Seccomp"] != "2")
    claim("groups", [g for g in said["Groups"].split() if g != str(os.getgid())] != [], said["Groups"])
    claim("uid 0", os.getuid() == 0 or os.geteuid() == 0)
    door("take no-new-privs off", (157, 167), 38, 0, 0, 0, 0, also={errno.EINVAL})


@attack
def setuid_programs():
    """The loader shows its vector only where nothing was gained."""
    found = []
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec"):
        for where, _, files in os.walk(folder):
            for name in files:
                path = os.path.join(where, name)
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                if status.st_mode & 0o4000 and status.st_mode & 0o1 and status.st_mode & 0o170000 == 0o100000:
                    found.append(path)
            if folder != "/usr/lib" or where.count("/") > 4:
                continue
    for path in found:
        try:
            ran = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=5,
                                 env={"LD_SHOW_AUXV": "1", "PATH": "/usr/bin"})
            said = ran.stdout.decode(errors="replace")
        except (OSError, subprocess.TimeoutExpired):
            said = "AT_SECURE: 0"
        here.note(f"gain by {path}", None if not any(l.split() == ["AT_SECURE:", "0"] for l in said.splitlines()) else "gained nothing")
    claim("there are some to try", False, str(len(found)))


@attack
def setuid_bits_and_file_capabilities():
    for folder in ("/workspace", "/tmp", "/home/fumehood") if not FREE else (tempfile.mkdtemp(),):
        path = f"{folder}/planted-{os.getpid()}"
        open(path, "w").close()
        for mode in (0o4755, 0o2755, 0o6777):
            attempt(f"chmod {mode:o} {path}", lambda: os.chmod(path, mode))
            fd = os.open(path, os.O_RDONLY)
            attempt(f"fchmod {mode:o}", lambda: os.fchmod(fd, mode))
            door(f"fchmodat2 {mode:o}", 452, -100, path.encode(), mode, 0)
            attempt(f"create {mode:o}", lambda: os.close(os.open(f"{path}-{mode:o}", os.O_CREAT | os.O_WRONLY, mode)))
            how = ctypes.create_string_buffer(struct.pack("QQQ", os.O_CREAT | os.O_WRONLY, mode, 0))
            door(f"openat2 {mode:o}", 437, -100, f"{path}+{mode:o}".encode(), how, 24)
        for name, value in (("security.capability", struct.pack("<IIIII", 0x2000001, 0x200000, 0, 0, 0)), ("trusted.x", b"x")):
            attempt(f"setxattr {name}", lambda: os.setxattr(path, name, value), {errno.ENOTSUP})

        def immutable():
            import fcntl
            fd = os.open(path, os.O_RDONLY)
            fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0x10))
            fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0))
        attempt("immutable", immutable, {errno.ENOTTY, errno.EOPNOTSUPP})


@attack
def signals_by_descriptors():
    """A descriptor signals its owner, who may be anybody: with a signal of choice."""
    import fcntl
    for pid in targets():
        for number in (signal.SIGKILL, signal.SIGSTOP):
            for name, own in (("owner", lambda fd: fcntl.fcntl(fd, fcntl.F_SETOWN, pid)),
                              ("owner, extended", lambda fd: fcntl.fcntl(fd, 15, struct.pack("ii", 1, pid)))):
                def send():
                    ours, theirs = socket.socketpair()
                    own(ours.fileno())
                    fcntl.fcntl(ours.fileno(), 10, number)
                    fcntl.fcntl(ours.fileno(), fcntl.F_SETFL, os.O_NONBLOCK | 0o20000)
                    theirs.send(b"x")
                attempt(f"{name} {pid} {number.name}", lambda: in_child(send))


@attack
def the_pipe_to_the_host():
    """Through it goes what init and the host say: who holds an end speaks as init."""
    for folder, _, files in os.walk("/.fumehood"):
        for name in files:
            connects(os.path.join(folder, name), socket.AF_UNIX, ABSENT | {errno.ECONNREFUSED})
    for path in ("/.fumehood/door/host", "/proc/1/root/.fumehood/door/host") if not FREE else (HOST["socket"],):
        connects(path, socket.AF_UNIX, ABSENT)
    for pid in targets():
        for fd in range(16):
            # A socket is there, even if it opens by no name.
            opens(f"/proc/{pid}/fd/{fd}", os.O_WRONLY, {errno.ENOENT})


@attack
def processor_time_of_others():
    attempt("first in, first out", lambda: in_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))))
    attempt("round robin", lambda: in_child(lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))))
    deadline = ctypes.create_string_buffer(struct.pack("IIQiIQQQ", 48, 6, 0, 0, 0, 1_000_000, 10_000_000, 10_000_000), 48)
    door("a deadline", (314, 274), 0, deadline, 0)
    attempt("a better priority", lambda: in_child(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)))
    door("the disk first", (251, 30), 1, 0, 1 << 13)
    # Nobody else runs on the other half of such a core.
    door("a core of one's own", (157, 167), 62, 1, 0, 0, 0)


@attack
def groups_of_the_host():
    """The names of its control groups tell who runs it, and which others there are."""
    for pid in ("self", "1") if not FREE else ("self",):
        try:
            lines = open(f"/proc/{pid}/cgroup").read().splitlines()
        except OSError:
            continue
        for line in lines:
            _, kind, path = line.split(":", 2)
            claim(f"the group of {pid} in {kind or 'version 2'}", path != "/", path if path != "/" else "")


@attack
def credentials_of_others():
    """Who is asked by a socket believes the kernel, which asks who sends."""
    stranger = 0 if os.getuid() else 12345
    for what, pid, uid, gid in (("init's pid", targets()[0], os.getuid(), os.getgid()), ("another uid", os.getpid(), stranger, os.getgid()),
                                ("another gid", os.getpid(), os.getuid(), stranger)):
        def send():
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            ours.sendmsg([b"x"], [(socket.SOL_SOCKET, 2, struct.pack("3i", pid, uid, gid))])
        # A uid that this world has not is no uid.
        attempt(what, send, {errno.EINVAL})


@attack
def other_steps():
    """VICTIM is another step of the same sandbox, and so of the same user."""
    pid = HOST.get("victim") or targets()[0]
    for number in (signal.SIGCONT, signal.SIGSTOP, signal.SIGTERM):
        attempt(f"kill {number.name}", lambda: os.kill(pid, number))
    attempt("pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGCONT))
    door("attach", (101, 117), 16, pid, 0, 0)
    door("seize", (101, 117), 0x4206, pid, 0, 0)
    iov = ctypes.create_string_buffer(16)
    door("process_vm_readv", (310, 270), pid, iov, 1, iov, 1, 0)
    door("kcmp", (312, 272), os.getpid(), pid, 0, 0, 0)
    attempt("pidfd_getfd", lambda: in_child(lambda: call(438, os.pidfd_open(pid), 0, 0)))
    import resource
    attempt("prlimit", lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)))


@attack
def input_and_output_of_other_steps():
    pid = HOST.get("victim") or targets()[0]
    for name in ("mem", "fd/0", "fd/1", "environ"):
        opens(f"/proc/{pid}/{name}", os.O_RDONLY)
