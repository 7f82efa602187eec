"""What every attempt needs. An attempt is a function named in ATTACKS; it tries things, and each thing
either was refused, by name, or is counted as done. Nothing here knows whether anything confines it:
ATTACK in the environment names what the host laid out, and says "free" where nothing is to be broken
because nothing confines."""

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HOST = json.loads(os.environ["ATTACK"])
FREE = HOST["free"]
ATTACKS = {}
REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS}
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EROFS, errno.ELOOP}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
here = None
victims = []


class Report:
    def __init__(self):
        self.done = []
        self.refused = {}

    def note(self, what, error):
        if error is None:
            self.done.append(what)
        else:
            self.refused[what] = error


def attack(function):
    ATTACKS[function.__name__] = function
    return function


def attempt(what, act, also=()):
    """Done, unless an error says that it was not allowed (or, with `also`, that there is nothing)."""
    try:
        act()
    except OSError as error:
        name = errno.errorcode.get(error.errno, str(error))
        if error.errno in REFUSALS or error.errno in also:
            here.note(what, name)
        else:
            here.note(f"{what}: got as far as {name}", None)
    else:
        here.note(what, None)


def claim(what, broken, seen=""):
    """For what no call tells: `broken` is whether it succeeded."""
    here.note(f"{what} {seen}".strip(), None if broken else "no")


def in_child(act):
    """Raises what it raises there; a death by signal is a refusal."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            act()
        except OSError as error:
            code = error.errno
        except BaseException:
            code = 9999
        os.write(writing, struct.pack("i", code))
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 4)
    os.close(reading)
    os.waitpid(child, 0)
    code = struct.unpack("i", said)[0] if said else errno.EPERM
    if code == 9999:
        raise RuntimeError("the attempt itself is broken")
    if code:
        raise OSError(code, os.strerror(code))


def call(number, *arguments):
    """A bare system call; numbers of x86_64 and aarch64 differ where there are two."""
    if isinstance(number, tuple):
        number = number[0 if platform.machine() == "x86_64" else 1]
    words = [a if isinstance(a, (bytes, ctypes.Array)) else ctypes.c_long(a) for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def door(what, number, *arguments, also=()):
    """The call must be turned away at the door: an error about its arguments means it got in."""
    attempt(what, lambda: in_child(lambda: call(number, *arguments)), also)


def opens(path, flags, also=ABSENT):
    """Opening is enough: nothing is written."""
    def act():
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
        covered = os.fstat(fd).st_rdev == os.makedev(1, 3)
        os.close(fd)
        if covered:
            raise OSError(errno.ENOENT, "covered with /dev/null")
    attempt(f"open {path}", act, also)


def targets():
    """Init and this step's keeper; where nothing confines, somebody to be hurt in their place."""
    if not FREE:
        return [1, os.getppid()] if os.getppid() != 1 else [1]
    # Holds nothing of ours, stopped or not.
    quiet = subprocess.DEVNULL
    victims.append(subprocess.Popen(["/bin/sleep", "30"], stdin=quiet, stdout=quiet, stderr=quiet))
    return [victims[-1].pid]


def main():
    global here
    reports = {}
    for name in sys.argv[1:]:
        here = Report()
        ATTACKS[name]()
        reports[name] = {"done": here.done, "refused": here.refused}
        for victim in victims:
            victim.kill()
            victim.wait()
        victims.clear()
    print(json.dumps(reports))
