"""Files of the host, and places that are not the payload's to write."""

WRITABLE = ("/workspace", "/tmp", "/dev/shm", "/home/fumehood", "/var/tmp", "/dev/pts", "/proc")


def reads_canary(path):
    def read():
        with open(path, "rb") as file:
            if HOST["word"].encode() not in file.read(4096):
                raise OSError(errno.ENOENT, "another file")
    attempt(f"read {path}", read, ABSENT)


@attack
def host_files_through_every_proc_path():
    pids = [p for p in os.listdir("/proc") if p.isdigit()] if not FREE else ["self"]
    ways = [""] + [f"/proc/{p}/{w}" for p in pids + ["self", "thread-self"] for w in ("root", "cwd/../../../../..")]
    ways += [f"/proc/self/fd/{fd}/../../../../.." for fd in os.listdir("/proc/self/fd")]
    for way in ways:
        reads_canary(way + HOST["canary"])


@attack
def host_files_through_every_mount():
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    for point in mounts if not FREE else ["/"]:
        for up in ("", "/..", "/../..", "/../../../.."):
            reads_canary(point + up + HOST["canary"])


@attack
def host_paths_told_by_mountinfo():
    told = [os.path.dirname(HOST["canary"]), HOST["workspace"]]
    for line in open("/proc/self/mountinfo"):
        root, point = line.split()[3:5]
        if root not in ("/", point) and not root.startswith(("/containers/", "/docker/", "/var/lib/docker")):
            told.append(root)
    for path in told:
        if any(path.startswith(p) for p in ("/usr", "/lib", "/bin", "/sbin", "/etc", "/dev", "/proc", "/sys")):
            continue

        def see():
            if os.path.isdir(path) and not os.listdir(path):
                raise OSError(errno.ENOENT, "an empty one, of this world's own")
            os.lstat(path)
        attempt(f"see {path}", see, ABSENT)


@attack
def host_files_by_walking():
    top = "/" if not FREE else os.path.dirname(HOST["canary"])
    found, seen = None, 0
    for folder, folders, files in os.walk(top):
        if folder == "/":
            folders[:] = [f for f in folders if f not in ("proc", "sys", "usr")]
        seen += len(files)
        if os.path.basename(HOST["canary"]) in files:
            found = folder
    claim("find the canary", found is not None, found or f"among {seen} files")


@attack
def passwords_keys_and_homes():
    for path in ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/sudoers", "/etc/krb5.keytab"):
        opens(path, os.O_RDONLY)
    for path in ("/root", "/etc/ssl/private", HOST["home"]):
        if path == "/home/fumehood":
            continue
        attempt(f"list {path}", lambda: os.listdir(path) or (_ for _ in ()).throw(OSError(errno.ENOENT, "")), ABSENT)
    for path, identity in HOST["folders"].items():
        def see():
            status = os.stat(path)
            if [status.st_dev, status.st_ino] != identity:
                raise OSError(errno.ENOENT, "another folder")
        attempt(f"the host's {path}", see, ABSENT)
    homes = [h for h in os.listdir("/home") if h != "fumehood"] if os.path.isdir("/home") else []
    claim("see homes", bool(homes), str(homes))


@attack
def descriptors_left_open():
    kept = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if int(fd) > 2 and target != f"/proc/{os.getpid()}/fd":
            kept.append(f"{fd} -> {target}")
        if int(fd) <= 2 and target.startswith("/") and target != "/dev/null":
            kept.append(f"{fd} -> {target}")
    claim("inherit a descriptor", bool(kept), str(kept))


