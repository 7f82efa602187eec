//! Against the person's eyes: a real terminal, what a program says and what a model says.

use super::runs::LIES;
use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use serde_json::json;
use std::process::Command;

/// The command on a terminal of its own; every byte that reached it.
fn on_a_terminal(env: &TestEnv, more: &[(&str, &str)], argv: &[&str]) -> String {
    let quoted: Vec<_> = argv
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    let line = format!("{} {}", env!("CARGO_BIN_EXE_fumehood"), quoted.join(" "));
    let output = Command::new("/usr/bin/script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm-256color")
        .env("HOME", env.path("home"))
        .env("FUMEHOOD_HOME", env.state())
        .envs(more.iter().copied())
        .current_dir(env.path("work"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).expect("bad UTF-8 reached the terminal")
}

/// Takes out colours, line ends, and folding of a line as our progress does; what is left must be plain.
fn without_colours(text: &str) -> String {
    // "Start of line, erase" is what a carriage return becomes, "back, blank, back" a backspace.
    let text = &text.replace("\r\u{1b}[K", "").replace("\u{8} \u{8}", "");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("\u{1b}[") {
        out.push_str(&rest[..at]);
        let sequence = &rest[at + 2..];
        let end = sequence
            .find(|c: char| !c.is_ascii_digit() && c != ';')
            .unwrap();
        assert!(
            sequence[end..].starts_with('m'),
            "{:?}",
            &sequence[..(end + 8).min(sequence.len())]
        );
        // Of the colours, ours: none hides.
        assert!(
            !sequence[..end].split(';').any(|part| part == "8"),
            "{text:?}"
        );
        rest = &sequence[end + 1..];
    }
    out.push_str(rest);
    out.replace("\r\n", "\n")
}

#[test]
fn a_program_s_lies_on_a_terminal() {
    let env = TestEnv::new();
    let shown = on_a_terminal(
        &env,
        &[],
        &[
            "exec",
            "--policy",
            "dev-loop",
            "--",
            "/usr/bin/python3",
            "-c",
            LIES,
        ],
    );
    let plain = without_colours(&shown);
    assert!(
        plain.contains("clipboard") && plain.contains("FORGED"),
        "{plain}"
    );
    // Told live, a line is written over from its start: a lone carriage return is all it takes.
    assert!(super::runs::is_plain(&plain.replace('\r', "")), "{plain:?}");
    assert!(!plain.contains("\u{1b}"), "{plain:?}");
}

#[test]
fn a_model_s_lies_on_a_terminal() {
    let env = TestEnv::new();
    let evil = "\u{1b}]52;c;ZXZpbA==\u{7}\u{9b}2J\r\u{202e}EVIL";
    let forged = "  \u{25b8} forged\n    allowed by you";
    let llm = FakeLlm::start([
        Reply::Answer(says(&format!("{evil}\n{forged}")).calls(
            "exec",
            json!({"command": format!("echo {evil}; printf '{forged}\\n'")}),
        )),
        Reply::Answer(says("").calls("exec", json!({"argv": ["/usr/bin/python3", "-c", LIES]}))),
        Reply::Answer(says("").calls(
            "write",
            json!({"path": format!("{evil}.py"), "content": evil}),
        )),
        Reply::Answer(says("").calls("write", json!({"path": "x.py", "content": evil}))),
        Reply::Answer(says("").calls("read", json!({"path": "x.py"}))),
        Reply::Answer(says("").calls("edit", json!({"path": evil, "old": evil, "new": ""}))),
        Reply::Answer(says("").calls("list", json!({"path": "."}))),
        Reply::Answer(says("").calls(
            "clone_repo",
            json!({"url": format!("https://{evil}/"), "rev": evil}),
        )),
        Reply::Answer(says("").calls(evil, json!({evil: evil}))),
        Reply::Answer(says("").calls("exec", json!({"command": "true", evil: evil}))),
        Reply::Answer(says(&format!("done {evil}\n{forged}"))),
    ]);
    let shown = on_a_terminal(
        &env,
        &[("LLAMACPP_BASE_URL", &llm.base_url())],
        &[
            "run",
            "--model",
            "llamacpp/tiny",
            "--policy",
            "dev-loop",
            "--yes",
            "a task",
        ],
    );
    let plain = without_colours(&shown);
    assert!(
        plain.contains("EVIL") && plain.contains("finished"),
        "{plain}"
    );
    assert!(super::runs::is_plain(&plain), "{plain:?}");
    // What a program prints stands behind a bar.
    let bars = plain.lines().filter(|line| line.contains("allowed by you"));
    let forged: Vec<_> = bars
        .filter(|line| line.trim_start().starts_with("allowed"))
        .collect();
    // The model's own words stand under their bullet, and are the model's: two of them.
    assert!(forged.len() <= 2, "{forged:?}\n{plain}");
    assert!(
        plain
            .lines()
            .any(|line| line.contains("\u{2502}") && line.contains("allowed by you")),
        "{plain}"
    );
}
