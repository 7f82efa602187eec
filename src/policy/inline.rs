//! Commands whose program is written in their arguments, or named by them. Pure.
//!
//! An allow rule covers what a person reviewed: `python train.py`. It must not cover `python -c …`,
//! `sh -c …`, or `env python -c …` as well, so no allow rule matches those. This is a help against
//! careless rules and no boundary: the sandbox holds whatever runs in it.

use std::fmt;

/// Why no allow rule covers a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// Code in an argument: `python -c …`.
    Code { program: String, option: String },
    /// The first arguments of an interpreter do not say yet which file it runs: `python`, `bash -x`.
    Undecided { program: String },
    /// A program that runs another program: `env`, `xargs`, `sudo`, `uv run`.
    Wrapper { program: String },
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { program, option } => {
                write!(f, "`{program} {option}` runs code from its arguments")
            }
            Self::Undecided { program } => {
                write!(f, "`{program}` is an interpreter, and no file is named")
            }
            Self::Wrapper { program } => write!(f, "`{program}` runs whatever follows it"),
        }
    }
}

/// How an interpreter takes its options.
struct Interpreter {
    names: &'static [&'static str],
    /// Letters that take code, or code's like, as their argument.
    code: &'static str,
    /// Long options that do the same.
    long: &'static [&'static str],
    /// Letters with an argument of another kind.
    valued: &'static str,
    /// Letters whose argument says what runs: `python -m pytest`.
    names_program: &'static str,
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &[
            "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "rbash",
        ],
        code: "cs",
        long: &["--command", "--init-command", "--rcfile", "--init-file"],
        valued: "oO",
        names_program: "",
    },
    Interpreter {
        names: &["python", "pypy", "ipython", "bpython"],
        code: "c",
        long: &[],
        valued: "WX",
        names_program: "m",
    },
    Interpreter {
        names: &["perl", "raku"],
        code: "eE",
        long: &[],
        valued: "IMm",
        names_program: "",
    },
    Interpreter {
        names: &["ruby"],
        code: "e",
        long: &[],
        valued: "Ir",
        names_program: "",
    },
    Interpreter {
        names: &["node", "nodejs", "bun", "deno"],
        code: "ep",
        long: &["--eval", "--print"],
        valued: "r",
        names_program: "",
    },
    Interpreter {
        names: &["php"],
        code: "rBRE",
        long: &[
            "--run",
            "--process-begin",
            "--process-code",
            "--process-end",
        ],
        valued: "cd",
        names_program: "f",
    },
    Interpreter {
        names: &[
            "lua", "luajit", "julia", "R", "Rscript", "octave", "ghc", "scala",
        ],
        code: "eE",
        long: &["--eval", "--print"],
        valued: "l",
        names_program: "",
    },
    Interpreter {
        names: &["awk", "gawk", "mawk", "nawk", "sed"],
        code: "e",
        long: &["--expression", "--source"],
        valued: "Fv",
        names_program: "f",
    },
];

/// Programs that run another one named in their arguments, or in what they read.
const WRAPPERS: &[&str] = &[
    "env", "xargs", "parallel", "sudo", "doas", "su", "runuser", "setpriv", "nohup", "timeout",
    "nice", "ionice", "chrt", "taskset", "numactl", "stdbuf", "setsid", "time", "watch", "strace",
    "ltrace", "gdb", "script", "chroot", "unshare", "nsenter", "ssh", "find", "flock", "uvx",
    "npx", "bunx", "busybox", "toybox", "expect", "tclsh", "at", "batch", "entr", "exec",
    "command", "eval", "ld.so", "vi", "vim", "nvim", "emacs", "ed",
];

/// Programs that do so with certain first arguments.
const SUB_WRAPPERS: &[(&str, &[&str])] = &[
    ("uv", &["run", "tool", "x"]),
    ("poetry", &["run"]),
    ("pipenv", &["run", "shell"]),
    ("pipx", &["run"]),
    ("pdm", &["run"]),
    ("hatch", &["run", "shell"]),
    ("pixi", &["run", "shell"]),
    ("conda", &["run"]),
    ("mamba", &["run"]),
    ("micromamba", &["run"]),
    ("npm", &["exec", "run", "x"]),
    ("yarn", &["exec", "run", "dlx"]),
    ("pnpm", &["exec", "run", "dlx"]),
    ("cargo", &["run"]),
    ("deno", &["eval"]),
    ("git", &["-c", "bisect"]),
];

/// Whether a command, or a rule's beginning of one, leaves open what runs; `None` for a plain one.
pub fn open<A: AsRef<[u8]>>(argv: &[A]) -> Option<Open> {
    let argv: Vec<&[u8]> = argv.iter().map(AsRef::as_ref).collect();
    let (first, rest) = argv.split_first()?;
    let program = base_name(first);
    let plain = without_version(&program);
    if plain.starts_with("ld-linux") || WRAPPERS.contains(&plain) {
        return Some(Open::Wrapper { program });
    }
    let sub = SUB_WRAPPERS.iter().find(|(name, _)| *name == plain);
    if let Some((_, words)) = sub {
        return sub_wrapper(&program, words, rest);
    }
    let interpreter = INTERPRETERS.iter().find(|one| one.names.contains(&plain))?;
    interpreter.open(&program, rest)
}

