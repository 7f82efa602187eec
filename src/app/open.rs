//! Opens a run: record, workspace, plan, bench.

use super::known::known;
use super::{AppError, Chosen, OpenedRun, RunStart, SandboxRequest, choose_backend};
use crate::config::Config;
use crate::context::redact::Redactor;
use crate::context::sanitise::visible;
use crate::policy::model::Policy;
use crate::protocol::control::Controls;
use crate::protocol::event::Event;
use crate::protocol::ids::RunId;
use crate::protocol::spec::{GivenSecret, Mount, RootFs, SandboxSpec};
use crate::record::{RunRecord, RunStore, new_run_id};
use crate::sandbox::check_required;
use crate::sandbox::gpu::Claim;
use crate::sandbox::mount_source::{MountJudge, MountRequest};
use crate::sandbox::owner::{self, Owner};
use crate::sandbox::plan::{self, Covered, GpuFacts, PlanInput, PythonEnv, Source, WorkspaceFacts};
use crate::sandbox::python::{self, Surroundings};
use crate::tools::ToolStop;
use crate::tools::bench::{Bench, BenchSetup};
use crate::tools::desk::Desk;
use crate::tools::door::Door;
use crate::workspace::{Opening, Place, Texts, Why, Workspace, remove_tree};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Opens a run: locks its workspace, starts its record, plans its sandbox. Nothing has run yet.
pub async fn open_run(
    config: &Config,
    request: SandboxRequest,
    start: RunStart,
    door: Arc<dyn Door>,
) -> Result<OpenedRun, AppError> {
    let chosen = choose_backend(config, &request).await?;
    let controls = chosen.backend.controls().await?;
    let store = RunStore::open(&config.state);
    sweep(&store);
    super::pace::check(&store, &request.policy, None)?;
    let run = new_run_id();
    let wanted = (&*door, &start.cancel);
    let gpus = super::gpus::claim(config, &request.policy.gpu, &run, wanted).await?;
    let record = Arc::new(store.create(&run)?);
    if let Err(error) = super::pace::check(&store, &request.policy, Some(&run)) {
        let _ = remove_tree(record.dir());
        return Err(error);
    }
    let ready = Ready {
        chosen,
        controls,
        gpus,
        record: record.clone(),
    };
    let config = config.clone();
    // An archive, a large workspace, a pipe for a secret's file: beside the work, which hears signals.
    let begun = tokio::task::spawn_blocking(move || {
        let opened = begin(&config, request, start, ready, door);
        if opened.is_err() && record.head().seq == 0 {
            // What never began is no run; what is left of it says nothing.
            let _ = remove_tree(record.dir());
        }
        opened
    });
    match begun.await {
        Ok(opened) => opened,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that ends does this.
            Err(_) => Err(ToolStop::Interrupted.into()),
        },
    }
}

/// Removes what runs have left behind that is past its time, beside the work: a disk may be slow.
fn sweep(store: &RunStore) {
    if let Ok(past) = store.past_its_time() {
        std::thread::spawn(move || {
            for path in past {
                // What resists is tried again with the next run.
                let _ = remove_tree(&path);
            }
        });
    }
}

/// What a run is begun with.
struct Ready {
    chosen: Chosen,
    controls: Controls,
    gpus: (Option<Claim>, Vec<String>),
    record: Arc<RunRecord>,
}

