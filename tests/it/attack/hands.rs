//! Against what this host does in a workspace itself: the model's own hands, the looking, the tidying.

use super::results::{OUTSIDE, is_untouched, outside};
use super::user::{Run, User, asks_each_time, asks_never};
use fumehood::protocol::ids::Digest;
use fumehood::protocol::spec::BackendKind;
use fumehood::tools::files::{Offer, Receiving, Sending};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const LINKS: &str = r#"
import os
outside = 'OUTSIDE'
os.symlink(outside, 'out')
os.symlink(outside + '/file', 'file')
os.symlink('../outside', 'up')
os.symlink('out', 'chain')
os.symlink('/proc/self/root' + outside, 'magic')
os.mkdir('sub'); os.symlink('../../outside', 'sub/up')
print('LAID')
"#;

/// The program lays links where the model reads and writes next.
pub(crate) async fn links_laid_for_the_models_hands(kind: BackendKind) {
    let Some(user) = User::on(kind) else {
        return;
    };
    let outside = outside(&user);
    let workspace = user.workspace(|_| {});
    let opened = user.opens(asks_never(), Some(&workspace), |_| {}).await;
    let run = opened.unwrap();
    let laid = run
        .python(&LINKS.replace("OUTSIDE", outside.to_str().unwrap()))
        .await;
    assert!(laid.ok && laid.text.contains("LAID"), "{laid:?}");
    let ways = [
        "out",
        "up",
        "chain",
        "magic",
        "sub/up",
        "sub/../out",
        "/workspace/out",
        "sub/../../outside",
    ];
    let mut said = Vec::new();
    for way in ways {
        for name in ["file", "new"] {
            let path = format!("{way}/{name}");
            said.push(run.hand("read", json!({"path": path})).await);
            said.push(
                run.hand("write", json!({"path": path, "content": "x"}))
                    .await,
            );
            let edit = json!({"path": path, "old": "this", "new": "that"});
            said.push(run.hand("edit", edit).await);
        }
        let list = run.hand("list", json!({"path": way})).await;
        assert!(!list.text.contains("file  "), "{way}: {list:?}");
    }
    let whole = outside.join("file").display().to_string();
    for path in ["file", "/workspace/file", whole.as_str(), "../outside/file"] {
        said.push(run.hand("read", json!({"path": path})).await);
        let edit = json!({"path": path, "old": "this", "new": "that"});
        said.push(run.hand("edit", edit).await);
    }
    for told in &said {
        assert!(!told.ok && !told.text.contains(OUTSIDE), "{told:?}");
    }
    given_and_taken(&run, &ways).await;
    is_untouched(&outside);
    let _closed = run.close().await;
    is_untouched(&outside);
}

/// The same by the user's own `box put` and `box get`.
async fn given_and_taken(run: &Run, ways: &[&str]) {
    for way in ways {
        let offer = Offer {
            path: format!("{way}/new").into(),
            name: "new".into(),
            bytes: 1,
            digest: Digest::new("x"),
            mode: 0o644,
        };
        assert!(Receiving::begin(run.bench(), offer).await.is_err(), "{way}");
        let path = format!("{way}/file");
        assert!(
            Sending::begin(run.bench(), path.as_ref()).await.is_err(),
            "{way}"
        );
    }
}

