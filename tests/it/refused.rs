//! What a sandbox with a network is refused beyond what [`egress`](crate::egress) tries, and what a person
//! may add to it: on both backends.

use crate::egress::{Scene, behind_tls, here, on_both, server};
use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Reads whatever comes, answers nothing, and counts it.
fn sink() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&heard);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let counted = Arc::clone(&counted);
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut some = vec![0; 1 << 16];
                while let Ok(count @ 1..) = stream.read(&mut some) {
                    counted.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
    });
    (port, heard)
}

on_both! {
    a_listed_name_that_leads_to_a_private_address_is_refused(backend) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED, a table of hosts of the test's own takes root");
            return;
        }
        let (server, plain) = server();
        let listed = |name: &str| format!("{{ host = \"{name}\", ports = [{plain}] }}");
        let names = ["here.test", "inner.test", "metadata.test", "six.test"];
        let scene = Scene::new(backend, &format!("allow = [{}]", names.map(listed).join(", ")));
        let hosts = scene.env.path("hosts");
        std::fs::write(&hosts, "127.0.0.1 here.test\n10.1.2.3 inner.test\n169.254.169.254 metadata.test\n::1 six.test\n").unwrap();
        let script = format!(
            r#"from lib import *
names = {names:?}
def tunnel(n): return raw(f"CONNECT {{n}}:{plain} HTTP/1.1\r\n\r\nGET /hello HTTP/1.1\r\nHost: {{n}}:{plain}\r\n\r\n".encode()).split("\r\n\r\n", 1)[1][:12]
got = [[get(f"http://{{n}}:{plain}/hello")[:11], tunnel(n)] for n in names]
free()
done([got, [[get(f"http://{{n}}:{plain}/hello")[:11], sealed(n, {plain}, n)] for n in names]])
"#
        );
        // In a mount namespace of its own: the machine's table stays as it is.
        let mut own = Command::new("unshare");
        own.args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
            .arg(&hosts);
        let ran = scene.ran(scene.exec_under(own, &["/usr/bin/python3", "-c", &script]));
        let last = ran.stdout.lines().last().unwrap_or_default();
        let got: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{}", ran.stderr));
        for answers in got[0].as_array().unwrap() {
            assert_eq!(*answers, json!(["403 blocked", "HTTP/1.1 403"]), "{got}");
        }
        for answers in got[1].as_array().unwrap() {
            assert_eq!(*answers, json!(["403 blocked", "SSLError"]), "{got}");
        }
        for (name, address) in names.iter().zip(["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1"]) {
            ran.must_have_blocked(&format!("blocked: {name}:{plain}; it leads to {address}, "));
        }
        assert!(server.requests().is_empty());
        // Each was recorded before it was resolved, and came to nothing.
        assert!(ran.count("network-opened") >= 4 * names.len(), "{:?}", ran.events);
        let moved = |event: &&Value| event["sent"] != 0 || event["received"] != 0;
        let closed = ran.events.iter().filter(|event| event["type"] == "network-closed");
        assert_eq!(closed.filter(moved).count(), 0, "{:?}", ran.events);
    }

    two_gigabytes_are_cut_at_the_limit_in_the_open_and_in_tls(backend) {
        const LIMIT: u64 = 8 << 20;
        for way in ["plain", "sealed"] {
            let (plain, heard) = sink();
            let tls = behind_tls(plain);
            let allow = here("pkg.test", &[plain, tls]);
            let scene = Scene::new(backend, &format!("allow = [{allow}]\nca = \"host\"\nupload_bytes = \"8MiB\""));
            let (got, ran) = scene.python(&format!(
                r#"
free()
s = socket.create_connection(("pkg.test", {plain} if "{way}" == "plain" else {tls}), timeout=100)
if "{way}" == "plain": s.sendall(b"POST / HTTP/1.1\r\nHost: pkg.test:{plain}\r\nContent-Length: %d\r\n\r\n" % (2 << 30))
else: s = ssl.create_default_context().wrap_socket(s, server_hostname="pkg.test")
block, sent = bytes(1 << 20), 0
try:
    while sent < 2 << 30:
        s.sendall(block)
        sent += len(block)
    cut = "no"
except OSError as e: cut = type(e).__name__
again = raw(b"CONNECT pkg.test:{plain} HTTP/1.1\r\n\r\n")[:12]
done([sent, cut, again])
"#
            ));
            assert!(got[0].as_u64().unwrap() < 1 << 30, "{way}: {got}");
            // Not left to wait for ever, either.
            assert!(!["no", "TimeoutError"].contains(&got[1].as_str().unwrap()), "{way}: {got}");
            assert_eq!(got[2], "HTTP/1.1 403", "{way}");
            ran.must_have_blocked("the limit of network.upload_bytes is reached");
            let sent: u64 = ran.events.iter().filter_map(|event| event["sent"].as_u64()).sum();
            assert!((1..=LIMIT).contains(&sent), "{way}: {sent}");
            assert!(heard.load(Ordering::Relaxed) <= LIMIT, "{way}: {heard:?}");
        }
    }

    a_host_that_a_person_approves_is_reached_for_the_rest_of_the_run(backend) {
        let (server, plain) = server();
        let proxy = Upstream::start(plain);
        let scene = Scene::new(backend, "\n[approval]\ntimeout = \"15m\"\n[[approval.rule]]\nid = \"get\"\naction = \"exec\"\ndecision = \"allow\"\ncommand_prefix = [\"/usr/bin/python3\", \"get.py\"]");
        std::fs::write(scene.workspace.join("get.py"), "from lib import *\nprint(get('http://more.test/hello'), get('http://other.test/hello'))\n").unwrap();
        let fetch = || says("").calls("exec", json!({"argv": ["/usr/bin/python3", "get.py"]}));
        let ask = json!({"host": "more.test", "port": 80, "reason": "the data is there"});
        let llm = FakeLlm::start([
            Reply::Answer(fetch()),
            Reply::Answer(says("").calls("allow_host", ask)),
            Reply::Answer(fetch()),
            Reply::Answer(fetch()),
            Reply::Answer(says("I have it.")),
        ]);
        let person = Terminal::open(&scene, &proxy, &llm);
        person.answer("May this host be reached for the rest of this run?", b"yes\r");
        let (code, text) = person.until_it_ends();
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("more.test:80"), "{text}");
        let told: Vec<String> = llm.requests().iter().map(|request| request.last_text().to_owned()).collect();
        assert_eq!(told.len(), 5, "{text}");
        assert!(told[1].contains("network: blocked: more.test:80"), "{}", told[1]);
        assert!(told[2].contains("more.test:80 may be reached"), "{}", told[2]);
        for after in &told[3..] {
            assert!(after.contains("hello 403 blocked: other.test:80"), "{after}");
            assert!(!after.contains("network: blocked: more.test"), "{after}");
            // What is blocked again is told again, though it is recorded once.
            assert!(after.contains("network: blocked: other.test:80"), "{after}");
        }
        assert_eq!(server.requests().len(), 2);
        assert_eq!(*proxy.asked.lock().unwrap(), ["more.test:80", "more.test:80"]);
        let shown = scene.shown();
        let by = |event: &&Value| event["type"] == "decided" && event["action"] == "network";
        let decided: Vec<&Value> = shown.iter().filter(by).collect();
        assert_eq!(decided.len(), 1, "{shown:#?}");
        assert_eq!((&decided[0]["allowed"], &decided[0]["approver"]["by"]), (&json!(true), &json!("person")));
        let blocked = shown.iter().filter(|event| event["type"] == "network-blocked");
        assert_eq!(blocked.count(), 2);
    }

    what_was_spent_stays_spent_in_a_sandbox_that_replaces_another(backend) {
        let (_server, plain) = server();
        let limits = "upload_bytes = \"4KiB\"";
        let scene = Scene::new(backend, &format!("allow = [{}]\n{limits}", here("pkg.test", &[plain])));
        let policy = scene.policy.to_str().unwrap();
        let mut open = scene.env.fumehood();
        open.args(["box", "open", "--policy", policy]).args(scene.backend);
        open.args(["--workspace", scene.workspace.to_str().unwrap()]);
        let open = open.output().unwrap();
        assert!(open.status.success(), "{open:?}");
        let name = String::from_utf8(open.stdout).unwrap().trim().to_owned();
        let held = Held(&scene.env, &name);
        let post = |bytes: usize| {
            let script = format!("from lib import *\nprint(get('http://pkg.test:{plain}/post', b'x' * {bytes}))");
            held.exec(&["/usr/bin/python3", "-c", &script])
        };
        assert_eq!(post(1000), "1000\n");
        assert!(post(5000).starts_with("403 blocked"));
        held.exec(&["/bin/sh", "-c", "touch /tmp/old"]);
        held.lose_its_sandbox();
        // Another one: of the first nothing is left, but what was spent.
        assert_eq!(held.exec(&["/bin/sh", "-c", "ls -A /tmp"]), "");
        let after = post(1);
        assert!(after.starts_with("403 blocked"), "{after}");
    }
}

