//! Against the disk that a workspace shares with everybody else.

use super::user::{Run, asks_never};
use fumehood::policy::model::Policy;
use fumehood::protocol::spec::BackendKind;

/// It fills what it may not, and then waits to be found.
async fn is_stopped(
    kind: BackendKind,
    script: &str,
    limit: &str,
    change: impl FnOnce(&mut Policy),
) {
    let mut policy = asks_never();
    change(&mut policy);
    let Some(run) = Run::open(kind, policy, |_| {}).await else {
        return;
    };
    let ran = run
        .python(&format!("import os, time\n{script}\nprint('FILLED')"))
        .await;
    assert!(!ran.ok && !ran.text.contains("FILLED"), "{ran:?}");
    assert!(ran.text.contains(limit), "{ran:?}");
    // What fills it is to be taken out before anything else runs; the rest is the person's.
    let workspace = run.workspace.clone();
    let _closed = run.close().await;
    assert!(workspace.is_dir());
}

fn small(policy: &mut Policy) {
    policy.workspace.size = Some(16 << 20);
    policy.workspace.inodes = Some(2000);
}

pub(crate) async fn a_workspace_filled_with_bytes(kind: BackendKind) {
    let script = r#"
piece = b'x' * (1 << 20)
for n in range(64):
    with open(f'part-{n}', 'wb') as file: file.write(piece)
time.sleep(60)
"#;
    is_stopped(kind, script, "workspace.size", small).await;
}

/// In many small ones, none of which is large.
pub(crate) async fn a_workspace_filled_with_files(kind: BackendKind) {
    let script = r#"
for folder in range(10):
    os.mkdir(f'd{folder}')
    for n in range(600): open(f'd{folder}/{n}', 'w').close()
time.sleep(60)
"#;
    is_stopped(kind, script, "workspace.inodes", small).await;
}

/// Behind closed folders, without a name, in the home, with a second name.
pub(crate) async fn bytes_that_hide_from_being_counted(kind: BackendKind) {
    let script = r#"
piece = b'x' * (1 << 20)
home = os.environ['HOME']
for n in range(12):
    with open(f'{home}/part-{n}', 'wb') as file: file.write(piece)
os.makedirs('closed/in')
for n in range(24):
    with open(f'closed/in/part-{n}', 'wb') as file: file.write(piece)
    os.link(f'closed/in/part-{n}', f'closed/again-{n}')
os.chmod('closed/in', 0); os.chmod('closed', 0)
time.sleep(60)
"#;
    is_stopped(kind, script, "workspace.size", small).await;
}
