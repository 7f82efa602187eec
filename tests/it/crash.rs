//! `kill -9` at random moments of a run, spread over its acts: nothing is left of it, its record is whole
//! up to its last act, and what is to finish finishes and can be taken up again.
//!
//! A moment is so many records and some milliseconds after. They are drawn by proptest from one seed, which
//! is printed; `PROPTEST_RNG_SEED=N` draws the same again. Cases are slow, so none is shrunk: each
//! failure names its moment.

use crate::boxes::{background, ended, eventually, own_time, processes};
use crate::docker::IMAGE;
use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use crate::first_hour::{cgroup, container};
use crate::gpu::Gpus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

const MOMENTS: usize = 20;

/// Milliseconds after the last awaited record: longer than what most acts take.
const THEN: u64 = 150;

/// Nothing takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whom the signal meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// What was typed.
    Client,
    /// The process that holds the record, where that is another one.
    Holder,
}

#[derive(Debug, Clone, Copy)]
struct Moment {
    /// Records that are written before.
    records: usize,
    then_ms: u64,
    whom: Whom,
}

/// Drawn from one seed, which is printed.
fn moments(records: usize) -> Vec<Moment> {
    let config = Config::default();
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            u64::from(now.unwrap().subsec_nanos())
        }
    };
    println!("PROPTEST_RNG_SEED={seed}");
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..config
    });
    let whom = prop_oneof![Just(Whom::Client), Just(Whom::Holder)];
    let moment = (0..=records, 0..=THEN, whom).prop_map(|(records, then_ms, whom)| Moment {
        records,
        then_ms,
        whom,
    });
    (0..MOMENTS)
        .map(|_| moment.new_tree(&mut runner).unwrap().current())
        .collect()
}

/// A user, and what they type each time.
struct Typist<'a> {
    env: &'a TestEnv,
    args: Vec<String>,
    variables: Vec<(&'static str, PathBuf)>,
    /// One for each run.
    model: Option<fn() -> FakeLlm>,
}

/// What a run that finishes is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Command,
    Agent,
}

/// One run that was killed, or ended before.
struct Killed {
    moment: Moment,
    /// `None` where the folder was not yet made.
    run: Option<String>,
    /// Records there were when it was killed.
    seen: usize,
    child: Child,
    _model: Option<FakeLlm>,
}

impl Typist<'_> {
    fn start(&self) -> (Child, Option<FakeLlm>) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let model = self.model.map(|start| start());
        let url = model
            .as_ref()
            .map(|model| ("LLAMACPP_BASE_URL", model.base_url()));
        let child = background(self.env, &args)
            .envs(url)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.env.path("said")).unwrap())
            .spawn()
            .unwrap();
        (child, model)
    }

    fn runs_dir(&self) -> PathBuf {
        self.env.state().join("runs")
    }

    fn runs(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.runs_dir()).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn records(&self, run: &str) -> usize {
        let events = fs::read(self.runs_dir().join(run).join("events.jsonl")).unwrap_or_default();
        events.iter().filter(|byte| **byte == b'\n').count()
    }

    /// How many records a run has that nobody disturbs.
    fn undisturbed(&self) -> usize {
        let (child, _model) = self.start();
        let code = ended(child).0;
        let said = fs::read_to_string(self.env.path("said")).unwrap();
        assert!(matches!(code, Some(0 | 5)), "{code:?}: {said}");
        self.records(self.runs().last().unwrap())
    }

    /// Starts it and kills it at that moment. One that ended before was not disturbed: that may be.
    fn kill_at(&self, moment: Moment) -> Killed {
        let before = self.runs();
        let (mut child, model) = self.start();
        let mut run = None;
        eventually(&format!("{moment:?}"), || {
            run = self.runs().difference(&before).next().cloned();
            let records = run.as_ref().map_or(0, |run| self.records(run));
            records >= moment.records || child.try_wait().unwrap().is_some()
        });
        std::thread::sleep(Duration::from_millis(moment.then_ms));
        run = run.or_else(|| self.runs().difference(&before).next().cloned());
        let seen = run.as_ref().map_or(0, |run| self.records(run));
        match (moment.whom, run.as_ref().and_then(|run| self.owner(run))) {
            (Whom::Holder, Some(owner)) => {
                // It may have ended.
                let _ = kill(owner, Signal::SIGKILL);
            }
            _ => child.kill().unwrap(),
        }
        Killed {
            moment,
            run,
            seen,
            child,
            _model: model,
        }
    }

    /// The process that holds a run, by its own word.
    fn owner(&self, run: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.runs_dir().join(run).join("owner")).ok()?;
        text.split(' ').next()?.parse().ok().map(Pid::from_raw)
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.env.fumehood().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn summary(&self, run: &str) -> Option<Value> {
        let all: Vec<Value> =
            serde_json::from_str(&self.said(&["runs", "list", "--json"])).unwrap();
        all.into_iter().find(|one| one["run"] == run)
    }

    fn types(&self, run: &str) -> Vec<String> {
        let events = fs::read_to_string(self.runs_dir().join(run).join("events.jsonl")).unwrap();
        let kind = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            record["event"]["type"].as_str().unwrap().to_owned()
        };
        events.lines().map(kind).collect()
    }
}