fn begin(
    config: &Config,
    request: SandboxRequest,
    start: RunStart,
    ready: Ready,
    door: Arc<dyn Door>,
) -> Result<OpenedRun, AppError> {
    let Ready {
        chosen,
        controls,
        gpus: (gpus, waited),
        record,
    } = ready;
    record.keep_workspace_for(request.policy.workspace.keep_ms)?;
    let run = record.run().clone();
    let mut workspace = open_workspace(config, &request, &record)?;
    let outside = super::network::outside(config)?;
    let mut known = known(config, &request.env);
    let folder = (request.policy_folder.as_path(), &mut known);
    let secrets = super::secrets::read(config, &request.policy, folder)?;
    let given = (&chosen, &*secrets.given, &start.cancel);
    let places = (&mut workspace, &*record, gpus.as_ref());
    let (spec, mut notes) = plan_sandbox(config, &request, given, places)?;
    // Before anybody is asked about what could not start.
    check_required(&spec, &controls)?;
    let artifacts = super::artifacts::place(&request, &spec, &workspace)?;
    notes.extend(secrets.notes);
    notes.splice(0..0, [vec![chosen.reason], request.policy_notes].concat());
    notes.extend(waited);
    let redactor = Redactor::new(&known);
    let desk = Desk::new(record.clone(), door).redacting(redactor.clone());
    desk.emit(&started(&run, start, &request.policy, &workspace))?;
    for text in &notes {
        desk.emit(&Event::Notice { text: text.clone() })?;
    }
    let owner = Owner::this_process().map_err(|source| AppError::Machine {
        what: "this process's start time",
        source,
    })?;
    let bench = Arc::new(Bench::new(BenchSetup {
        run,
        owner,
        policy: Arc::new(request.policy),
        spec,
        controls,
        backend: chosen.backend,
        workspace: Arc::new(workspace),
        texts: Texts::create(&record.blobs_dir())?.without(redactor),
        desk: desk.clone(),
        secrets: secrets.values,
        outside,
    })?);
    Ok(OpenedRun {
        bench,
        desk,
        record,
        notes,
        gpus,
        artifacts,
    })
}

fn started(run: &RunId, start: RunStart, policy: &Policy, workspace: &Workspace) -> Event {
    Event::RunStarted {
        run: run.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: start.command.to_owned(),
        task: start.task,
        policy: policy.name.clone(),
        policy_digest: policy.digest(),
        workspace: workspace.path().display().to_string(),
        model: start.model,
    }
}

fn open_workspace(
    config: &Config,
    request: &SandboxRequest,
    record: &RunRecord,
) -> Result<Workspace, AppError> {
    let opening = Opening {
        state: &config.state,
        user_home: Some(&config.user_home)
            .filter(|home| home.as_path() != Path::new("/"))
            .map(PathBuf::as_path),
        run: record.run(),
    };
    Ok(match &request.workspace {
        Some(dir) => Workspace::in_place(dir, &opening)?,
        None => Workspace::fresh(record.dir(), &opening)?,
    })
}

/// From the request to the one value that is shown, hashed and interpreted; and what to tell the user.
fn plan_sandbox(
    config: &Config,
    request: &SandboxRequest,
    (chosen, secrets, cancel): (&Chosen, &[GivenSecret], &CancellationToken),
    (workspace, record, gpus): (&mut Workspace, &RunRecord, Option<&Claim>),
) -> Result<(SandboxSpec, Vec<String>), AppError> {
    let policy = &request.policy;
    let backend = chosen.backend.kind();
    let caller = owner::caller();
    let (uid, gid) = plan::run_as(policy, backend, workspace.owner(), caller);
    workspace.work_as(uid, gid)?;
    let unpacked = super::unpack::fill(workspace, request, cancel)?;
    let stock = workspace.take_stock()?;
    let home = source(&crate::workspace::make_home(record.dir(), uid, gid)?);
    let judge = MountJudge::new(&config.user_home, &config.state);
    let inputs = judge_mounts(request, &judge)?;
    let python = find_python(request, &judge, workspace, &chosen.root)?;
    let facts = WorkspaceFacts {
        root: source(workspace.place()),
        protected: stock.protected.iter().map(source).collect(),
        covered: cover(&stock.doors, record)?,
    };
    let networked = super::network::networked(config, policy, record)?;
    let passed = policy
        .env
        .pass
        .iter()
        .filter_map(|name| Some((name.clone(), config.environment.get(name)?.clone())))
        .collect();
    let spec = plan::plan(&PlanInput {
        policy,
        backend,
        root: chosen.root.clone(),
        uid,
        gid,
        workspace: &facts,
        home: &home,
        inputs: &inputs,
        python: python.as_ref(),
        gpus: gpus.map(|claim| GpuFacts {
            devices: &claim.devices,
            files: &claim.files,
        }),
        passed: &passed,
        typed: &request.env,
        secrets,
        network: networked.as_ref().map(|networked| &networked.facts),
        hostname: "fumehood",
        cores: std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
    })?;
    let told = unpacked
        .into_iter()
        .chain(doors_note(&stock.doors))
        .chain(shared_note(&stock.shared))
        .chain(left_note(&stock.left));
    let notes = python.map(|python| python.notes).unwrap_or_default();
    let of_network = networked.map(|networked| networked.notes);
    let notes = notes.into_iter().chain(of_network.unwrap_or_default());
    Ok((spec, told.chain(notes).collect()))
}

