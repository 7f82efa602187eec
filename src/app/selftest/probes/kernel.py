"""Doors into the kernel."""

FLAGS = {"mnt": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000,
         "net": 0x40000000, "time": 0x80}


@attack
def mounts():
    folder = tempfile.mkdtemp().encode()
    door("mount tmpfs", (165, 40), b"none", folder, b"tmpfs", 0, 0)
    door("mount proc", (165, 40), b"none", folder, b"proc", 0, 0)
    door("bind /", (165, 40), b"/", folder, b"", 4096, 0)
    door("remount /", (165, 40), b"none", b"/", b"", 32 | 4096, 0) if not FREE else None
    door("make /proc shared", (165, 40), b"none", b"/proc", b"", 1 << 20, 0)
    for point in (b"/proc/sys", b"/workspace", b"/sys", b"/proc", b"/"):
        door(f"umount {point.decode()}", (166, 39), point, 2) if not FREE else None


@attack
def the_new_mount_calls():
    door("fsopen", 430, b"tmpfs", 0)
    door("fsconfig", 431, -1, 0, 0, 0, 0)
    door("fsmount", 432, -1, 0, 0)
    door("fspick", 433, -100, b"/", 0)
    door("open_tree, cloned", 428, -100, b"/", 1)
    door("open_tree", 428, -100, b"/proc", 0)
    door("move_mount", 429, -1, b"", -1, b"", 0)
    door("mount_setattr", 442, -100, b"/proc", 0, ctypes.create_string_buffer(32), 32)
    door("open_tree_attr", 467, -100, b"/proc", 0, ctypes.create_string_buffer(32), 32)
    door("listmount", 458, ctypes.create_string_buffer(struct.pack("IIQQ", 24, 0, 0xffffffffffffffff, 0)), ctypes.create_string_buffer(80), 10, 0)
    door("statmount", 457, ctypes.create_string_buffer(struct.pack("IIQQ", 24, 0, 1, 1)), ctypes.create_string_buffer(512), 512, 0)


@attack
def other_roots():
    folder = tempfile.mkdtemp().encode()
    door("pivot_root", (155, 41), folder, folder)
    door("chroot", (161, 51), folder)

    def escape():
        fd = os.open("/", os.O_RDONLY)
        os.chroot(folder)
        os.fchdir(fd)
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
    attempt("chroot and back", lambda: in_child(escape))


@attack
def new_namespaces():
    for name, flag in FLAGS.items():
        door(f"unshare {name}", (272, 97), flag)
    for name, flag in FLAGS.items():
        def clone():
            if call((56, 220), flag | signal.SIGCHLD, 0, 0, 0, 0) == 0:
                os._exit(0)
        # The flag of the time namespace is a part of the signal's number here.
        if name != "time":
            attempt(f"clone {name}", lambda: in_child(clone))
    door("clone3", 435, ctypes.create_string_buffer(struct.pack("11Q", FLAGS["user"], 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)), 88) if not FREE else None


@attack
def a_nested_user_namespace():
    def nest():
        call((272, 97), FLAGS["user"] | FLAGS["mnt"] | FLAGS["net"])
        with open("/proc/self/uid_map", "w") as file:
            file.write(f"0 {os.getuid()} 1")
    attempt("become root in one", lambda: in_child(nest))
    said = subprocess.run(["/usr/bin/unshare", "-Ur", "/usr/bin/id", "-u"], capture_output=True, text=True)
    claim("unshare -Ur", said.stdout.strip() == "0", said.stderr.strip()[:80])


@attack
def namespaces_of_others():
    for pid in ("1", str(os.getppid()), "self") if not FREE else ("self",):
        for name in ("mnt", "net", "pid", "user", "uts", "ipc", "cgroup"):
            def enter():
                fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
                call((308, 268), fd, 0)
            attempt(f"setns {pid}/{name}", lambda: in_child(enter), ABSENT)
    door("setns by pidfd", (308, 268), os.pidfd_open(os.getpid()), FLAGS["net"])


