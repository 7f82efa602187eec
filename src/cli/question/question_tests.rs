use super::render::Shown;
use super::*;
use crate::policy::builtin;
use crate::protocol::control::{Control, Controls, Strength};
use crate::protocol::device::{DeviceNode, Devices, Gpu};
use crate::protocol::ids::Digest;
use crate::protocol::question::{
    CloneView, ExecView, FileChange, FileView, HostView, QuestionBody,
};
use crate::protocol::spec::{Access, BackendKind, Mount, MountKind, RootFs, SandboxSpec};
use std::collections::BTreeMap;

fn mount(kind: MountKind, source: &str, target: &str, access: Access) -> Mount {
    Mount {
        kind,
        source: source.into(),
        target: target.into(),
        access,
        device: 1,
        inode: 2,
    }
}

fn spec() -> SandboxSpec {
    let policy = builtin::policy("dev-loop").unwrap();
    SandboxSpec {
        backend: BackendKind::Namespace,
        root: RootFs::HostSystem,
        mounts: vec![
            mount(
                MountKind::Workspace,
                "/home/ada/proj",
                "/workspace",
                Access::ReadWrite,
            ),
            mount(
                MountKind::Protected,
                "/home/ada/proj/.git",
                "/workspace/.git",
                Access::ReadOnly,
            ),
            mount(
                MountKind::Home,
                "/state/runs/1/home",
                "/home/fumehood",
                Access::ReadWrite,
            ),
            mount(
                MountKind::Input,
                "/srv/cifar10",
                "/data/cifar10",
                Access::ReadOnly,
            ),
        ],
        tmp: policy.tmp.clone(),
        shm: policy.shm,
        uid: 1000,
        gid: 1000,
        hostname: "fumehood".into(),
        limits: crate::protocol::spec::Limits {
            workspace_size: policy.workspace.size,
            workspace_inodes: policy.workspace.inodes,
            ..policy.limits.clone()
        },
        env: BTreeMap::new(),
        network: None,
        secrets: Vec::new(),
        stop_grace_ms: 5000,
        require: policy.required(),
        devices: Default::default(),
    }
}

fn controls() -> Controls {
    let mut controls: Controls = Control::ALL
        .iter()
        .map(|control| (*control, Strength::Enforced))
        .collect();
    for control in [
        Control::Memory,
        Control::WallTime,
        Control::WorkspaceSize,
        Control::WorkspaceInodes,
    ] {
        controls.insert(control, Strength::Watched);
    }
    controls.insert(Control::Landlock, Strength::Absent);
    controls
}

fn exec(argv: &[&str], files: Vec<FileView>) -> QuestionView {
    QuestionView {
        digest: Digest::new("3fa91c02aa77bb1123456789"),
        action: "exec".into(),
        summary: argv.join(" "),
        rule: "approval.contained".into(),
        why: "it is the first of this run; after a yes, what stays inside the sandbox needs none"
            .into(),
        widens: None,
        for_run: true,
        body: QuestionBody::Exec(Box::new(ExecView {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            cwd: "/workspace".into(),
            files,
            omitted: 0,
            sandbox: spec(),
            controls: controls(),
            wall_ms: None,
            watch: Default::default(),
            granted: Vec::new(),
        })),
    }
}

fn clone_question() -> QuestionView {
    QuestionView {
        action: "clone".into(),
        rule: "git".into(),
        why: "the policy does not list where it comes from".into(),
        widens: Some("git.hosts = [\"example.org\"]".into()),
        for_run: false,
        body: QuestionBody::Clone(CloneView {
            url: "https://example.org/team/models?ref=x".into(),
            rev: Some("v1.2".into()),
            into: "models".into(),
        }),
        ..exec(&[], Vec::new())
    }
}

fn file(path: &str, change: FileChange) -> FileView {
    FileView {
        path: path.into(),
        change,
    }
}