/// Each with the same empty file.
fn cover(doors: &[PathBuf], record: &RunRecord) -> Result<Vec<Covered>, AppError> {
    if doors.is_empty() {
        return Ok(Vec::new());
    }
    let blank = source(&crate::workspace::make_blank(record.dir())?);
    let covered = doors.iter().map(|place| Covered {
        place: place.clone(),
        blank: blank.clone(),
    });
    Ok(covered.collect())
}

fn doors_note(doors: &[PathBuf]) -> Option<String> {
    let first = visible(&doors.first()?.to_string_lossy());
    let which = match doors.len() {
        1 => format!("{first} is"),
        count => format!("{count} sockets and pipes ({first} and others) are"),
    };
    Some(format!(
        "{which} covered in the sandbox: a program outside may be at the other end"
    ))
}

/// One line, however many there are: an environment made by uv has thousands.
fn shared_note(shared: &[PathBuf]) -> Option<String> {
    let first = visible(&shared.first()?.to_string_lossy());
    let which = match shared.len() {
        1 => format!("{first} has a second name"),
        count => format!("{count} files ({first} and others) have second names"),
    };
    Some(format!(
        "{which} outside of the workspace (hard links): what a program writes in them changes there too"
    ))
}

/// What a killed run could not clear away. Some of it may be the user's own, so it is only named.
fn left_note(left: &[(PathBuf, Why)]) -> Option<String> {
    const NAMED: usize = 10;
    if left.is_empty() {
        return None;
    }
    let named: Vec<String> = left
        .iter()
        .take(NAMED)
        .map(|(path, why)| format!("{} ({why})", visible(&path.to_string_lossy())))
        .collect();
    let more = match left.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "an earlier run here was killed before it could clear up; look at what came since, other programs may act upon it: {}{more}",
        named.join(", ")
    ))
}

fn source(place: &Place) -> Source {
    Source {
        path: place.path.clone(),
        device: place.device,
        inode: place.inode,
    }
}

/// Those of the policy, relative to its folder; then those typed, relative to where the user is.
fn judge_mounts(request: &SandboxRequest, judge: &MountJudge) -> Result<Vec<Mount>, AppError> {
    let mut mounts = Vec::new();
    for mount in &request.policy.mounts {
        let asked = MountRequest {
            source: PathBuf::from(&mount.source),
            target: PathBuf::from(&mount.target),
            access: mount.access,
        };
        mounts.push(judge.judge(&asked, &request.policy_folder)?);
    }
    let here = here()?;
    for asked in &request.mounts {
        mounts.push(judge.judge(asked, &here)?);
    }
    Ok(mounts)
}

fn find_python(
    request: &SandboxRequest,
    judge: &MountJudge,
    workspace: &Workspace,
    root: &RootFs,
) -> Result<Option<PythonEnv>, AppError> {
    let Some(venv) = &request.venv else {
        return Ok(None);
    };
    let around = Surroundings {
        judge,
        base: &here()?,
        workspace: workspace.path(),
        root,
    };
    Ok(Some(python::find(venv, &around)?))
}

fn here() -> Result<PathBuf, AppError> {
    std::env::current_dir().map_err(|source| AppError::Machine {
        what: "the working directory",
        source,
    })
}