@attack
def keyrings():
    door("add_key", (248, 217), b"user", b"planted", b"x", 1, -2)
    door("request_key", (249, 218), b"user", b"planted", 0, -2)
    door("keyctl: id of a keyring", (250, 219), 0, -2, 1)
    door("keyctl: join a session", (250, 219), 1, b"planted")
    door("keyctl: read the user's", (250, 219), 11, -4, 0, 0)
    for path in ("/proc/keys",):
        claim(f"keys in {path}", os.path.exists(path) and bool(open(path).read().strip()) if os.access(path, os.R_OK) else False)


@attack
def bpf():
    door("make a map", (321, 280), 0, ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1), 128), 128)
    door("load a program", (321, 280), 5, ctypes.create_string_buffer(128), 128)
    # Whoever gets in is told that there is no name, whatever the kernel's own setting keeps from users.
    door("look an object up", (321, 280), 7, ctypes.create_string_buffer(128), 128)


@attack
def perf_events():
    event = ctypes.create_string_buffer(struct.pack("IIQ", 1, 112, 0), 112)
    door("of this process", (298, 241), event, 0, -1, -1, 0)
    door("of processor 0", (298, 241), event, -1, 0, -1, 0)
    # Before the kernel asks who may, it looks at these.
    door("with flags of no kernel", (298, 241), event, 0, -1, -1, 1 << 30)


@attack
def user_faults():
    door("userfaultfd", (323, 282), 1)
    door("userfaultfd, kernel faults too", (323, 282), 0)


@attack
def io_uring():
    door("io_uring_setup", 425, 8, ctypes.create_string_buffer(120))
    door("io_uring_enter", 426, -1, 1, 0, 0, 0, 0)
    door("io_uring_register", 427, -1, 0, 0, 0)


@attack
def modules():
    door("init_module", (175, 105), 0, 0, b"")
    door("finit_module", (313, 273), -1, b"", 0)
    door("delete_module", (176, 106), b"no-such-module", 0o4000)


@attack
def another_kernel():
    door("kexec_load", (246, 104), 0, 99, 0, 0xffff)
    door("kexec_file_load", (320, 294), -1, -1, 0, b"", 0xffff)


@attack
def power():
    # With a wrong second magic number nothing happens, but only who may is told so.
    door("reboot", (169, 142), 0xfee1dead, 1, 0x4321fedc, 0)


@attack
def swap_accounting_quotas():
    door("swapon", (167, 224), b"/no/such/file", 0)
    door("swapoff", (168, 225), b"/no/such/file")
    door("acct", (163, 89), b"/no/such/file")
    door("quotactl", (179, 60), 0x80000800, b"/dev/no-such-device", 0, 0)
    door("quotactl_fd", 443, -1, 0x80000800, 0, 0)


@attack
def the_kernels_log():
    door("syslog: read all", (103, 116), 3, ctypes.create_string_buffer(64), 64)
    door("syslog: size", (103, 116), 10, 0, 0)


@attack
def clocks_and_names():
    door("settimeofday", (164, 170), ctypes.create_string_buffer(struct.pack("qq", -1, -1)), 0)
    door("clock_settime", (227, 112), 0, ctypes.create_string_buffer(struct.pack("qq", -1, -1)))
    door("adjtimex", (159, 171), ctypes.create_string_buffer(struct.pack("I", 0x8000), 256)) if not FREE else None
    door("clock_adjtime", (305, 266), 0, ctypes.create_string_buffer(struct.pack("I", 0x8000), 256)) if not FREE else None
    door("sethostname", (170, 161), b"x" * 99, 99)
    door("setdomainname", (171, 162), b"x" * 99, 99)
    door("vhangup", (153, 58)) if not FREE else None


@attack
def personalities():
    door("no randomisation", (135, 92), 0x40000)
    door("readable means executable", (135, 92), 0x400000)
    door("32 bits", (135, 92), 8)


@attack
def secret_and_placed_memory():
    door("memfd_secret", 447, 0)
    door("move_pages", (279, 239), 0, 0, 0, 0, 0, 2)
    door("migrate_pages", (256, 238), 0, 0, 0, 0)
    door("lookup_dcookie", (212, 18), 0, 0, 0)


