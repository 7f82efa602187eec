import os, socket
done = []
def attempt(what, act):
    try:
        act()
    except OSError as error:
        print(what, error)
    else:
        done.append(what)
def dial(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
for path in ("ipc", ".git/daemon", "sub/agent"):
    attempt("connect " + path, lambda: dial(path))
    attempt("rename " + path, lambda: os.rename(path, "aside"))
    attempt("remove " + path, lambda: os.unlink(path))
    attempt("link " + path, lambda: os.link(path, "second"))
# Who takes the folder along takes the cover along.
os.rename("sub", "moved")
attempt("connect moved", lambda: dial("moved/agent"))
attempt("link moved", lambda: os.link("moved/agent", "second"))
os.rename("moved", "sub")
attempt("write to the pipe", lambda: os.close(os.open("fifo", os.O_WRONLY | os.O_NONBLOCK)))
print("DONE", done)
