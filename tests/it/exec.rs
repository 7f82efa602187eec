//! `fumehood exec` as a user types it, on the namespace backend and on an engine.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use predicates::prelude::*;

/// Each claim, on each backend.
macro_rules! on_both {
    ($($(#[$doc:meta])* $name:ident($env:ident, $exec:ident) $body:block)+) => {
        $(fn $name($env: &TestEnv, $exec: &dyn Fn(&[&str]) -> assert_cmd::Command) $body)+

        mod namespace {
            use super::*;
            $(#[test] fn $name() {
                let env = TestEnv::new();
                super::$name(&env, &|args| {
                    let mut command = env.fumehood();
                    command.args(["exec", "--policy", "dev-loop"]).args(args);
                    command
                });
            })+
        }

        mod docker {
            use super::*;
            $(#[test] fn $name() {
                if !crate::docker::there() {
                    return;
                }
                let env = TestEnv::new();
                super::$name(&env, &|args| {
                    let mut command = env.fumehood();
                    command
                        .args(["exec", "--policy", "dev-loop", "--backend", "docker", "--image", IMAGE])
                        .args(args);
                    command
                });
            })+
        }
    };
}

on_both! {
    output_and_errors_stay_apart(_env, exec) {
        exec(&["--", "sh", "-c", "echo out; echo err >&2"])
            .assert()
            .success()
            .stdout("out\n")
            .stderr(predicate::str::contains("err\n"));
    }

    the_exit_code_is_the_programs_own(_env, exec) {
        exec(&["--", "sh", "-c", "exit 7"]).assert().code(7);
        exec(&["--", "sh", "-c", "kill -9 $$"]).assert().code(137);
    }

    a_missing_program_is_127_and_one_that_cannot_be_executed_126(_env, exec) {
        exec(&["--", "no-such-program"])
            .assert()
            .code(127)
            .stderr(predicate::str::contains("not found"));
        exec(&["--", "/etc/passwd"])
            .assert()
            .code(126)
            .stderr(predicate::str::contains("cannot be executed"));
    }

    a_timeout_is_124_and_says_so(_env, exec) {
        exec(&["--timeout", "300ms", "--", "sleep", "60"])
            .assert()
            .code(124)
            .stderr(predicate::str::contains("time limit"));
    }

    standard_input_passes_through(_env, exec) {
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let output = exec(&["--", "cat"]).write_stdin(bytes.clone()).output().unwrap();
        assert!(output.status.success());
        assert!(output.stdout == bytes);
    }

    raw_bytes_reach_a_pipe(_env, exec) {
        exec(&["--", "printf", "\\033]52;c;AAAA\\007\\377\\000"])
            .assert()
            .success()
            .stdout(&b"\x1b]52;c;AAAA\x07\xff\x00"[..]);
    }

    files_come_out_as_the_workspaces_owner(env, exec) {
        use std::os::unix::fs::MetadataExt;
        let folder = env.workspace("mine", &[("in.txt", "hello\n")]);
        exec(&["--workspace", folder.to_str().unwrap(), "--", "sh", "-c", "cat in.txt > out.txt"])
            .assert()
            .success();
        let (owner, made) = (std::fs::metadata(&folder).unwrap(), std::fs::metadata(folder.join("out.txt")).unwrap());
        assert_eq!((owner.uid(), owner.gid()), (made.uid(), made.gid()));
        assert_eq!(std::fs::read_to_string(folder.join("out.txt")).unwrap(), "hello\n");
    }

    the_record_of_it_verifies_and_tells_the_outcome(env, exec) {
        exec(&["--", "sh", "-c", "echo said; exit 3"]).assert().code(3);
        env.fumehood().args(["runs", "verify", "last"]).assert().success();
        env.fumehood()
            .args(["runs", "logs", "last"])
            .assert()
            .success()
            .stdout("said\n");
        env.fumehood()
            .args(["runs", "show", "last", "--json"])
            .assert()
            .success()
            .stdout(predicate::str::contains(r#""kind":"code","value":3"#));
    }

    running_out_of_memory_is_told_apart_from_a_faked_137(env, exec) {
        exec(&["--", "sh", "-c", "exit 137"])
            .assert()
            .code(137)
            .stderr(predicate::str::contains("memory").not());
        exec(&["--set", "limits.memory=64MiB", "--", "python3", "-c", "x = bytearray(300 << 20)"])
            .assert()
            .code(137)
            .stderr(predicate::str::contains("out of memory"));
        env.fumehood()
            .args(["runs", "show", "last", "--json"])
            .assert()
            .stdout(predicate::str::contains("out-of-memory"));
    }
}

#[test]
fn usage_is_125() {
    let env = TestEnv::new();
    env.fumehood().args(["exec"]).assert().code(125);
    env.fumehood()
        .args(["exec", "--policy", "no-such-policy", "--", "true"])
        .assert()
        .code(125)
        .stderr(predicate::str::contains("no-such-policy"));
    env.fumehood()
        .args(["exec", "--timeout", "5", "--", "true"])
        .assert()
        .code(125)
        .stderr(predicate::str::contains("unit"));
}