@attack
def ports():
    if platform.machine() != "x86_64":
        return claim("no such thing on this machine", FREE)
    door("iopl", 172, 3)
    door("ioperm", 173, 0x80, 1, 1)
    door("modify_ldt", 154, 0, ctypes.create_string_buffer(64), 64)


@attack
def the_other_tables_of_system_calls():
    """x32 by its bit, i386 by int 0x80: filters that forget them let everything through."""
    if platform.machine() != "x86_64":
        return claim("no such thing on this machine", FREE)
    for name, number in (("unshare", 272), ("mount", 165), ("ptrace", 521), ("keyctl", 250), ("getpid", 39)):
        door(f"x32 {name}", 0x40000000 | number, 0, 0, 0, 0, 0)
    import mmap
    for name, number in (("getpid", 20), ("add_key", 286), ("unshare", 310), ("mount", 21)):
        # push rbx; mov eax, number; zero ebx ecx edx esi edi; int 0x80; pop rbx; ret
        code = b"\x53\xb8" + struct.pack("I", number) + b"\x31\xdb\x31\xc9\x31\xd2\x31\xf6\x31\xff\xcd\x80\x5b\xc3"

        def enter():
            page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            page.write(code)
            address = ctypes.addressof(ctypes.c_char.from_buffer(page))
            result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
            if result < 0:
                raise OSError(-result, "")
        attempt(f"i386 {name}", lambda: in_child(enter))


@attack
def typing_into_the_terminal():
    import fcntl
    import pty

    def types(request, value):
        master, slave = pty.openpty()
        os.setsid()
        fcntl.ioctl(slave, 0x540E, 0)
        fcntl.ioctl(slave, request, value)
    for what, request in (("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C), ("TIOCSTI with a high half", 0x7_0000_5412)):
        if request >> 32:
            master, slave = pty.openpty()
            door(what, (16, 29), slave, request, b"x")
        else:
            attempt(what, lambda: in_child(lambda: types(request, b"x")), {errno.EIO})
    for fd in (0, 1, 2):
        if not FREE:
            door(f"TIOCSTI on {fd}", (16, 29), fd, 0x5412, b"x")


@attack
def line_disciplines():
    """Drivers of modems, loaded for whoever has a terminal, and a way up more than once (CVE-2017-2636)."""
    import fcntl
    import pty

    def change(request, value):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, request, value)
    for name, number in (("slip", 1), ("ppp", 3), ("hdlc", 13), ("gsm", 21), ("slcan", 17), ("null", 27)):
        attempt(name, lambda: in_child(lambda: change(0x5423, struct.pack("i", number))))
    attempt("hang up", lambda: in_child(lambda: change(0x5437, 0)))


@attack
def a_filter_that_allows_what_another_forbids():
    """Of several filters the strictest counts, and a supervisor of one's own answers for one's own filter only."""
    import fcntl
    import select
    keyctl = (250, 219)[platform.machine() != "x86_64"]

    def load(lines, flags):
        call((157, 167), 38, 1, 0, 0, 0)
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines), 8 * len(lines))
        program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(code)), 16)
        return call((317, 277), 1, flags, program)

    def allow():
        load([(6, 0, 0, 0x7FFF0000)], 0)
        call(keyctl, 0, -2, 1)
    attempt("a filter that allows", lambda: in_child(allow))

    def supervise():
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            code = 0
            try:
                listener = load([(0x20, 0, 0, 0), (0x15, 0, 1, keyctl), (6, 0, 0, 0x7FC00000), (6, 0, 0, 0x7FFF0000)], 8)
                socket.send_fds(theirs, [b"x"], [listener])
                call(keyctl, 0, -2, 1)
            except OSError as error:
                code = error.errno
            theirs.send(struct.pack("i", code))
            os._exit(0)
        ours.settimeout(30)
        said, listeners, _, _ = socket.recv_fds(ours, 4, 1)
        if listeners:
            # Not asked where another filter answered first.
            if ours not in select.select([listeners[0], ours], [], [], 30)[0]:
                asked = fcntl.ioctl(listeners[0], 0xC0502100, bytes(80))
                fcntl.ioctl(listeners[0], 0xC0182101, asked[:8] + struct.pack("qiI", 0, 0, 1))
            said = ours.recv(4)
        os.waitpid(child, 0)
        code = struct.unpack("i", said)[0]
        if code:
            raise OSError(code, os.strerror(code))
    attempt("a supervisor that says go on", supervise)