/// A box that is open; closed with the value.
struct Held<'a>(&'a TestEnv, &'a str);

impl Held<'_> {
    fn exec(&self, argv: &[&str]) -> String {
        let mut command = self.0.fumehood();
        let output = command
            .args(["box", "exec", self.1, "--"])
            .args(argv)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its container, or its first process, is killed from outside.
    fn lose_its_sandbox(&self) {
        let output = self
            .0
            .fumehood()
            .args(["box", "list", "--json"])
            .output()
            .unwrap();
        let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let listed = all.iter().find(|one| one["name"] == self.1).unwrap();
        let (holder, run) = (&listed["pid"], listed["run"].as_str().unwrap());
        let shown = self
            .0
            .fumehood()
            .args(["runs", "show", run, "--json"])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let started = shown
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|line| line["event"].clone())
            .find(|event| event["type"] == "sandbox-started")
            .unwrap();
        if started["backend"] == "docker" {
            let name = started["name"].as_str().unwrap();
            let killed = Command::new("docker")
                .args(["kill", name])
                .output()
                .unwrap();
            assert!(killed.status.success(), "{killed:?}");
        } else {
            for task in std::fs::read_dir(format!("/proc/{holder}/task")).unwrap() {
                let children = std::fs::read_to_string(task.unwrap().path().join("children"));
                for pid in children.unwrap_or_default().split_whitespace() {
                    let _ = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
                }
            }
        }
        // The holder notices; until then a command may still be told that its sandbox is gone.
        let begun = Instant::now();
        loop {
            let mut command = self.0.fumehood();
            let output = command
                .args(["box", "exec", self.1, "--", "test", "!", "-e", "/tmp/old"])
                .output();
            if output.unwrap().status.success() {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(100),
                "no other sandbox came"
            );
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = self.0.fumehood().args(["box", "close", self.1]).ok();
    }
}