/// Everything that some program runs when it merely looks at a folder.
const TRAPS: &str = r#"
import json, os, pickle
canary = 'CANARY'
code = f'import os; os.close(os.open({canary!r}, os.O_CREAT | os.O_WRONLY))\n'
shell = f'#!/bin/sh\ntouch {canary}\n'
def put(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    open(path, 'w').write(text); os.chmod(path, mode)
for name in ('sitecustomize.py', 'usercustomize.py', 'conftest.py', 'setup.py', 'hubconf.py', '__init__.py', '__main__.py', 'tokenizers.py', 'json.py'): put(name, code)
for name in ('git', 'python', 'python3', 'sh', 'ls', 'tar', 'file', 'docker', 'bin/python3', 'bin/git'): put(name, shell, 0o755)
put('evil.pth', code); put('noxfile.py', code); put('tasks.py', code)
put('pyproject.toml', '[build-system]\nrequires = []\nbuild-backend = "setup"\nbackend-path = ["."]\n')
put('Makefile', f'X := $(shell touch {canary})\nall:\n\ttouch {canary}\n')
put('.gitattributes', '* filter=evil diff=evil\n'); put('.gitconfig', f'[filter "evil"]\nsmudge = touch {canary}\nclean = touch {canary}\n[core]\nfsmonitor = touch {canary}\n')
put('.env', f'PYTHONSTARTUP=/workspace/setup.py\nPATH=/workspace\nX=$(touch {canary})\n'); put('.python-version', 'evil\n'); put('.tool-versions', 'python evil\n')
class Evil:
    def __reduce__(self): return (os.system, (f'touch {canary}',))
for name in ('model.pkl', 'model.pt', 'pytorch_model.bin', 'data.npy', 'index.joblib'): open(name, 'wb').write(pickle.dumps(Evil()))
put('tokenizer_config.json', json.dumps({'chat_template': "{{ ''.__class__.__mro__[1].__subclasses__() }}", 'auto_map': {'AutoTokenizer': 'setup.X'}}))
put('config.yaml', f'x: !!python/object/apply:os.system ["touch {canary}"]\n')
put('book.ipynb', json.dumps({'nbformat': 4, 'nbformat_minor': 5, 'metadata': {}, 'cells': [{'cell_type': 'code', 'source': code, 'outputs': [], 'metadata': {}, 'execution_count': None, 'id': 'a'}]}))
site = 'venv/lib/python3.11/site-packages/'
for name in (site + 'sitecustomize.py', site + '__editable___evil_finder.py', 'venv/lib/python3.11/os.py'): put(name, code)
put(site + 'evil.pth', code); put(site + '__editable__.evil.pth', 'import __editable___evil_finder\n'); put(site + 'easy-install.pth', f'{code}/workspace\n')
put('venv/pyvenv.cfg', 'home = /workspace/venv/bin\nversion = 3.11\nexecutable = /workspace/venv/bin/python\n')
for name in ('python', 'python3', 'python3.11', 'activate', 'pip'): put('venv/bin/' + name, shell, 0o755)
print('LAID')
"#;

/// Read, listed, shown in a question, taken for an environment, tidied: never run.
pub(crate) async fn code_left_for_whoever_looks(kind: BackendKind) {
    let Some(user) = User::on(kind) else {
        return;
    };
    let place = user.env.path("canaries");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    let canary = place.join("ran");
    let workspace = user.workspace(|_| {});
    let opened = user.opens(asks_never(), Some(&workspace), |_| {}).await;
    let run = opened.unwrap();
    let laid = run
        .python(&TRAPS.replace("CANARY", canary.to_str().unwrap()))
        .await;
    assert!(laid.ok && laid.text.contains("LAID"), "{laid:?}");
    let listed = run.hand("list", json!({"depth": 5})).await;
    assert!(listed.ok, "{listed:?}");
    for path in [
        "model.pkl",
        "setup.py",
        "book.ipynb",
        "tokenizer_config.json",
        "config.yaml",
        "venv/bin/python",
    ] {
        let read = run.hand("read", json!({"path": path})).await;
        assert!(read.ok, "{path}: {read:?}");
    }
    let edit = json!({"path": "noxfile.py", "old": "import os", "new": "import  os"});
    assert!(run.hand("edit", edit).await.ok);
    let _closed = run.close().await;
    // Looked at again: as a project, as an environment, in a question, for results.
    let (venv, results) = (workspace.join("venv"), user.env.path("results"));
    let with = user.opens(asks_each_time(), Some(&workspace), |ask| {
        ask.venv = Some(venv);
        ask.artifacts = Some(results.clone());
    });
    if let Ok(run) = with.await {
        let _refused_or_not = run.try_exec(&["/bin/true", "setup.py"]).await;
        let _closed = run.close().await;
    }
    let again = user
        .opens(asks_each_time(), Some(&workspace), |_| {})
        .await
        .unwrap();
    let ran = again.exec(&["/bin/echo", "setup.py", "Makefile"]).await;
    assert!(ran.ok, "{ran:?}");
    let _closed = again.close().await;
    let left: Vec<_> = fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "something of the workspace ran: {left:?}");
}