@attack
def writing_outside_the_listed_places():
    if FREE:
        path = os.path.join(os.path.dirname(HOST["canary"]), "planted")
        attempt("create there", lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)))
        return
    tried = 0
    for folder, folders, files in os.walk("/"):
        real = os.path.realpath(folder)
        if real.startswith(WRITABLE) or real.startswith("/sys") or tried > 4000:
            folders[:] = []
            continue
        if folder.count("/") >= 4:
            folders[:] = []
        tried += 1
        path = os.path.join(folder, "planted")
        attempt(f"create {path}", lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)), ABSENT)
    for path in ("/etc/passwd", "/etc/ld.so.preload", "/etc/ld.so.cache", "/bin/sh", "/usr/bin/python3", "/.fumehood/init"):
        opens(path, os.O_WRONLY)
        attempt(f"remove {path}", lambda: os.unlink(path), ABSENT)
        attempt(f"rename {path}", lambda: os.rename(path, path + "-"), ABSENT | {errno.EXDEV})
        attempt(f"chmod {path}", lambda: os.chmod(path, 0o777), ABSENT)
    # Not planted in the workspace under the name of a mount.
    for path in ("/workspace", "/home/fumehood", "/tmp"):
        attempt(f"rename {path}", lambda: os.rename(path, "/moved"), {errno.EBUSY, errno.EROFS, errno.EXDEV})


def writable_beneath(top, most, skip=lambda path: False):
    tried = 0
    for folder, folders, files in os.walk(top):
        folders[:] = [f for f in folders if not skip(os.path.join(folder, f))]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.islink(path) or skip(path):
                continue
            tried += 1
            if tried > most:
                return
            opens(path, os.O_WRONLY, ABSENT | {errno.EINVAL, errno.EIO, errno.EBUSY})


@attack
def writable_proc_sys():
    for name in ("kernel/core_pattern", "kernel/modprobe", "kernel/poweroff_cmd", "vm/drop_caches", "vm/overcommit_memory",
                 "kernel/randomize_va_space", "kernel/yama/ptrace_scope", "user/max_user_namespaces", "fs/binfmt_misc/register"):
        opens(f"/proc/sys/{name}", os.O_WRONLY)
    if not FREE:
        writable_beneath("/proc/sys", 5000)


@attack
def writable_proc():
    for name in ("sysrq-trigger", "irq/default_smp_affinity", "mtrr", "acpi/wakeup", "bus/pci/devices", "scsi/scsi", "timer_list"):
        opens(f"/proc/{name}", os.O_WRONLY)
    if not FREE:
        # What is of a process is tried with init's and the keeper's.
        def skip(path):
            first = path.split("/")[2]
            return first in ("self", "thread-self", "sys") or first.isdigit()
        writable_beneath("/proc", 5000, skip)


@attack
def writable_sys():
    for name in ("power/state", "kernel/mm/transparent_hugepage/enabled", "kernel/uevent_helper", "kernel/profiling",
                 "module/kernel/parameters/panic", "fs/cgroup/cgroup.procs", "fs/cgroup/release_agent",
                 "fs/cgroup/memory/release_agent", "fs/cgroup/rdma/release_agent"):
        opens(f"/sys/{name}", os.O_WRONLY)
    for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"):
        if not FREE:
            attempt(f"mkdir in {folder}", lambda: (os.mkdir(f"{folder}/planted"), os.rmdir(f"{folder}/planted")), ABSENT)
    if not FREE:
        writable_beneath("/sys", 20000)


@attack
def secrets_of_the_kernel():
    for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/proc/kpagecount", "/proc/slabinfo", "/proc/vmallocinfo",
                 "/proc/timer_list", "/proc/sched_debug", "/sys/kernel/vmcoreinfo", "/sys/kernel/notes", "/sys/firmware/dmi/tables/DMI",
                 "/sys/class/dmi/id/product_serial", "/sys/kernel/debug/.", "/sys/kernel/tracing/trace", "/sys/fs/pstore/."):
        def read():
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            if os.path.isdir(path):
                empty = not os.listdir(path)
            else:
                empty = not os.read(fd, 64)
            os.close(fd)
            if empty:
                raise OSError(errno.ENOENT, "empty")
        attempt(f"read {path}", read, ABSENT | {errno.EIO, errno.EAGAIN, errno.EINVAL})
    told = False
    try:
        told = any(int(line.split()[0], 16) for line in open("/proc/kallsyms"))
    except OSError:
        pass
    claim("addresses in kallsyms", told)


