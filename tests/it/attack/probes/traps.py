import os, socket
def trap(folder):
    os.makedirs(folder, exist_ok=True)
    at = lambda name: os.path.join(folder, name)
    for name in (".git/hooks", ".hg", ".vscode", ".idea", ".claude"):
        os.makedirs(at(name), exist_ok=True)
        with open(at(name + "/evil"), "w") as f: f.write("#!/bin/sh\ntouch /tmp/evil\n")
    with open(at(".envrc"), "w") as f: f.write("touch /tmp/evil\n")
    for name in ("objects", "refs"): os.makedirs(at("bare/" + name), exist_ok=True)
    with open(at("bare/HEAD"), "w") as f: f.write("ref: refs/heads/main\n")
    with open(at("bare/config"), "w") as f: f.write("[core]\n fsmonitor = touch /tmp/evil\n")
    for name, to in (("absolute", "/etc/passwd"), ("up", "../" * 20 + "etc/passwd"), ("dangling", "/no/such/file"),
                     ("proc", "/proc/self/root"), ("chain", "absolute"), ("folder", "/")):
        os.symlink(to, at(name))
    socket.socket(socket.AF_UNIX).bind(at("socket"))
    for act in (lambda: os.mkfifo(at("fifo")), lambda: os.mknod(at("node"), 0o20666, os.makedev(1, 3))):
        try: act()
        except OSError: pass
    with open(at("setuid"), "w") as f: f.write("x")
    for act in (lambda: os.chmod(at("setuid"), 0o4755), lambda: os.chmod(at("setuid"), 0o2755)):
        try: act()
        except OSError: pass
# A socket's name is short, so the deep ones are made from within.
trap(".")
os.makedirs("/workspace/a/b/c/d/e/f"); os.chdir("/workspace/a/b/c/d/e/f")
trap(".")
os.makedirs("/workspace/closed/x"); os.chdir("/workspace/closed/x")
trap(".")
os.chmod("/workspace/closed", 0o555)
