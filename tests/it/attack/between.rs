//! Against what was said yes to, by what happens between two looks at it.

use super::results::{OUTSIDE, is_untouched, outside};
use super::user::{User, asks_each_time, asks_never};
use fumehood::app::lay_over;
use fumehood::policy::builtin;
use fumehood::protocol::spec::{Access, BackendKind};
use fumehood::sandbox::mount_source::MountRequest;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Another folder under the name that was shown.
pub(crate) async fn a_mount_swapped_between_yes_and_start(kind: BackendKind) {
    type Swap = fn(&Path, &Path);
    let swaps: [(&str, Swap); 3] = [
        ("a folder in its place", |data, outside| {
            fs::rename(outside, data).unwrap()
        }),
        ("a link in its place", |data, outside| {
            symlink(outside, data).unwrap()
        }),
        ("a file in its place", |data, outside| {
            fs::rename(outside.join("file"), data).unwrap();
        }),
    ];
    for access in [Access::ReadOnly, Access::ReadWrite] {
        for (what, swap) in swaps {
            let Some(user) = User::on(kind) else {
                return;
            };
            let (data, outside) = (user.env.path("data"), outside(&user));
            fs::create_dir(&data).unwrap();
            fs::write(data.join("file"), "approved").unwrap();
            let workspace = user.workspace(|_| {});
            let mount = MountRequest {
                source: data.clone(),
                target: "/data/in".into(),
                access,
            };
            let opened = user.opens(asks_each_time(), Some(&workspace), |ask| {
                ask.mounts = vec![mount]
            });
            let run = opened.await.unwrap();
            let aside = user.env.path("aside");
            *run.person.meddle.lock().unwrap() = Some(Box::new(move || {
                fs::rename(&data, aside).unwrap();
                swap(&data, &outside);
            }));
            let look = "cat /data/in/file /data/in; cat /data/in/*; echo looked";
            let ran = run.try_exec(&["/bin/sh", "-c", look]).await;
            let asked = run.person.asked.lock().unwrap().len();
            assert_eq!(asked, 1, "{what}: nobody was asked");
            match ran {
                Err(stop) => assert!(!stop.to_string().contains(OUTSIDE), "{what}: {stop}"),
                Ok(ran) => panic!("{what}: it ran, and read {:?}", ran.text),
            }
            let _closed = run.close().await;
        }
    }
}

/// Each would undo the other's guards.
pub(crate) async fn a_second_run_on_the_same_folder(kind: BackendKind) {
    let (Some(user), Some(other)) = (User::on(kind), User::on(kind)) else {
        return;
    };
    let workspace = user.workspace(|at| fs::create_dir(at.join("inner")).unwrap());
    let first = user
        .opens(asks_never(), Some(&workspace), |_| {})
        .await
        .unwrap();
    let inner = workspace.join("inner");
    for (who, folder) in [(&user, &workspace), (&user, &inner), (&other, &workspace)] {
        let second = who.opens(asks_never(), Some(folder), |_| {}).await;
        assert!(
            second.is_err(),
            "a second run works on {}",
            folder.display()
        );
    }
    assert!(first.exec(&["/bin/true"]).await.ok);
    let _closed = first.close().await;
    let again = other.opens(asks_never(), Some(&workspace), |_| {}).await;
    let _closed = again.unwrap().close().await;
}

/// A program writes down what it would like to be allowed, wherever somebody might look.
const WISHES: &str = r#"
import os
wish = 'schema = 1\n[network]\nmode = "proxy"\nallow = [{ host = "evil.test", ports = [443] }]\n[approval]\ncontained = "allow"\n'
less = 'schema = 1\n[limits]\nwall_time = "1s"\n'
home = os.environ['HOME']
for folder in ('.fumehood', 'sub/.fumehood', '.config/fumehood/policies', home + '/.config/fumehood/policies', home + '/.fumehood'):
    os.makedirs(folder, exist_ok=True)
    for name in ('policy.toml', 'offline-train.toml', 'dev-loop.toml', 'accepted.json'): open(f'{folder}/{name}', 'w').write(less if folder == '.fumehood' else wish)
for name in ('fumehood.toml', '.fumehood.toml', 'policy.toml', 'dev-loop', 'dev-loop.toml'): open(name, 'w').write(wish)
print('WISHED')
"#;

pub(crate) async fn policies_left_in_the_workspace(kind: BackendKind) {
    let Some(user) = User::on(kind) else {
        return;
    };
    let outside = outside(&user);
    let workspace = user.workspace(|_| {});
    let chosen = || builtin::load("dev-loop").unwrap();
    let run = user
        .opens(asks_never(), Some(&workspace), |_| {})
        .await
        .unwrap();
    let ran = run.python(WISHES).await;
    assert!(ran.ok && ran.text.contains("WISHED"), "{ran:?}");
    assert!(workspace.join(".fumehood/policy.toml").is_file());
    // As the next run in it begins, while this one goes on, and after it was killed.
    for folder in [workspace.clone(), workspace.join("sub")] {
        let layered = lay_over(&user.config(), chosen(), Some(&folder)).unwrap();
        assert_eq!(
            layered.loaded.policy,
            chosen().policy,
            "{:?}",
            layered.notes
        );
        assert!(
            layered
                .notes
                .iter()
                .any(|note| note.contains("does not count")),
            "{:?}",
            layered.notes
        );
    }
    let _closed = run.close().await;
    assert!(!workspace.join(".fumehood").exists());
    let layered = lay_over(&user.config(), chosen(), Some(&workspace)).unwrap();
    assert_eq!(layered.loaded.policy, chosen().policy);
    is_untouched(&outside);
}
