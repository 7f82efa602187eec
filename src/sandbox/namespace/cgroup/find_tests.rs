use super::*;

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 /box /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

const OWN: &str = "\
9:name=systemd:/
8:pids:/user.slice
4:memory:/box/session
2:cpu,cpuacct:/
0::/user.slice/a:b
";

#[test]
fn the_mount_table_and_the_own_groups_are_put_together() {
    let found = hierarchies(HYBRID, OWN);
    let own: Vec<&str> = found.iter().map(|one| one.own.to_str().unwrap()).collect();
    assert_eq!(
        own,
        [
            "/sys/fs/cgroup/cpu,cpuacct/",
            "/sys/fs/cgroup/memory/session",
            "/sys/fs/cgroup/pids/user.slice",
            "/sys/fs/cgroup/unified/user.slice/a:b",
        ]
    );
    assert_eq!(found[0].controllers, Some(vec![Controller::Cpu]));
    assert_eq!(found[3].controllers, None);
}

#[test]
fn a_group_outside_of_what_is_mounted_is_of_no_use() {
    let own = OWN.replace("/box/session", "/elsewhere");
    assert_eq!(hierarchies(HYBRID, &own).len(), 3);
}

/// A unified tree as files: a user's session below a slice that hands down two controllers.
fn tree() -> (tempfile::TempDir, Hierarchy) {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().to_owned();
    let own = top.join("user.slice/app.slice/terminal.scope");
    fs::create_dir_all(&own).unwrap();
    for (at, handed) in [
        ("", "cpu memory pids"),
        ("user.slice", "memory pids"),
        ("user.slice/app.slice", "memory pids"),
    ] {
        fs::write(top.join(at).join("cgroup.subtree_control"), handed).unwrap();
    }
    let hierarchy = Hierarchy {
        top,
        own,
        controllers: None,
    };
    (dir, hierarchy)
}

#[test]
fn the_nearest_folder_that_hands_down_the_most_is_taken() {
    let (_dir, hierarchy) = tree();
    // On a real tree the kernel fills a new folder; here nothing does, so only the choice is seen.
    let promised = |dir: &Path| listed(&dir.join("cgroup.subtree_control")).len();
    let counts: Vec<usize> = hierarchy
        .own
        .ancestors()
        .take_while(|dir| dir.starts_with(&hierarchy.top))
        .map(promised)
        .collect();
    assert_eq!(counts, [0, 2, 2, 3]);
    assert_eq!(version_2(&hierarchy, "probe", false), None);
}

#[test]
fn a_folder_that_cannot_be_made_is_no_base() {
    let (dir, _) = tree();
    assert_eq!(try_folder(&dir.path().join("nowhere"), "probe"), None);
    assert_eq!(try_folder(dir.path(), "probe"), Some(Vec::new()));
    assert!(!dir.path().join("probe").exists());
}