@attack
def core_dumps_for_the_host():
    """Where the kernel hands dumps to a program, that runs outside, as root, for a limit of nought too. At
    a limit of one byte it does not; a socket it hands them to at any."""
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    to = open("/proc/sys/kernel/core_pattern").read()[:1]
    claim("a crash is handed out", to == "@" or soft != 1 and (to == "|" or FREE), f"at {soft}")

    def limit(value, most=hard, change=resource.setrlimit):
        try:
            change(resource.RLIMIT_CORE, (value, most))
        except ValueError:
            raise OSError(errno.EPERM, "")
        # Who sets it may be told that it is done.
        if resource.getrlimit(resource.RLIMIT_CORE) == (soft, hard):
            raise OSError(errno.EPERM, "it stays")

    def asking(what, values):
        resource.prlimit(0, what, values)
    attempt("a limit of nought", lambda: in_child(lambda: limit(0)))
    attempt("the highest limit", lambda: in_child(lambda: limit(hard)))
    attempt("no limit", lambda: in_child(lambda: limit(resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
    attempt("nought for good", lambda: in_child(lambda: limit(0, 0)))
    attempt("nought, asking what it was", lambda: in_child(lambda: limit(0, change=asking)))
    folder = tempfile.mkdtemp()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        try:
            limit(hard)
        except OSError:
            pass
        os.close(2)
        os.abort()
    claim("a dump", os.WCOREDUMP(os.waitpid(child, 0)[1]))
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


@attack
def names_of_the_machine():
    def words(path):
        try:
            return open(path).read().split()
        except OSError:
            return []
    told = [("uname", [os.uname().nodename]), ("gethostname", [socket.gethostname()])]
    told += [(path, words(path)) for path in ("/proc/sys/kernel/hostname", "/etc/hostname", "/etc/hosts", "/etc/mailname")]
    for where, said in told:
        claim(f"the host's name in {where}", HOST["name"] in said)


@attack
def memory_merged_with_others():
    """Of pages that the kernel merged, a write tells by its time what others on the machine hold."""
    import mmap
    page = mmap.mmap(-1, 8192)
    iov = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(ctypes.c_char.from_buffer(page)), 8192))
    attempt("merge", lambda: page.madvise(12))
    attempt("merge by a pidfd", lambda: in_child(lambda: call(440, os.pidfd_open(os.getpid()), iov, 1, 12, 0)))
    door("merge all", (157, 167), 67, 1, 0, 0, 0)


@attack
def a_pid_of_choice():
    """The number of a process that is gone, for whoever still signals it."""
    def clone():
        wanted = ctypes.create_string_buffer(struct.pack("i", 31337))
        arguments = ctypes.create_string_buffer(struct.pack("11Q", 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(wanted), 1, 0), 88)
        if call(435, arguments, 88) == 0:
            os._exit(0)
        os.wait()
    attempt("clone3", lambda: in_child(clone))
    opens("/proc/sys/kernel/ns_last_pid", os.O_WRONLY)


@attack
def the_random_pool():
    """Of one kernel, and so the host's. Nothing is taken from it."""
    import fcntl
    for name in ("random", "urandom"):
        fd = os.open(f"/dev/{name}", os.O_RDONLY)
        attempt(f"count of {name}", lambda: fcntl.ioctl(fd, 0x40045201, struct.pack("i", 0)))
        attempt(f"bytes for {name}", lambda: fcntl.ioctl(fd, 0x40085203, struct.pack("ii", 0, 0)))
        attempt(f"seed of {name}", lambda: fcntl.ioctl(fd, 0x5207, 0))
        os.close(fd)
