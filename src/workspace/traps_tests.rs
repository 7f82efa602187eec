use super::super::walk::Stamp;
use super::*;

/// A tree of these lines: `path/` a folder, `path -> target` a link, `path |` a pipe, `path s` set-uid,
/// else a file. Inodes follow the names, so the same line is the same thing.
fn tree(lines: &[&str]) -> Tree {
    lines.iter().map(|line| node(line)).collect()
}

fn node(line: &str) -> (PathBuf, Node) {
    let (path, kind, mode) = if let Some((path, target)) = line.split_once(" -> ") {
        (path, Kind::Link(target.into()), 0o777)
    } else if let Some(path) = line.strip_suffix('/') {
        (path, Kind::Folder, 0o755)
    } else if let Some(path) = line.strip_suffix(" |") {
        (path, Kind::Special("a named pipe"), 0o644)
    } else if let Some(path) = line.strip_suffix(" s") {
        (path, Kind::File, 0o4755)
    } else {
        (line, Kind::File, 0o644)
    };
    let inode = line.bytes().fold(7u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let stamp = Stamp {
        device: 1,
        inode,
        size: 1,
        mtime: (1, 1),
        ctime: (1, 1),
        mode,
        links: 1,
        owner: 1000,
        on_disk: 4096,
    };
    (path.into(), Node { kind, stamp })
}

fn found(before: &[&str], now: &[&str]) -> Vec<(String, Why)> {
    findings(&Before::of(&tree(before)), &tree(now))
        .into_iter()
        .map(|finding| (finding.path.display().to_string(), finding.why))
        .collect()
}

fn one(path: &str, why: Why) -> Vec<(String, Why)> {
    vec![(path.to_owned(), why)]
}

#[test]
fn a_new_trap_is_found_at_any_depth_once() {
    assert_eq!(
        found(
            &["a/"],
            &["a/", "a/.git/", "a/.git/config", "a/.git/out -> /etc"]
        ),
        one("a/.git", Why::Trap)
    );
    for name in PROTECTED {
        assert_eq!(found(&[], &[name]), one(name, Why::Trap));
    }
}

#[test]
fn what_was_there_and_is_the_same_stays() {
    let all = [
        ".git/",
        ".envrc",
        "bare.git/",
        "bare.git/HEAD",
        "bare.git/objects/",
        "bare.git/refs/",
        "data -> /mnt/data",
        "pipe |",
        "tool s",
    ];
    assert_eq!(found(&all, &all), []);
}

#[test]
fn a_trap_in_the_place_of_the_users_own_is_found() {
    // The same name, another inode: here a file instead of the folder.
    assert_eq!(found(&[".git/"], &[".git"]), one(".git", Why::Trap));
}

#[test]
fn the_users_own_trap_may_be_moved_with_its_folder() {
    let mut now = tree(&["b/"]);
    let (_, git) = node("a/.git/");
    now.insert("b/.git".into(), git);
    assert_eq!(findings(&Before::of(&tree(&["a/", "a/.git/"])), &now), []);
}

#[test]
fn a_folder_that_git_would_take_for_a_repository_is_found() {
    assert_eq!(
        found(&[], &["x/", "x/HEAD", "x/objects/", "x/refs/", "x/config"]),
        one("x", Why::BareRepository)
    );
    assert_eq!(found(&[], &["x/", "x/HEAD", "x/objects/"]), []);
}

#[test]
fn links_are_judged_by_where_they_end() {
    let inside = [
        "a/",
        "a/b/",
        "a/file",
        "a/up -> ../top",
        "a/b/up2 -> ../../top",
        "here -> .",
        "nowhere -> does/not/exist",
        "ring -> ring",
        "dots -> a/../a/./file",
    ];
    assert_eq!(found(&[], &inside), []);
    for out in [
        "l -> /etc/passwd",
        "l -> /workspace/a",
        "l -> ..",
        "l -> ../x",
        "l -> a/../../x",
        "a/l -> ../../x",
        "a/b/l -> up2/../../x",
    ] {
        let mut now = inside.to_vec();
        now.push(out);
        let path = out.split(' ').next().unwrap();
        assert_eq!(found(&[], &now), one(path, Why::LinkOut), "{out}");
    }
}

#[test]
fn a_link_through_a_link_of_the_users_that_leads_out_is_found() {
    let before = ["data -> /mnt/data"];
    assert_eq!(
        found(&before, &["data -> /mnt/data", "mine -> data/secret"]),
        one("mine", Why::LinkOut)
    );
}

#[test]
fn a_users_link_that_names_something_else_now_is_found() {
    assert_eq!(
        found(&["data -> /mnt/data"], &["data -> /mnt/other"]),
        one("data", Why::LinkOut)
    );
}

#[test]
fn pipes_and_set_uid_files_are_found() {
    assert_eq!(found(&[], &["p |"]), one("p", Why::Special("a named pipe")));
    assert_eq!(found(&["x"], &["x s"]), one("x", Why::SetId));
}

#[test]
fn the_topmost_are_protected() {
    let tree = tree(&[
        ".git/",
        ".git/.git/",
        "sub/",
        "sub/.envrc",
        "sub/.vscode -> x",
        "src/",
    ]);
    let paths: Vec<_> = protected(Path::new("/w"), &tree)
        .into_iter()
        .map(|place| place.path.display().to_string())
        .collect();
    assert_eq!(paths, ["/w/.git", "/w/sub/.envrc"]);
}

#[test]
fn files_shared_with_the_outside_are_told_from_those_shared_within() {
    let mut tree = tree(&["a", "b", "c"]);
    for (path, inode, links) in [("a", 1, 2), ("b", 1, 2), ("c", 2, 2)] {
        let stamp = &mut tree.get_mut(Path::new(path)).unwrap().stamp;
        (stamp.inode, stamp.links) = (inode, links);
    }
    assert_eq!(shared_outside(&tree), [PathBuf::from("c")]);
}

#[test]
fn an_inode_that_went_from_a_link_to_a_folder_is_no_trap_of_the_users() {
    let mut before = tree(&[".git -> elsewhere"]);
    let mut now = tree(&[".git/"]);
    for tree in [&mut before, &mut now] {
        tree.get_mut(Path::new(".git")).unwrap().stamp.inode = 7;
    }
    let found = findings(&Before::of(&before), &now);
    assert_eq!(found.len(), 1);
    assert_eq!(findings(&Before::of(&before), &before), []);
}

#[test]
fn a_set_uid_file_with_other_bytes_is_another_one() {
    let before = tree(&["tool s"]);
    let mut now = before.clone();
    now.get_mut(Path::new("tool")).unwrap().stamp.ctime = (2, 0);
    assert_eq!(findings(&Before::of(&before), &now).len(), 1);
}