fn new(path: &str, text: &str) -> FileView {
    file(path, FileChange::New { text: text.into() })
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn drawn(question: &QuestionView, columns: usize, fold: Fold) -> Shown {
    render::question(question, Shape { columns }, fold)
}

fn whole(question: &QuestionView, columns: usize) -> String {
    let shown = drawn(question, columns, Fold::Long);
    plain(&(shown.text.clone() + &render::choices(question, &shown)))
}

#[test]
fn an_execution_with_everything_there_is_to_know() {
    let question = exec(
        &["python", "train.py", "--lr", "0.1"],
        vec![
            new("train.py", "import csv\n\ndef main():\n\tprint('hi')\n"),
            file(
                "data.py",
                FileChange::Changed {
                    diff: "@@ -1,2 +1,2 @@\n-seed = 0\n+seed = 1\n x = 2\n".into(),
                },
            ),
            file("util.py", FileChange::Unchanged),
            file("old.py", FileChange::Removed),
            file(
                "model.bin",
                FileChange::Opaque {
                    size: 12 << 20,
                    digest: Digest::new("77aa"),
                },
            ),
        ],
    );
    insta::assert_snapshot!("execution", whole(&question, 80));
}

#[test]
fn gpus_are_named_with_what_they_open() {
    let mut question = exec(&["python3", "train.py"], Vec::new());
    let QuestionBody::Exec(view) = &mut question.body else {
        panic!("an execution")
    };
    let node = |source: &str, target: &str| DeviceNode {
        source: source.into(),
        target: target.into(),
        major: 195,
        minor: 0,
        group: None,
    };
    view.sandbox.devices = Devices {
        gpus: vec![Gpu {
            index: 1,
            uuid: Some("GPU-0a1b2c3d-1111-2222-3333-444455556666".into()),
            name: "NVIDIA H100 \u{1b}[31m80GB".into(),
        }],
        exclusive: true,
        nodes: vec![
            node("/dev/nvidia1", "/dev/nvidia1"),
            node("/run/nvidia/driver/dev/nvidiactl", "/dev/nvidiactl"),
        ],
        proc: BTreeMap::new(),
        origin: "/etc/cdi/nvidia.yaml".into(),
    };
    let shown = whole(&question, 80);
    let begin = shown.find("gpus").unwrap();
    let end = shown[begin..]
        .find("network")
        .map_or(shown.len(), |at| begin + at);
    insta::assert_snapshot!("gpus", &shown[begin..end]);
}

#[test]
fn a_script_in_an_argument_is_read_as_a_script() {
    let question = exec(
        &["sh", "-c", "cd x &&\\u{a}\\u{9}python train.py \\u{202e}"],
        Vec::new(),
    );
    insta::assert_snapshot!(
        "inline",
        whole(&question, 60)
            .lines()
            .take(12)
            .collect::<Vec<_>>()
            .join("\n")
    );
}

#[test]
fn a_clone_beyond_the_policy_comes_with_the_line_to_add() {
    insta::assert_snapshot!("clone", whole(&clone_question(), 60));
}

#[test]
fn a_host_more_comes_with_the_secrets_that_could_go_there() {
    let ask = |secrets: &[&str]| {
        let view = HostView {
            host: "files.example.org".into(),
            port: 443,
            reason: "for the data".into(),
            secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        };
        whole(
            &QuestionView {
                body: QuestionBody::Host(view),
                ..clone_question()
            },
            80,
        )
    };
    let told = ask(&["HF_TOKEN", "WANDB_API_KEY"]);
    assert!(told.contains("HF_TOKEN, WANDB_API_KEY"), "{told}");
    assert!(!ask(&[]).contains("secrets"));
}

#[test]
fn a_long_file_is_folded_with_a_count_and_shown_whole_on_demand() {
    let text: String = (1..=300).map(|n| format!("line {n}\n")).collect();
    let question = exec(&["python", "train.py"], vec![new("train.py", &text)]);
    let folded = drawn(&question, 80, Fold::Long);
    assert_eq!(folded.folded, 220);
    assert!(folded.text.contains("220 lines are not shown here"));
    assert!(folded.text.contains("line 60") && !folded.text.contains("line 61\n"));
    assert!(render::choices(&question, &folded).contains("220 lines"));
    let all = drawn(&question, 80, Fold::Nothing);
    assert_eq!(all.folded, 0);
    assert!((1..=300).all(|n| plain(&all.text).contains(&format!("line {n}\n"))));
}

#[test]
fn a_long_line_is_wrapped_and_none_of_it_lost() {
    let line: String = ('a'..='z').cycle().take(500).collect();
    let question = exec(&["python", "train.py"], vec![new("train.py", &line)]);
    let text = plain(&drawn(&question, 60, Fold::Nothing).text);
    let joined: String = text
        .lines()
        .skip_while(|line| !line.contains("  1  "))
        .take_while(|line| !line.trim_end().ends_with('│'))
        .map(|line| {
            line.trim_start_matches(['│', ' ', '1'])
                .trim_start_matches("↪ ")
        })
        .collect();
    assert_eq!(joined, line);
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_a_file_or_a_command_says_leaves_the_frame(
            text in "(?s).{0,200}",
            path in "(?s).{0,30}",
            word in "(?s).{0,60}",
            columns in 20..120_usize,
        ) {
            let mut question = exec(&["python", &word], vec![
                new(&path, &text),
                file(&path, FileChange::Changed { diff: text.clone() }),
            ]);
            question.rule = word.clone();
            question.why = text.clone();
            question.widens = Some(text.clone());
            let shown = drawn(&question, columns, Fold::Nothing);
            let text = plain(&shown.text);
            for line in text.lines().skip(1) {
                prop_assert!(line.starts_with(['┌', '│', '└']), "{line:?}");
                prop_assert!(line.chars().all(|c| matches!(c, ' '..='~') || "┌│└↪·…".contains(c)), "{line:?}");
            }
        }

        #[test]
        fn text_of_others_fits_the_width(text in "[ -~]{0,300}", columns in 40..120_usize) {
            let question = exec(&["python", "train.py"], vec![new("train.py", &text)]);
            let shown = plain(&drawn(&question, columns, Fold::Nothing).text);
            let file = shown.lines().skip_while(|line| !line.contains("train.py, new")).skip(1);
            for line in file.take_while(|line| *line != "│") {
                prop_assert!(line.chars().count() <= columns, "{line:?}");
            }
        }
    }
}

