use super::*;
use crate::sandbox::fake;

/// What is known of a step that ended like this.
struct Known {
    spec: SandboxSpec,
    exit: StepExit,
    outcome: Outcome,
    asked: Option<Stop>,
    wall: Option<Duration>,
    counts: [Counts; 2],
    alone: Alone,
}

fn known(status: WaitStatus) -> Known {
    let mut spec = super::super::tests::spec();
    spec.limits.memory = Some(1 << 30);
    spec.limits.pids = Some(64);
    spec.limits.cpus = Some(2.0);
    spec.limits.file_size = Some(1 << 20);
    spec.limits.wall_ms = Some(60_000);
    spec.limits.workspace_size = Some(10 << 30);
    spec.limits.workspace_inodes = Some(500);
    Known {
        spec,
        exit: fake::exit(1, status, false),
        outcome: match status {
            WaitStatus::Code(code) => Outcome::Code(code),
            WaitStatus::Signal(signal) => Outcome::Signal(signal),
        },
        asked: None,
        wall: Some(Duration::from_secs(60)),
        counts: [Counts::default(); 2],
        alone: Alone::Yes,
    }
}

impl Known {
    fn stopped(mut self, stop: Stop) -> Self {
        self.asked = Some(stop);
        self
    }

    fn counted(mut self, before: Counts, after: Counts) -> Self {
        self.counts = [before, after];
        self
    }

    fn all(&self) -> Vec<Reached> {
        reached(&Facts {
            spec: &self.spec,
            exit: &self.exit,
            outcome: self.outcome,
            asked: self.asked,
            wall: self.wall,
            counts: self.counts,
            alone: self.alone,
        })
    }

    /// The one that was reached.
    fn one(&self) -> (Limit, String) {
        let all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].evidence, Evidence::Seen);
        (all[0].limit, all[0].text.clone())
    }
}

fn killed() -> Known {
    known(WaitStatus::Signal(9))
}

#[test]
fn an_end_of_its_own_reached_nothing() {
    for status in [
        WaitStatus::Code(0),
        WaitStatus::Code(1),
        WaitStatus::Signal(11),
    ] {
        assert_eq!(known(status).all(), []);
    }
    // Unchanged counts are those of steps before it.
    let same = Counts {
        oom_kills: Some(3),
        pids_refused: Some(7),
        ..Counts::default()
    };
    assert_eq!(known(WaitStatus::Code(1)).counted(same, same).all(), []);
    assert_eq!(killed().stopped(Stop::Cancelled).all(), []);
}

#[test]
fn each_thing_that_we_stop_a_step_for_is_named_with_the_policys_value() {
    for (stop, limit, text) in [
        (
            Stop::Disk(Full::Bytes),
            Limit::WorkspaceSize,
            "workspace.size = 10GiB: workspace and home together hold more",
        ),
        (
            Stop::Disk(Full::Files),
            Limit::WorkspaceInodes,
            "workspace.inodes = 500: workspace and home together hold more files and folders",
        ),
        (
            Stop::Disk(Full::Hidden),
            Limit::WorkspaceSize,
            "workspace.size = 10GiB: it made folders that cannot be counted (unreadable, or nested without end)",
        ),
        (
            Stop::Disk(Full::Floor),
            Limit::FreeDisk,
            "free space: what is left on the disk of the workspace is kept for everybody else",
        ),
        (
            Stop::TimedOut,
            Limit::WallTime,
            "limits.wall_time = 1m: it was still running",
        ),
        (
            Stop::OutOfMemory,
            Limit::Memory,
            "limits.memory = 1GiB: it was found to use more and was killed",
        ),
    ] {
        assert_eq!(killed().stopped(stop).one(), (limit, text.to_owned()));
    }
}

#[test]
fn a_timeout_of_the_steps_own_is_told_from_the_policys() {
    let mut own = killed().stopped(Stop::TimedOut);
    own.wall = Some(Duration::from_secs(5));
    let text = "timeout = 5s: it was still running (limits.wall_time = 1m)";
    assert_eq!(own.one().1, text);
    own.spec.limits.wall_ms = None;
    assert_eq!(own.one().1, "timeout = 5s: it was still running");
}

#[test]
fn what_the_kernel_counted_is_told_also_to_one_that_coped() {
    let kills = |count| Counts {
        oom_kills: Some(count),
        ..Counts::default()
    };
    let coped = known(WaitStatus::Code(0)).counted(kills(1), kills(3));
    let text = "limits.memory = 1GiB: the kernel killed 2 processes";
    assert_eq!(coped.one(), (Limit::Memory, text.to_owned()));
    let refused = |count| Counts {
        pids_refused: Some(count),
        ..Counts::default()
    };
    let mut pids = known(WaitStatus::Code(1)).counted(refused(0), refused(1));
    let text = "limits.pids = 64: 1 process or thread could not be made";
    assert_eq!(pids.one(), (Limit::Pids, text.to_owned()));
    pids.alone = Alone::No;
    assert_eq!(
        pids.one().1,
        format!("{text}, in this step or one beside it")
    );
}

#[test]
fn the_signal_for_too_large_a_file_is_one_however_it_comes() {
    for status in [WaitStatus::Signal(25), WaitStatus::Code(153)] {
        let text = "limits.file_size = 1MiB: a file would have become larger";
        assert_eq!(known(status).one(), (Limit::FileSize, text.to_owned()));
    }
}

#[test]
fn a_place_of_its_own_that_is_full_is_told() {
    let room = |left, inodes_left| {
        Some(Room {
            bytes: [1 << 20, left],
            files: [100, inodes_left],
        })
    };
    let with = |tmp, shm, status| {
        let mut known = known(status);
        (known.exit.tmp, known.exit.shm) = (tmp, shm);
        known
    };
    let failed = WaitStatus::Code(1);
    let roomy = room(1 << 19, 50);
    assert_eq!(with(roomy, roomy, failed).all(), []);
    assert_eq!(with(None, None, failed).all(), []);
    let full = with(room(0, 50), roomy, failed).one();
    assert_eq!(
        full,
        (Limit::Tmp, "tmp.size = 1MiB: /tmp is full".to_owned())
    );
    let crowded = with(room(1 << 19, 0), roomy, failed).one();
    let text = "tmp.inodes = 100: /tmp holds as many files as it may";
    assert_eq!(crowded, (Limit::Tmp, text.to_owned()));
    let shm = with(roomy, room(100, 50), failed).one();
    assert_eq!(
        shm,
        (Limit::Shm, "shm.size = 1MiB: /dev/shm is full".to_owned())
    );
    let bus = with(roomy, roomy, WaitStatus::Signal(7)).one();
    assert_eq!(bus.0, Limit::Shm);
}

#[test]
fn being_held_back_is_told_where_it_was_most_of_the_time() {
    let slices = |all, held_back| Counts {
        cpu: Some(Slices { all, held_back }),
        ..Counts::default()
    };
    let computed = |after| known(WaitStatus::Code(0)).counted(slices(100, 90), after);
    let text = "limits.cpus = 2: held back in 75% of the time it computed";
    assert_eq!(
        computed(slices(140, 120)).one(),
        (Limit::Cpus, text.to_owned())
    );
    assert_eq!(computed(slices(140, 100)).all(), []);
    assert_eq!(computed(slices(110, 100)).all(), []);
}