@attack
def nodes_of_devices():
    for folder in ("/workspace", "/tmp", "/dev/shm", "/dev", "/home/fumehood") if not FREE else (tempfile.mkdtemp(),):
        for name, mode, device in (("char", 0o020666, (1, 1)), ("kvm", 0o020666, (10, 232)), ("block", 0o060666, (8, 0)), ("loop", 0o060666, (7, 0))):
            path = f"{folder}/{name}"
            attempt(f"mknod {path}", lambda: (os.mknod(path, mode, os.makedev(*device)), os.unlink(path)), ABSENT)
        attempt(f"mkfifo {folder}", lambda: (os.mkfifo(f"{folder}/fifo"), os.unlink(f"{folder}/fifo")), ABSENT)


@attack
def devices():
    fine = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    names = set(os.listdir("/dev")) | {"mem", "kmem", "port", "kmsg", "kvm", "fuse", "net/tun", "vhost-net", "vhost-vsock", "uinput",
                                       "loop0", "loop-control", "sda", "vda", "nvme0n1", "xvda", "mapper/control", "snapshot", "cuse", "userfaultfd"}
    import stat
    for name in sorted(names - fine):
        path = f"/dev/{name}"
        if name in ("shm", "pts", "fd", "stdin", "stdout", "stderr", "mqueue", "core"):
            continue
        if FREE and name not in ("mem", "kmsg", "fuse", "loop-control", "userfaultfd"):
            continue
        try:
            if stat.S_ISDIR(os.stat(path).st_mode):
                continue
        except OSError:
            pass
        opens(path, os.O_RDONLY)


@attack
def files_by_handle():
    handle = ctypes.create_string_buffer(struct.pack("IiQQ", 16, 1, 2, 0), 256)
    root = os.open("/", os.O_RDONLY)
    door("open_by_handle_at", (304, 265), root, handle, 0)
    door("name_to_handle_at", (303, 264), root, b"etc", ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 256), ctypes.create_string_buffer(8), 0)
    door("fanotify_init", (300, 262), 0, 0)


@attack
def other_changes_to_files_of_the_system():
    """Every way to change what lies there that is not opening, making, renaming or removing a file."""
    import fcntl
    if FREE:
        folder = tempfile.mkdtemp()
        path = os.path.join(folder, "mine")
        open(path, "w").close()
        places = [(path, folder)]
    else:
        places = [("/etc/passwd", "/etc"), ("/usr/bin/python3", "/usr/bin"), ("/bin/sh", "/"), ("/etc/hosts", "/var"), ("/etc/resolv.conf", "/usr")]
    fine = ABSENT | {errno.EXDEV}
    for path, folder in places:
        planted = os.path.join(folder, f"planted-{os.getpid()}")
        attempt(f"a second name of {path}", lambda: (os.link(path, planted), os.unlink(planted)), fine)
        attempt(f"its times: {path}", lambda: os.utime(path, (0, 0)), fine)
        attempt(f"its length: {path}", lambda: os.truncate(path, os.stat(path).st_size), fine)
        attempt(f"its owner: {path}", lambda: os.chown(path, os.getuid(), os.getgid()), fine)
        attempt(f"an attribute of {path}", lambda: os.setxattr(path, "user.planted", b"x"), fine)
        # With itself: nothing changes.
        door(f"exchange {path}", (316, 276), -100, path.encode(), -100, path.encode(), 2, also=fine)
        attempt(f"a link in {folder}", lambda: (os.symlink("x", planted), os.unlink(planted)), fine)
        attempt(f"a folder in {folder}", lambda: (os.mkdir(planted), os.rmdir(planted)), fine)
        attempt(f"a nameless file in {folder}", lambda: os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY)), fine)

        def bind():
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(planted)
            os.unlink(planted)
        attempt(f"a socket in {folder}", bind, fine)

        def flags():
            fd = os.open(folder, os.O_RDONLY)
            fcntl.ioctl(fd, 0x40086602, fcntl.ioctl(fd, 0x80086601, bytes(8)))
        attempt(f"the flags of {folder}", flags, fine | {errno.ENOTTY, errno.EOPNOTSUPP})


