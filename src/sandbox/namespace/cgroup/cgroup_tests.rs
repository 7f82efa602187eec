use super::*;

fn limits(memory: Option<u64>, swap: Option<u64>, cpus: Option<f64>) -> Limits {
    Limits {
        wall_ms: None,
        cpus,
        memory,
        swap,
        pids: Some(64),
        open_files: None,
        file_size: None,
        log_bytes: None,
        log_line: None,
        workspace_size: None,
        workspace_inodes: None,
    }
}

fn written(join: CgroupJoin, limits: &Limits) -> Vec<String> {
    let base = Base {
        dir: "/nowhere".into(),
        join,
        controllers: Controller::ALL.to_vec(),
    };
    settings(&base, Some(limits), &base.dir)
        .into_iter()
        .map(|(file, value)| format!("{file}={value}"))
        .collect()
}

#[test]
fn version_2_is_told_in_its_own_words() {
    let limits = limits(Some(100), Some(0), Some(1.5));
    assert_eq!(
        written(CgroupJoin::Clone, &limits),
        [
            "memory.max=100",
            "memory.swap.max=0",
            "pids.max=64",
            "cpu.max=150000 100000"
        ]
    );
}

#[test]
fn version_1_is_told_the_sum_with_swap_after_the_memory() {
    let limits = limits(Some(100), Some(20), None);
    let counted = memory_1(&limits, true);
    assert_eq!(counted[0], ("memory.limit_in_bytes", "100".into()));
    assert_eq!(counted[1], ("memory.memsw.limit_in_bytes", "120".into()));
    let uncounted = memory_1(&limits, false);
    assert_eq!(uncounted[1], ("memory.swappiness", "0".into()));
}

#[test]
fn what_is_unlimited_is_not_written() {
    let limits = Limits {
        pids: None,
        ..limits(None, Some(0), None)
    };
    assert_eq!(written(CgroupJoin::Tasks, &limits), [""; 0]);
}

#[test]
fn a_share_too_small_for_the_kernel_is_the_smallest_it_takes() {
    assert_eq!(
        cpu(0.0, CgroupJoin::Clone),
        [("cpu.max", "1000 100000".into())]
    );
    assert_eq!(
        cpu(0.5, CgroupJoin::Tasks)[1],
        ("cpu.cfs_quota_us", "50000".into())
    );
}

#[tokio::test]
async fn what_was_made_is_removed_and_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let base = Base {
        dir: dir.path().to_owned(),
        join: CgroupJoin::Tasks,
        controllers: vec![Controller::Pids],
    };
    let made = MadeGroups::make(std::slice::from_ref(&base), "one", None).unwrap();
    assert!(made.enforced().pids && !made.enforced().memory);
    assert_eq!(
        made.to_join()[0].dir,
        dir.path().join("one").display().to_string()
    );
    fs::remove_dir(dir.path().join("one")).unwrap();
    made.remove().await.unwrap();
    drop(MadeGroups::make(&[base], "two", None).unwrap());
    assert!(!dir.path().join("two").exists());
}
