use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A home with an installation in it, as pyenv or uv lays it down.
struct Home {
    dir: TempDir,
    judge: MountJudge,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let judge = MountJudge::new(&dir.path().join("ada"), &dir.path().join("state"));
        let home = Self { dir, judge };
        home.file("ada/.pyenv/versions/3.12.1/bin/python3.12", "");
        home.file("ada/.pyenv/versions/3.12.1/lib/python3.12/os.py", "");
        home.link("ada/.pyenv/versions/3.12.1/bin/python3", "python3.12");
        home
    }

    fn at(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn link(&self, path: &str, target: impl AsRef<Path>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(target, self.at(path)).unwrap();
    }

    /// An environment whose `bin/python` is a link to `program`.
    fn venv(&self, path: &str, program: &Path) {
        let bin = program.parent().unwrap();
        self.file(
            &format!("{path}/pyvenv.cfg"),
            &format!("home = {}\n", bin.display()),
        );
        self.link(&format!("{path}/bin/python3"), program);
        self.link(&format!("{path}/bin/python"), "python3");
        fs::create_dir_all(self.at(path).join("lib/python3.12/site-packages")).unwrap();
    }

    fn find(&self, path: &str) -> Result<PythonEnv, PythonError> {
        self.find_in(path, &RootFs::HostSystem)
    }

    fn find_in(&self, path: &str, root: &RootFs) -> Result<PythonEnv, PythonError> {
        find(
            Path::new(path),
            &Surroundings {
                judge: &self.judge,
                base: &self.at(""),
                workspace: &self.at("ada/proj"),
                root,
            },
        )
    }

    /// Source and target of each mount, both below this home.
    fn places(&self, env: &PythonEnv) -> Vec<(String, String)> {
        let short = |path: &Path| {
            let below = path.strip_prefix(self.at("")).unwrap();
            below.display().to_string()
        };
        env.mounts
            .iter()
            .map(|mount| (short(&mount.source), short(&mount.target)))
            .collect()
    }
}

fn same(path: &str) -> (String, String) {
    (path.into(), path.into())
}

#[test]
fn a_venv_comes_with_the_installation_it_names() {
    let home = Home::new();
    home.venv(
        "ada/venv",
        &home.at("ada/.pyenv/versions/3.12.1/bin/python3"),
    );
    let env = home.find("ada/venv").unwrap();
    assert_eq!(
        home.places(&env),
        [same("ada/venv"), same("ada/.pyenv/versions/3.12.1")]
    );
    assert!(
        env.mounts
            .iter()
            .all(|mount| mount.access == Access::ReadOnly)
    );
    assert_eq!(
        env.env["VIRTUAL_ENV"],
        home.at("ada/venv").display().to_string()
    );
    assert_eq!(env.path, [home.at("ada/venv/bin").display().to_string()]);
    assert!(env.notes.is_empty());
}

#[test]
fn a_venv_of_the_system_s_python_needs_nothing_more_on_the_host_s_system() {
    let home = Home::new();
    home.venv("ada/venv", Path::new("/usr/bin/python3"));
    let env = home.find("ada/venv").unwrap();
    assert_eq!(home.places(&env), [same("ada/venv")]);
    let image = RootFs::Image {
        reference: "x".into(),
        id: "y".into(),
    };
    let refused = home.find_in("ada/venv", &image);
    assert!(matches!(refused, Err(PythonError::OtherSystem { .. })));
}

#[test]
fn a_link_to_the_interpreter_in_another_folder_is_seen_too() {
    let home = Home::new();
    home.link(
        "ada/bin/python3",
        home.at("ada/.pyenv/versions/3.12.1/bin/python3"),
    );
    home.venv("ada/venv", &home.at("ada/bin/python3"));
    let env = home.find("ada/venv").unwrap();
    let program = "ada/.pyenv/versions/3.12.1/bin/python3.12".to_owned();
    assert!(
        home.places(&env)
            .contains(&(program, "ada/bin/python3".into())),
        "{env:?}"
    );
}

#[test]
fn uv_s_second_name_of_an_installation_is_seen_too() {
    let home = Home::new();
    let uv = "ada/.local/share/uv/python";
    home.file(&format!("{uv}/cpython-3.12.11/bin/python3.12"), "");
    home.file(&format!("{uv}/cpython-3.12.11/lib/python3.12/os.py"), "");
    home.link(&format!("{uv}/cpython-3.12"), "cpython-3.12.11");
    home.venv(
        "ada/proj/.venv",
        &home.at(&format!("{uv}/cpython-3.12/bin/python3.12")),
    );
    let env = home.find("ada/proj/.venv").unwrap();
    let (real, other) = (
        format!("{uv}/cpython-3.12.11"),
        format!("{uv}/cpython-3.12"),
    );
    assert_eq!(
        home.places(&env),
        [same("ada/proj/.venv"), same(&real), (real, other)]
    );
}

#[test]
fn a_conda_environment_is_its_own_installation() {
    let home = Home::new();
    home.file("ada/miniconda3/envs/ml/conda-meta/history", "");
    home.file("ada/miniconda3/envs/ml/bin/python3.12", "");
    home.link("ada/miniconda3/envs/ml/bin/python", "python3.12");
    home.file("ada/miniconda3/envs/ml/lib/python3.12/os.py", "");
    let env = home.find("ada/miniconda3/envs/ml").unwrap();
    assert_eq!(home.places(&env), [same("ada/miniconda3/envs/ml")]);
    assert_eq!(env.env["CONDA_DEFAULT_ENV"], "ml");
}