/// `uv run …`; `uv` alone, or with options before the word, may become that.
fn sub_wrapper(program: &str, words: &[&str], rest: &[&[u8]]) -> Option<Open> {
    let word = rest.first().map(|word| String::from_utf8_lossy(word));
    match word.as_deref() {
        Some(word) if words.contains(&word) => Some(Open::Wrapper {
            program: format!("{program} {word}"),
        }),
        Some(word) if !word.starts_with('-') => None,
        _ => Some(Open::Wrapper {
            program: program.to_owned(),
        }),
    }
}

impl Interpreter {
    fn open(&self, program: &str, arguments: &[&[u8]]) -> Option<Open> {
        let code = |option: &str| {
            Some(Open::Code {
                program: program.to_owned(),
                option: option.to_owned(),
            })
        };
        let undecided = Some(Open::Undecided {
            program: program.to_owned(),
        });
        let mut arguments = arguments.iter().map(|one| String::from_utf8_lossy(one));
        while let Some(argument) = arguments.next() {
            // `-` reads the program from standard input; so does an interpreter without a file.
            if argument == "-" {
                return code("-");
            }
            if argument == "--" {
                return arguments.next().map_or(undecided, |_| None);
            }
            if let Some(option) = self.long.iter().find(|long| is_long(&argument, long)) {
                return code(option);
            }
            let Some(letters) = argument.strip_prefix(['-', '+']) else {
                return self.operand(program);
            };
            if letters.starts_with('-') {
                continue;
            }
            match self.letters(letters) {
                Letters::Code(letter) => return code(&format!("-{letter}")),
                // What runs is in the same argument, or is the next one.
                Letters::Program { inside: true } => return None,
                Letters::Program { inside: false } => {
                    return arguments.next().map_or(undecided, |_| None);
                }
                Letters::Valued => drop(arguments.next()),
                Letters::Flags => {}
            }
        }
        undecided
    }

    /// The first word that is no option: a file, except for the languages whose program is that word.
    fn operand(&self, program: &str) -> Option<Open> {
        self.names.contains(&"awk").then(|| Open::Code {
            program: program.to_owned(),
            option: "PROGRAM".to_owned(),
        })
    }

    fn letters(&self, letters: &str) -> Letters {
        for (at, letter) in letters.char_indices() {
            let last = at + letter.len_utf8() == letters.len();
            if self.code.contains(letter) {
                return Letters::Code(letter);
            }
            if self.names_program.contains(letter) {
                return Letters::Program { inside: !last };
            }
            if self.valued.contains(letter) {
                return if last {
                    Letters::Valued
                } else {
                    Letters::Flags
                };
            }
        }
        Letters::Flags
    }
}

enum Letters {
    Code(char),
    Program {
        inside: bool,
    },
    /// The next argument belongs to the last letter.
    Valued,
    Flags,
}

fn is_long(argument: &str, long: &str) -> bool {
    argument == long
        || argument
            .strip_prefix(long)
            .is_some_and(|rest| rest.starts_with('='))
}

fn base_name(program: &[u8]) -> String {
    let name = program
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or(program);
    String::from_utf8_lossy(name).into_owned()
}

/// `python3.11` is `python`.
fn without_version(program: &str) -> &str {
    let plain = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    if plain.is_empty() { program } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<&str> {
        line.split_whitespace().collect()
    }

    #[test]
    fn code_in_an_argument_is_found_however_it_is_spelt() {
        for line in [
            "sh -c x",
            "bash -lc x",
            "bash -xec x",
            "/bin/dash -c x",
            "bash -o pipefail -c x",
            "bash +x -c x",
            "bash -s",
            "fish --command x",
            "python -c x",
            "python3.11 -c x",
            "python -Bc x",
            "python -X dev -c x",
            "python -",
            "perl -ne x",
            "node --eval=1",
            "awk x",
            "sed -e x",
            "sed x",
        ] {
            assert!(
                matches!(open(&argv(line)), Some(Open::Code { .. })),
                "{line}"
            );
        }
    }

    #[test]
    fn an_interpreter_without_a_file_is_undecided() {
        for line in [
            "python",
            "python3 -u",
            "bash",
            "sh -x",
            "python -m",
            "python --",
            "node",
        ] {
            assert!(
                matches!(open(&argv(line)), Some(Open::Undecided { .. })),
                "{line}"
            );
        }
    }

    #[test]
    fn what_runs_other_programs_is_found() {
        for line in [
            "env python train.py",
            "/usr/bin/env",
            "xargs -n1 sh",
            "sudo ls",
            "timeout 10 ls",
            "uv run train.py",
            "uv",
            "uv --quiet run x",
            "conda run -n x python",
            "npx x",
            "busybox sh -c x",
            "/lib64/ld-linux-x86-64.so.2 /bin/sh",
            "git -c alias.x=!sh x",
        ] {
            assert!(
                matches!(open(&argv(line)), Some(Open::Wrapper { .. })),
                "{line}"
            );
        }
    }

    #[test]
    fn plain_commands_are_plain() {
        for line in [
            "python train.py",
            "python train.py -c config.yaml",
            "python3 -u train.py",
            "python -m pytest -x",
            "python -mpytest",
            "python -- train.py",
            "bash run.sh -c",
            "ls -c",
            "uv sync",
            "cargo test",
            "git status",
            "torchrun --nproc-per-node 2 train.py",
            "awk -f prog.awk data",
            "nvidia-smi",
            "./train",
        ] {
            assert_eq!(open(&argv(line)), None, "{line}");
        }
        assert_eq!(open::<&str>(&[]), None);
    }
}
