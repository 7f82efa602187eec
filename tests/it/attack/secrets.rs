//! Against what nobody but the sandbox may read, and what it may only be given after a yes.

use super::user::{User, asks_never};
use crate::redaction::{LEAK, TOKEN, check, check_disk};
use crate::secrets::{VALUE, nowhere_beneath, sha};
use fumehood::policy::model::{Decision, Policy, PolicySecret, SecretFrom};
use fumehood::protocol::spec::BackendKind;
use serde_json::json;
use std::fs;

fn with_a_secret(grant: Decision) -> Policy {
    let mut policy = asks_never();
    policy.secrets = vec![PolicySecret {
        name: "DEPLOY_KEY".to_owned(),
        from: SecretFrom::Environment,
        grant,
    }];
    policy
}

/// Told by everything that a program can make others say for it: its output, its arguments, names of
/// files, a file that the model reads.
const TELL: &str = r#"
import os, subprocess, sys
token = open('/workspace/token').read().strip()
os.mkdir(token); open(token + '/' + token + '.txt', 'w').write(token)
open('copy', 'w').write('x' * 5000 + token + '\n' + token[:9] + '\x1b[0m' + token[9:] + '\n')
sys.stderr.write('error: ' + token.encode().hex() + '\n')
subprocess.run(['/bin/sh', '-c', 'for i in 1 2 3; do echo "$0"; done', token])
raise SystemExit(token)
"#;

pub(crate) async fn known_values_in_what_is_told(kind: BackendKind) {
    let Some(user) = User::on(kind).map(|user| user.with("HF_TOKEN", TOKEN)) else {
        return;
    };
    let workspace = user.workspace(|at| fs::write(at.join("token"), TOKEN).unwrap());
    let opened = user.opens(asks_never(), Some(&workspace), |_| {}).await;
    let run = opened.unwrap();
    let mut told = vec![run.python(LEAK).await.text, run.python(TELL).await.text];
    told.push(run.exec(&["/bin/cat", "token", "copy"]).await.text);
    told.push(run.exec(&["/bin/echo", TOKEN]).await.text);
    told.push(run.exec(&[&format!("/bin/{TOKEN}")]).await.text);
    told.push(run.hand("read", json!({"path": "copy"})).await.text);
    told.push(run.hand("list", json!({})).await.text);
    told.push(
        run.hand("read", json!({"path": format!("no/{TOKEN}")}))
            .await
            .text,
    );
    assert!(
        told[0].contains("done") && told[2].contains("****"),
        "{told:#?}"
    );
    // As the loop passes answers on.
    let redactor = run.bench().desk().redactor().clone();
    let closed = run.close().await;
    for text in &told {
        check("what the model reads", redactor.text(text).as_bytes());
    }
    for event in &closed.seen {
        check("an event", serde_json::to_string(event).unwrap().as_bytes());
    }
    check_disk(&closed.env.state(), &workspace);
}

/// Everywhere that others look, from inside; what it is, as a sum of it.
const LOOK: &str = r#"
import glob, hashlib, os
path = '/run/secrets/DEPLOY_KEY'
value = open(path).read() if os.path.exists(path) else ''
places = [n for n in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline') + glob.glob('/proc/[0-9]*/task/*/environ')]
found = []
for name in places:
    try:
        if value and value in open(name, errors='replace').read(): found.append(name)
    except OSError: pass
for folder in ('/workspace', '/tmp', '/dev/shm', os.environ['HOME'], '/var/tmp'):
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                if value and value in open(os.path.join(top, name), errors='replace').read(): found.append(os.path.join(top, name))
            except OSError: pass
kinds = [line.split()[2] for line in open('/proc/self/mounts') if line.split()[1] == '/run/secrets']
for act in (lambda: open(path, 'w'), lambda: os.unlink(path), lambda: os.link(path, '/workspace/kept'), lambda: os.rename(path, '/workspace/kept')):
    try: act(); found.append('changed')
    except OSError: pass
print('LOOKED', found, kinds, hashlib.sha256(value.encode()).hexdigest())
"#;

pub(crate) async fn a_secret_in_other_places(kind: BackendKind) {
    let Some(user) = User::on(kind).map(|user| user.with("DEPLOY_KEY", VALUE)) else {
        return;
    };
    let workspace = user.workspace(|_| {});
    let policy = with_a_secret(Decision::Allow);
    let opened = user.opens(policy, Some(&workspace), |_| {}).await;
    let run = opened.unwrap();
    let ran = run.python(LOOK).await;
    // While it can be read inside.
    fs::write(workspace.join("seen"), "").unwrap();
    nowhere_beneath(&workspace);
    nowhere_beneath(&user.env.state());
    let wanted = format!("LOOKED [] ['tmpfs'] {}", sha());
    assert!(ran.ok && ran.text.contains(&wanted), "{ran:?}");
    let _closed = run.close().await;
    nowhere_beneath(&workspace);
    nowhere_beneath(&user.env.state());
}

/// Asked for again and again.
pub(crate) async fn a_secret_that_a_person_refused(kind: BackendKind) {
    let Some(user) = User::on(kind).map(|user| user.with("DEPLOY_KEY", VALUE)) else {
        return;
    };
    let workspace = user.workspace(|_| {});
    let policy = with_a_secret(Decision::Ask);
    let opened = user.opens(policy, Some(&workspace), |_| {}).await;
    let run = opened.unwrap();
    *run.person.never.lock().unwrap() = Some("secret");
    let mut questions = 0;
    for _ in 0..3 {
        let ran = run.python(LOOK).await;
        assert!(!ran.text.contains(&sha()), "{ran:?}");
        assert!(!ran.ok && ran.text.contains("not what I read"), "{ran:?}");
        questions += run.person.asked.lock().unwrap().len();
    }
    assert_eq!(questions, 1, "a no is one for the run");
    let _closed = run.close().await;
}