/// Processes that have to do with this folder: by program, folder, open file, mount or word.
fn of(folder: &Path) -> Vec<String> {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let linked =
        |path: PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains(name));
    let holds = |path: PathBuf| {
        fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(name))
    };
    let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.map(|entry| entry.path())
        .filter(|at| {
            let number = at.file_name().unwrap().to_str().unwrap();
            // The tests themselves know the folder.
            number
                .parse()
                .is_ok_and(|pid: u32| pid != std::process::id())
        })
        .filter(|at| {
            let mut files = fs::read_dir(at.join("fd")).into_iter().flatten().flatten();
            linked(at.join("exe"))
                || linked(at.join("cwd"))
                || holds(at.join("mountinfo"))
                || holds(at.join("cmdline"))
                || files.any(|file| linked(file.path()))
        })
        .map(|at| {
            let words = fs::read(at.join("cmdline")).unwrap_or_default();
            format!("{}: {}", at.display(), String::from_utf8_lossy(&words))
        })
        .collect()
}

/// No process has to do with the user any more, and no mount.
fn nothing_runs(env: &TestEnv, moment: Moment) {
    let folder = env.path("home").parent().unwrap().to_owned();
    let end = Instant::now() + PATIENCE;
    loop {
        let left = of(&folder);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{moment:?} left {left:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What stands after a kill: the record, whole; and after clearing up, the record alone.
fn is_clean(typist: &Typist<'_>, killed: &Killed) {
    let Killed {
        moment, run, seen, ..
    } = killed;
    let Some(run) = run else {
        return;
    };
    let dir = typist.runs_dir().join(run);
    if *seen > 0 {
        typist.said(&["runs", "verify", run]);
    }
    typist.said(&["runs", "gc"]);
    if !dir.exists() {
        assert_eq!(*seen, 0, "{moment:?}: a record is lost");
        return;
    }
    let summary = typist.summary(run).unwrap();
    if dir.join("events.jsonl").exists() {
        assert!(
            summary["state"] == "crashed" || summary["state"] == "finished",
            "{moment:?}: {summary}"
        );
        typist.said(&["runs", "verify", run]);
        let types = typist.types(run);
        assert!(types.len() >= *seen, "{moment:?}: {types:?} of {seen}");
        let acted = dir.join("workspace/began").exists();
        assert!(
            !acted || types.iter().any(|kind| kind == "step-started"),
            "{moment:?}: it acted before its record told: {types:?}"
        );
    }
    for left in ["home", "socket", "scratch"] {
        assert!(!dir.join(left).exists(), "{moment:?}: {left} is left");
    }
    assert!(!cgroup(run), "{moment:?}: a cgroup is left");
    if crate::docker::there() {
        assert!(!container(run), "{moment:?}: a container is left");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(run.as_str()),
        "{moment:?}: a mount is left"
    );
}

/// The run ends with the process that was typed.
fn stops_with_its_process(typist: &Typist<'_>) {
    let records = typist.undisturbed();
    for moment in moments(records) {
        let moment = Moment {
            whom: Whom::Client,
            ..moment
        };
        let mut killed = typist.kill_at(moment);
        killed.child.wait().unwrap();
        nothing_runs(typist.env, moment);
        is_clean(typist, &killed);
    }
}

/// One word for the backend, and what it needs.
fn backend(docker: bool) -> Vec<String> {
    let words: &[&str] = match docker {
        true => &["--backend", "docker", "--image", IMAGE],
        false => &["--backend", "namespace"],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn typed(words: &[&[&str]]) -> Vec<String> {
    words
        .concat()
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
}

/// A step with a child and a daemon beside it, on a folder of the user's, with a GPU where root can make
/// one up: the next start needs the folder and the GPU of the one before.
fn exec(docker: bool) {
    let gpus = Gpus::new();
    let own;
    let (env, variables) = match &gpus {
        Some(gpus) => (&gpus.env, gpus.surroundings().to_vec()),
        None => {
            own = TestEnv::new();
            (&own, Vec::new())
        }
    };
    let folder = env.workspace("mine", &[]);
    let time = own_time();
    let script = format!(
        "setsid sleep {time} & sleep {time} & echo one; sleep 0.2; echo two; sleep 0.2; echo three"
    );
    let mut args = typed(&[&[
        "exec",
        "--policy",
        "dev-loop",
        "--workspace",
        folder.to_str().unwrap(),
    ]]);
    if gpus.is_some() {
        args.extend(typed(&[&["--set", "gpu.devices=[0]"]]));
    }
    args.extend(backend(docker));
    args.extend(typed(&[&["--", "sh", "-c", &script]]));
    let typist = Typist {
        env,
        args,
        variables,
        model: None,
    };
    stops_with_its_process(&typist);
    assert_eq!(processes(&time), 0);
    // Folder and GPU are free.
    typist.undisturbed();
}

/// An agent with the demo's script: clone, write, run, mend, run.
fn agent(docker: bool) {
    let env = TestEnv::new();
    let mut args = typed(&[&["demo", "--yes"]]);
    args.extend(backend(docker));
    stops_with_its_process(&Typist {
        env: &env,
        args,
        variables: Vec::new(),
        model: None,
    });
}

/// The client killed: all of it happens, or none, and it can be taken up. The holder killed: as any run.
fn finishes(docker: bool, what: What) {
    let env = TestEnv::new();
    let verb: &[&str] = match what {
        What::Command => &["exec"],
        What::Agent => &["run", "--model", "llamacpp/tiny", "--yes"],
    };
    let finish = ["--set", "lifecycle.on_disconnect=finish"];
    let mut args = typed(&[verb, &["--policy", "dev-loop"], &finish]);
    args.extend(backend(docker));
    args.extend(match what {
        What::Command => typed(&[&["--", "sh", "-c", SCRIPT]]),
        What::Agent => typed(&[&["do it"]]),
    });
    let typist = Typist {
        env: &env,
        args,
        variables: Vec::new(),
        model: (what == What::Agent).then_some(model as fn() -> FakeLlm),
    };
    let records = typist.undisturbed();
    let all: Vec<Killed> = moments(records)
        .into_iter()
        .map(|moment| {
            let mut killed = typist.kill_at(moment);
            match moment.whom {
                Whom::Client => drop(killed.child.wait().unwrap()),
                // Its client is told, and ends.
                Whom::Holder => eventually(&format!("{moment:?}: the client ends"), || {
                    killed.child.try_wait().unwrap().is_some()
                }),
            }
            killed
        })
        .collect();
    for killed in &all {
        nothing_runs(&env, killed.moment);
        is_clean(&typist, killed);
        finished_or_never_ran(&typist, killed, what);
    }
}

const SCRIPT: &str = "touch began; for n in 1 2 3 4; do echo $n; sleep 0.1; done; exit 5";

fn model() -> FakeLlm {
    let exec = |script: &str| Reply::Answer(says("").calls("exec", json!({"command": script})));
    FakeLlm::start([
        exec(SCRIPT),
        exec("sleep 0.2; touch done"),
        Reply::Answer(says("All of it.")),
    ])
}

fn command_that_finishes(docker: bool) {
    finishes(docker, What::Command);
}

fn agent_that_finishes(docker: bool) {
    finishes(docker, What::Agent);
}

fn finished_or_never_ran(typist: &Typist<'_>, Killed { moment, run, .. }: &Killed, what: What) {
    let Some(run) = run.as_ref().filter(|run| typist.records(run) > 0) else {
        return;
    };
    let types = typist.types(run);
    let first = match what {
        What::Command => "step-started",
        // From its first word on it works, whoever looks.
        What::Agent => "user-input",
    };
    let began = types.iter().any(|kind| kind == first);
    if moment.whom == Whom::Holder && types.last().unwrap() != "run-ended" {
        return;
    }
    assert_eq!(types.last().unwrap(), "run-ended", "{moment:?}");
    let made = |name: &str| {
        typist
            .runs_dir()
            .join(run)
            .join("workspace")
            .join(name)
            .exists()
    };
    if began {
        let (code, said) = match what {
            What::Command => (5, "1\n2\n3\n4\n"),
            What::Agent => (0, "All of it.\n"),
        };
        let attach = ["runs", "attach", run];
        let attached = typist.env.fumehood().args(attach).assert();
        attached.code(code).stdout(said);
        assert!(
            what == What::Command || made("done"),
            "{moment:?}: {types:?}"
        );
    } else {
        assert!(!made("began"), "{moment:?}: {types:?}");
    }
}

macro_rules! on_both {
    ($($name:ident => $claim:ident;)+) => {
        mod namespace {
            $(#[test] fn $name() {
                super::$claim(false);
            })+
        }
        mod docker {
            $(#[test] fn $name() {
                if crate::docker::there() {
                    super::$claim(true);
                }
            })+
        }
    };
}

on_both! {
    kill_9_at_any_moment_of_a_command_leaves_nothing_and_a_whole_record => exec;
    kill_9_at_any_moment_of_an_agent_leaves_nothing_and_a_whole_record => agent;
    kill_9_at_any_moment_of_a_command_that_finishes_leaves_all_or_nothing => command_that_finishes;
    kill_9_at_any_moment_of_an_agent_that_finishes_leaves_all_or_nothing => agent_that_finishes;
}
