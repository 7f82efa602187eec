use super::*;

struct Machine {
    dir: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl Machine {
    fn new(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            dir,
            environment: environment.iter().map(own).collect(),
        }
    }

    fn find(&self, sources: &[SourceAlias]) -> Found {
        let home = self.dir.path().join("home");
        find(
            sources,
            &Places {
                environment: &self.environment,
                config: home.join(".config"),
                home: &home,
                root: self.dir.path(),
            },
        )
    }
}

fn hosts(found: &Found) -> Vec<String> {
    found.rules.iter().map(ToString::to_string).collect()
}

#[test]
fn without_configuration_pip_is_the_public_index_and_nothing_is_told() {
    let found = Machine::new(&[], &[]).find(&[SourceAlias::Pip, SourceAlias::Uv]);
    assert_eq!(
        hosts(&found)[..2],
        ["pypi.org:443", "files.pythonhosted.org:443"]
    );
    assert!(found.env.is_empty() && found.notes.is_empty());
    assert!(found.rules.iter().all(|rule| rule.private));
}

#[test]
fn a_mirror_in_pips_files_is_taken_as_it_is_but_for_credentials() {
    let machine = Machine::new(
        &[
            (
                "etc/pip.conf",
                "[global]\nindex-url = https://old.example/simple\n",
            ),
            (
                "home/.config/pip/pip.conf",
                "[global]\n# ours\nindex_url = https://ada:secret@mirror.corp:8443/simple/\n\
                 extra-index-url =\n    http://plain.corp/simple\n    https://pypi.org/simple\n\
                 timeout = 5\n",
            ),
        ],
        &[],
    );
    let found = machine.find(&[SourceAlias::Pip]);
    assert_eq!(
        hosts(&found),
        [
            "mirror.corp:8443",
            "plain.corp:80",
            "pypi.org:443",
            "files.pythonhosted.org:443"
        ]
    );
    assert_eq!(
        found.env["PIP_INDEX_URL"],
        "https://mirror.corp:8443/simple"
    );
    assert_eq!(
        found.env["PIP_EXTRA_INDEX_URL"],
        "http://plain.corp/simple https://pypi.org/simple"
    );
    assert_eq!(found.env["PIP_TRUSTED_HOST"], "plain.corp");
    assert!(found.notes[0].contains("credentials for mirror.corp"));
    assert!(!format!("{found:?}").contains("secret"));
}

#[test]
fn a_variable_wins_over_files() {
    let machine = Machine::new(
        &[(
            "etc/pip.conf",
            "[global]\nindex-url = https://old.example/simple\n",
        )],
        &[("PIP_INDEX_URL", "http://127.0.0.1:3141/root/pypi")],
    );
    let found = machine.find(&[SourceAlias::Pip]);
    assert_eq!(hosts(&found), ["127.0.0.1:3141"]);
    assert!(found.notes[0].contains("the sandbox itself"));
}

#[test]
fn uv_is_read_in_its_old_and_its_new_words() {
    let machine = Machine::new(
        &[(
            "home/.config/uv/uv.toml",
            "extra-index-url = [\"https://a.corp/simple\"]\n[[index]]\nurl = \"https://b.corp/simple\"\n\
             default = true\n[[index]]\nname = \"c\"\nurl = \"https://c.corp/simple\"\n",
        )],
        &[("UV_INDEX", "torch=https://download.pytorch.org/whl/cpu")],
    );
    let found = machine.find(&[SourceAlias::Uv]);
    assert_eq!(
        hosts(&found),
        [
            "b.corp:443",
            "a.corp:443",
            "c.corp:443",
            "download.pytorch.org:443"
        ]
    );
    assert_eq!(found.env["UV_DEFAULT_INDEX"], "https://b.corp/simple");
}

#[test]
fn the_other_tools_are_read_in_their_own_ways() {
    let machine = Machine::new(
        &[
            (
                "home/.condarc",
                "channel_alias: https://conda.corp/  # ours\nchannels:\n  - \"https://conda.corp/forge\"\n",
            ),
            (
                "etc/apt/sources.list",
                "# deb http://commented.example/ x\ndeb [signed-by=/k] http://deb.example/debian bookworm main\n",
            ),
            (
                "etc/apt/sources.list.d/x.sources",
                "Types: deb\nURIs: https://sec.example/debian\n",
            ),
        ],
        &[("HF_ENDPOINT", "https://hub.corp")],
    );
    assert_eq!(
        hosts(&machine.find(&[SourceAlias::Conda])),
        ["conda.corp:443"]
    );
    assert_eq!(
        hosts(&machine.find(&[SourceAlias::Apt])),
        ["deb.example:80", "sec.example:443"]
    );
    let hub = machine.find(&[SourceAlias::Hf]);
    assert_eq!(hosts(&hub)[0], "hub.corp:443");
    assert_eq!(hub.env["HF_ENDPOINT"], "https://hub.corp");
    let plain = Machine::new(&[], &[]);
    assert_eq!(
        hosts(&plain.find(&[SourceAlias::Hf]))[0],
        "huggingface.co:443"
    );
    assert_eq!(
        hosts(&plain.find(&[SourceAlias::Github]))[0],
        "github.com:443"
    );
    assert_eq!(
        hosts(&plain.find(&[SourceAlias::Conda]))[0],
        "conda.anaconda.org:443"
    );
}

#[test]
fn what_is_no_host_is_said_and_left_out() {
    let machine = Machine::new(&[], &[("PIP_INDEX_URL", "file:///srv/index")]);
    let found = machine.find(&[SourceAlias::Pip]);
    assert!(found.rules.is_empty() && found.env.is_empty());
    assert!(found.notes[0].contains("file:///srv/index"));
}

#[test]
fn the_authorities_that_pip_trusts_are_found_and_one_that_is_no_file_is_said() {
    let machine = Machine::new(&[("ca.pem", "x"), ("other.pem", "x")], &[]);
    let at = |name: &str| machine.dir.path().join(name);
    std::fs::create_dir_all(at("etc")).unwrap();
    let text = format!("[global]\ncert = {}\n", at("ca.pem").display());
    std::fs::write(at("etc/pip.conf"), text).unwrap();
    assert_eq!(machine.find(&[SourceAlias::Pip]).bundles, [at("ca.pem")]);
    assert!(machine.find(&[SourceAlias::Uv]).bundles.is_empty());
    let with = |cert: &Path| {
        let mut places = machine.environment.clone();
        places.insert("PIP_CERT".to_owned(), cert.display().to_string());
        Machine {
            dir: tempfile::tempdir().unwrap(),
            environment: places,
        }
        .find(&[SourceAlias::Pip])
    };
    assert_eq!(with(&at("other.pem")).bundles, [at("other.pem")]);
    let found = with(&at("none.pem"));
    assert!(found.bundles.is_empty());
    assert!(found.notes[0].contains("no file"), "{:?}", found.notes);
}