/// A proxy of the machine's own: it resolves every name to the same server, and keeps what it was asked.
struct Upstream {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || connect(stream.unwrap(), to, &kept));
            }
        });
        Self { port, asked }
    }
}

fn connect(mut client: TcpStream, to: u16, asked: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(target) = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next())
    else {
        return;
    };
    asked.lock().unwrap().push(target.to_owned());
    let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut from, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let up = thread::spawn(move || std::io::copy(&mut from, &mut into));
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = up.join();
}

/// A run at a terminal, with somebody before it.
struct Terminal {
    child: Child,
    seen: Arc<Mutex<String>>,
    reading: thread::JoinHandle<()>,
}

impl Terminal {
    fn open(scene: &Scene, proxy: &Upstream, llm: &FakeLlm) -> Self {
        let program = env!("CARGO_BIN_EXE_fumehood");
        let command = format!(
            "{program} run --model llamacpp/tiny --policy {} {} --workspace {} 'Fetch it.'",
            scene.policy.display(),
            scene.backend.join(" "),
            scene.workspace.display(),
        );
        let mut script = Command::new("script");
        script
            .args(["-q", "-e", "-c", &command, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", scene.env.path("home"))
            .env("FUMEHOOD_HOME", scene.env.state())
            .env("LLAMACPP_BASE_URL", llm.base_url())
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port))
            .env("NO_PROXY", "127.0.0.1")
            .current_dir(scene.env.path("work"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(host) = std::env::var_os("DOCKER_HOST") {
            script.env("DOCKER_HOST", host);
        }
        let mut child = script.spawn().unwrap();
        let mut screen = child.stdout.take().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&seen);
        let reading = thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut some) {
                let text = String::from_utf8_lossy(&some[..count]).into_owned();
                shown.lock().unwrap().push_str(&text);
            }
        });
        Self {
            child,
            seen,
            reading,
        }
    }

    fn text(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Types it once the question stands, again where it was too early, until something else is shown.
    fn answer(&self, question: &str, keys: &[u8]) {
        let begun = Instant::now();
        let patient = || {
            assert!(
                begun.elapsed() < Duration::from_secs(300),
                "{}",
                self.text()
            )
        };
        while !self.text().contains(question) {
            patient();
            thread::sleep(Duration::from_millis(100));
        }
        let mut typed = None;
        while !self
            .text()
            .contains("may be reached for the rest of this run")
        {
            patient();
            if typed.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(60)) {
                thread::sleep(Duration::from_secs(2));
                for key in keys {
                    let mut keyboard = self.child.stdin.as_ref().unwrap();
                    keyboard.write_all(&[*key]).unwrap();
                    thread::sleep(Duration::from_millis(80));
                }
                typed = Some(Instant::now());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn until_it_ends(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(300),
                "{}",
                self.text()
            );
            thread::sleep(Duration::from_millis(100));
        };
        drop(self.child.stdin.take());
        self.reading.join().unwrap();
        (status.code(), self.seen.lock().unwrap().clone())
    }
}