#[test]
fn an_environment_reached_over_a_link_has_both_names() {
    let home = Home::new();
    home.venv("ada/venv", Path::new("/usr/bin/python3"));
    home.link("ada/current", "venv");
    let env = home.find("ada/current").unwrap();
    assert_eq!(
        home.places(&env),
        [same("ada/venv"), ("ada/venv".into(), "ada/current".into())]
    );
}

#[test]
fn what_is_not_an_environment_is_refused_with_the_likely_one() {
    let home = Home::new();
    home.venv("ada/proj/.venv", Path::new("/usr/bin/python3"));
    for (named, likely) in [("ada/proj", ".venv"), ("ada/proj/.venv/bin", ".venv")] {
        let remedy = home.find(named).unwrap_err().remedy();
        assert!(remedy.ends_with(&format!("{likely}?")), "{remedy}");
    }
    let error = home.find("ada/.pyenv").unwrap_err();
    assert!(error.remedy().contains("python3 -m venv"), "{error}");
    assert!(matches!(
        home.find("nowhere"),
        Err(PythonError::Open { .. })
    ));
}

#[test]
fn an_environment_whose_interpreter_is_gone_says_which() {
    let home = Home::new();
    home.venv(
        "ada/venv",
        &home.at("ada/.pyenv/versions/3.9.0/bin/python3"),
    );
    let error = home.find("ada/venv").unwrap_err();
    assert!(
        error.to_string().contains("versions/3.9.0/bin/python3"),
        "{error}"
    );
    assert!(error.remedy().contains("--clear"));
}

#[test]
fn an_environment_of_a_stranger_mounts_no_secrets() {
    let home = Home::new();
    // Looks like an installation, and is the user's home.
    home.file("ada/bin/python3", "");
    home.file("ada/lib/python3.12/os.py", "");
    home.venv("ada/proj/.venv", &home.at("ada/bin/python3"));
    assert!(matches!(
        home.find("ada/proj/.venv"),
        Err(PythonError::Mount(_))
    ));
    // Is a folder of keys.
    home.file("ada/.ssh/bin/python3", "");
    home.file("ada/.ssh/lib/python3.12/os.py", "");
    home.venv("ada/other/.venv", &home.at("ada/.ssh/bin/python3"));
    assert!(matches!(
        home.find("ada/other/.venv"),
        Err(PythonError::Mount(_))
    ));
    // Is not an installation.
    home.file("ada/private/bin/python3", "");
    home.venv("ada/third/.venv", &home.at("ada/private/bin/python3"));
    assert!(matches!(
        home.find("ada/third/.venv"),
        Err(PythonError::NotAnInstallation { .. })
    ));
}

#[test]
fn links_in_a_circle_end() {
    let home = Home::new();
    home.file("ada/venv/pyvenv.cfg", "home = /usr/bin\n");
    home.link("ada/venv/bin/python3", "python");
    home.link("ada/venv/bin/python", "python3");
    assert!(matches!(
        home.find("ada/venv"),
        Err(PythonError::NoInterpreter { .. })
    ));
}

#[test]
fn editable_packages_are_listed_and_those_out_of_sight_are_named() {
    let home = Home::new();
    home.venv("ada/proj/.venv", Path::new("/usr/bin/python3"));
    let site = "ada/proj/.venv/lib/python3.12/site-packages";
    for (package, folder) in [("proj", "ada/proj"), ("other", "ada/other")] {
        fs::create_dir_all(home.at(folder).join("src")).unwrap();
        let json = format!(
            r#"{{"url": "file://{}", "dir_info": {{"editable": true}}}}"#,
            home.at(folder).display()
        );
        home.file(
            &format!("{site}/{package}-0.1.dist-info/direct_url.json"),
            &json,
        );
        let line = format!("{}\n", home.at(folder).join("src").display());
        home.file(&format!("{site}/__editable__.{package}-0.1.pth"), &line);
    }
    fs::create_dir_all(home.at("ada/third")).unwrap();
    let line = format!("import evil\n# {0}\n{0}\n", home.at("ada/third").display());
    home.file(&format!("{site}/third.pth"), &line);
    let env = home.find("ada/proj/.venv").unwrap();
    let mut names: Vec<&str> = env.editable.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["other", "proj", "third"]);
    assert_eq!(env.notes.len(), 2, "{:?}", env.notes);
    assert!(
        env.notes
            .iter()
            .all(|note| note.starts_with("other ") || note.starts_with("third "))
    );
}

#[test]
fn packages_that_are_links_into_a_cache_are_noticed() {
    let home = Home::new();
    home.venv("ada/venv", Path::new("/usr/bin/python3"));
    let info = "ada/venv/lib/python3.12/site-packages/numpy-2.0.dist-info/METADATA";
    home.link(info, home.at("ada/.cache/uv/x"));
    let env = home.find("ada/venv").unwrap();
    assert!(env.notes[0].contains("UV_LINK_MODE"));
}

#[test]
fn settings_are_read_as_python_reads_them() {
    let text = "Home = /opt/py/bin\r\nversion=3.12\n";
    assert_eq!(setting(text, "home"), Some("/opt/py/bin"));
    assert_eq!(setting(text, "version"), Some("3.12"));
    assert_eq!(setting(text, "hom"), None);
}

#[test]
fn a_file_that_never_ends_is_not_read() {
    let home = Home::new();
    assert_eq!(read_text(Path::new("/dev/zero")), None);
    let long = "x".repeat(MAX_TEXT as usize + 1);
    home.file("long", &long);
    assert_eq!(read_text(&home.at("long")), None);
}