#[test]
fn letters_answer_and_a_question_beyond_the_policy_wants_the_word() {
    let inside = exec(&["ls"], Vec::new());
    for (line, expected) in [
        ("y", Said::Yes),
        ("YES", Said::Yes),
        ("a", Said::YesForRun),
        ("n", Said::No),
        ("q", Said::Abort),
        ("v", Said::View),
    ] {
        assert_eq!(said(line, &inside), expected, "{line}");
    }
    for line in ["", "yy", "ye", "ok", "1"] {
        assert!(matches!(said(line, &inside), Said::Nothing(_)), "{line}");
    }
    let beyond = clone_question();
    assert!(matches!(said("y", &beyond), Said::Nothing(_)));
    assert!(matches!(said("a", &beyond), Said::Nothing(_)));
    assert_eq!(said("yes", &beyond), Said::Yes);
}

/// A pseudo-terminal with a question at one end and a test at the other.
mod terminal {
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::pty::openpty;
    use nix::sys::termios::{LocalFlags, tcgetattr};
    use std::fs::File;
    use std::os::fd::AsFd;

    /// What a person does: presses keys, pastes, waits.
    enum Act {
        Keys(&'static str),
        Paste(&'static str),
        Wait(u64),
    }
    use Act::{Keys as Press, Paste, Wait};

    struct Asked {
        answer: Option<Answer>,
        shown: String,
        /// The terminal shows and edits lines again.
        restored: bool,
    }

    /// Asks at a pseudo-terminal while the person acts; at most four seconds.
    async fn ask_at(question: QuestionView, acts: Vec<Act>) -> Asked {
        let pair = openpty(None, None).unwrap();
        fcntl(pair.slave.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let slave = File::from(pair.slave);
        let watch = slave.try_clone().unwrap();
        let mut keyboard = File::from(pair.master);
        let person = tokio::spawn(async move {
            for act in acts {
                match act {
                    Press(keys) => {
                        for key in keys.bytes() {
                            keyboard.write_all(&[key]).unwrap();
                            tokio::time::sleep(Duration::from_millis(60)).await;
                        }
                    }
                    Paste(text) => keyboard.write_all(text.as_bytes()).unwrap(),
                    Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                }
            }
            keyboard
        });
        let mut shown = Vec::new();
        let answer = {
            let mut tty = Tty::at(slave);
            let mut dialogue = Dialogue {
                tty: &mut tty,
                out: &mut shown,
                question: &question,
                shape: Shape { columns: 80 },
            };
            let limit = Duration::from_secs(4);
            tokio::time::timeout(limit, dialogue.hold()).await.ok()
        };
        let flags = tcgetattr(&watch).unwrap().local_flags;
        drop(person.await.unwrap());
        Asked {
            answer: answer.map(|answer| answer.unwrap()),
            shown: plain(&String::from_utf8(shown).unwrap()),
            restored: flags.contains(LocalFlags::ICANON | LocalFlags::ECHO),
        }
    }

    fn inside() -> QuestionView {
        exec(&["python", "train.py"], Vec::new())
    }

    #[tokio::test]
    async fn a_letter_and_enter_answer_and_the_terminal_is_as_before() {
        let asked = ask_at(inside(), vec![Wait(600), Press("y\r")]).await;
        assert_eq!(asked.answer, Some(Answer::Yes));
        assert!(asked.restored);
    }

    #[tokio::test]
    async fn what_was_typed_ahead_answers_nothing() {
        let asked = ask_at(inside(), vec![Press("y\r"), Wait(1200), Press("q\r")]).await;
        assert_eq!(asked.answer, Some(Answer::Abort));
    }

    #[tokio::test]
    async fn a_paste_answers_nothing() {
        let asked = ask_at(
            inside(),
            vec![Wait(600), Paste("y\r"), Wait(1200), Press("q\r")],
        )
        .await;
        assert_eq!(asked.answer, Some(Answer::Abort));
        assert!(asked.shown.contains("that came all at once"));
    }

    #[tokio::test]
    async fn what_a_terminal_reports_by_itself_answers_nothing() {
        let report = "\u{1b}[24;80R";
        let asked = ask_at(
            inside(),
            vec![
                Wait(600),
                Press("y"),
                Paste(report),
                Wait(1200),
                Press("q\r"),
            ],
        )
        .await;
        assert_eq!(asked.answer, Some(Answer::Abort));
    }

    #[tokio::test]
    async fn a_no_carries_its_reason() {
        let acts = vec![
            Wait(600),
            Press("n\r"),
            Wait(300),
            Paste("use a smaller model\u{1b}[2J\n"),
        ];
        let asked = ask_at(inside(), acts).await;
        let reason = "use a smaller model".to_owned();
        assert_eq!(asked.answer, Some(Answer::No { reason }));
    }

    #[tokio::test]
    async fn beyond_the_policy_one_letter_is_not_enough() {
        let acts = vec![Wait(600), Press("y\r"), Wait(800), Press("yes\r")];
        let asked = ask_at(clone_question(), acts).await;
        assert_eq!(asked.answer, Some(Answer::Yes));
        assert!(asked.shown.contains("type the whole word"));
    }

    #[tokio::test]
    async fn everything_is_shown_on_demand_before_the_answer() {
        let text: String = (1..=300).map(|n| format!("line {n}\n")).collect();
        let question = exec(&["python", "train.py"], vec![new("train.py", &text)]);
        let asked = ask_at(
            question,
            vec![Wait(600), Press("v\r"), Wait(800), Press("a\r")],
        )
        .await;
        assert_eq!(asked.answer, Some(Answer::YesForRun));
        assert!(asked.shown.contains("line 150\n"));
    }

    #[tokio::test]
    async fn a_question_that_is_taken_back_leaves_the_terminal_as_before() {
        let asked = ask_at(inside(), Vec::new()).await;
        assert_eq!(asked.answer, None);
        assert!(asked.restored);
    }
}