@attack
def programs_that_run_overwritten():
    """What runs outside is overwritten through the name that /proc gives it, as in CVE-2019-5736."""
    def reopen(path):
        held = os.open(path, os.O_PATH)
        try:
            os.close(os.open(f"/proc/self/fd/{held}", os.O_WRONLY))
        except OSError as error:
            # Who waits until nobody runs it gets it then, but not on a read-only mount.
            if error.errno == errno.ETXTBSY and os.fstatvfs(held).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, "")
            raise
    others = [f"/proc/{pid}/exe" for pid in targets()]
    for path in others:
        attempt(f"hold {path} until nobody runs it", lambda: os.close(os.open(path, os.O_PATH)), ABSENT)
    paths = ["/proc/self/exe", *others]
    paths += ["/.fumehood/init", "/bin/sh", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"] if not FREE else []
    for path in paths:
        attempt(f"write {path}", lambda: reopen(path), ABSENT)


@attack
def programs_in_temporary_folders():
    """Machine code that was written where everybody may write. Interpreters read scripts there all the same."""
    import mmap
    import shutil
    folders = ["/dev/shm"] if HOST.get("tmp_exec") else ["/tmp", "/dev/shm"]
    for folder in folders:
        path = f"{folder}/planted-{os.getpid()}"
        shutil.copyfile("/bin/true", path)
        os.chmod(path, 0o755)
        attempt(f"run {path}", lambda: subprocess.run([path]))

        def by_descriptor():
            fd = os.open(path, os.O_PATH)
            subprocess.run([f"/proc/self/fd/{fd}"], pass_fds=[fd])
        attempt(f"run {path} by a descriptor", by_descriptor)

        def place():
            with open(path, "rb") as file:
                mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
        attempt(f"map {path}", place)
        os.unlink(path)


@attack
def leases_that_make_the_host_wait():
    """Whoever opens a leased file waits until its holder gives it up: 45 seconds for each, on the host too."""
    import fcntl
    for folder in ("/workspace", "/tmp") if not FREE else (tempfile.mkdtemp(),):
        path = f"{folder}/leased-{os.getpid()}"
        open(path, "w").close()
        for name, kind in (("write", fcntl.F_WRLCK), ("read", fcntl.F_RDLCK)):
            def take():
                fd = os.open(path, os.O_RDONLY)
                fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            attempt(f"{name} lease in {folder}", lambda: in_child(take))

            def delegate():
                # F_SETDELEG of Linux 6.19. One that lacks it answers EINVAL itself, and so it got in.
                fcntl.fcntl(os.open(path, os.O_RDONLY), 1024 + 16, struct.pack("=IHH", 0, kind, 0))
            attempt(f"{name} delegation in {folder}", lambda: in_child(delegate))
        os.unlink(path)


@attack
def whole_file_systems():
    """Frozen, nobody on the host could write to them. Tried on what cannot be frozen: who may is told first."""
    import fcntl
    for path in ("/dev/shm", "/tmp", "/proc"):
        kind = ctypes.create_string_buffer(256)
        call((137, 43), path.encode(), kind)
        # A tmpfs, a proc: nothing else.
        if struct.unpack_from("q", kind)[0] not in (0x01021994, 0x9FA0):
            continue
        fd = os.open(path, os.O_RDONLY)
        attempt(f"freeze {path}", lambda: fcntl.ioctl(fd, 0xC0045877, 0))
        os.close(fd)
    path = os.path.join("/workspace" if not FREE else tempfile.mkdtemp(), f"mapped-{os.getpid()}")
    open(path, "w").close()
    fd = os.open(path, os.O_RDONLY)
    attempt("its place on the disk", lambda: fcntl.ioctl(fd, 1, struct.pack("i", 0)))
    os.close(fd)
    os.unlink(path)
