import errno, os, shutil
done = []
def attempt(what, act):
    try: act()
    except OSError: return
    done.append(what)
def write(path):
    with open(path, "a") as f: f.write("evil")
for path in (".git/hooks/mine", ".git/hooks/evil", ".git/config", "sub/.git/hooks/mine", "link/.git/hooks/evil", ".vscode/mine", ".vscode/tasks.json", ".envrc"):
    attempt("write " + path, lambda: write(path))
for path in (".git", "sub/.git", ".vscode", ".envrc"):
    attempt("rename " + path, lambda: os.rename(path, path + "-"))
    attempt("remove " + path, lambda: os.unlink(path) if os.path.isfile(path) else shutil.rmtree(path))
    attempt("chmod " + path, lambda: os.chmod(path, 0o777))
    attempt("times " + path, lambda: os.utime(path))
    attempt("attribute " + path, lambda: os.setxattr(path, "user.evil", b"x"))
    attempt("link " + path, lambda: os.link(path + "/hooks/mine", "second"))
    attempt("exchange " + path, lambda: os.replace("other", path))
# A folder around it may be renamed; what is then made in its place is new.
attempt("around", lambda: os.rename("sub", "moved"))
done = [d for d in done if d != "around"]
os.makedirs("sub/.git/hooks", exist_ok=True) if not os.path.exists("sub/.git") else None
attempt("in its place", lambda: write("sub/.git/hooks/evil")) if os.path.exists("moved") else None
done = [d for d in done if d != "in its place"]
print("DONE", done)
