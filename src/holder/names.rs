//! The names of boxes: `FUMEHOOD_HOME/boxes/NAME.json` says which run a name stands for.
//!
//! ```text
//!   register ──▶ named ──release──▶ (nothing)
//!                  └ the run's record is not held any more: its holder died ──▶ swept by the next look
//! ```
//!
//! Whether a box lives is the kernel's word: its holder has the lock on the run's record.

use super::error::HolderError;
use crate::protocol::ids::RunId;
use crate::record::{RunStore, StoredRun, new_run_id};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FOLDER: &str = "boxes";
const MAX_NAME: usize = 40;

/// A box's name; a file name too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoxName(String);

impl BoxName {
    pub fn parse(given: &str) -> Result<Self, HolderError> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = given.len() <= MAX_NAME
            && given.bytes().next().is_some_and(letter)
            && given
                .bytes()
                .all(|byte| letter(byte) || byte == b'-' || byte == b'_');
        match fits {
            true => Ok(Self(given.to_owned())),
            false => Err(HolderError::Name {
                given: given.to_owned(),
            }),
        }
    }

    /// For a box that was given none: the end of an id, which is random.
    pub fn fresh() -> Self {
        let id = new_run_id().to_string();
        Self(format!("box-{}", &id[id.len().saturating_sub(6)..]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is in a name's file.
#[derive(Debug, Serialize, Deserialize)]
struct Named {
    run: RunId,
}

/// The boxes of a user, by name.
#[derive(Debug, Default)]
pub struct Listed {
    pub living: Vec<(BoxName, StoredRun)>,
    /// Their holders died.
    pub gone: Vec<BoxName>,
}

/// All boxes of a user.
pub struct Boxes {
    dir: PathBuf,
    runs: RunStore,
}

impl Boxes {
    /// `home` is `FUMEHOOD_HOME`.
    pub fn open(home: &Path) -> Self {
        Self {
            dir: home.join(FOLDER),
            runs: RunStore::open(home),
        }
    }

    /// Refuses a name that a living box has.
    pub fn check_free(&self, name: &BoxName) -> Result<(), HolderError> {
        match self.look(name)? {
            Some((run, true)) => Err(HolderError::Taken {
                name: name.as_str().to_owned(),
                run,
            }),
            _ => Ok(()),
        }
    }

    /// Gives the name to a run that this process holds.
    pub fn register(&self, name: &BoxName, run: &RunId) -> Result<(), HolderError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(HolderError::io("create", &self.dir))?;
        let _gate = self.gate()?;
        self.check_free(name)?;
        let path = self.path(name);
        let written = serde_json::to_vec(&Named { run: run.clone() })
            .map_err(io::Error::from)
            .and_then(|bytes| {
                let fresh = self.dir.join(format!(".{}.new", name.as_str()));
                let mut file = private(&fresh)?;
                file.set_len(0)?;
                file.write_all(&bytes)?;
                fs::rename(&fresh, &path)
            });
        written.map_err(HolderError::io("write", &path))
    }

    /// Takes the name back, if it is still that run's.
    pub fn release(&self, name: &BoxName, run: &RunId) -> Result<(), HolderError> {
        let _gate = self.gate()?;
        match self.read(name)? {
            Some(named) if named.run == *run => self.remove(name),
            _ => Ok(()),
        }
    }

    /// The run of a living box. A name whose holder died is swept, and said to be gone.
    pub fn find(&self, name: &BoxName) -> Result<StoredRun, HolderError> {
        let shown = name.as_str().to_owned();
        match self.look(name)? {
            Some((run, true)) => self
                .runs
                .find(run.as_str())
                .map_err(|_| HolderError::NoSuchBox { name: shown }),
            Some((run, false)) => Err(HolderError::Gone { name: shown, run }),
            None => Err(HolderError::NoSuchBox { name: shown }),
        }
    }

    /// What there is. The names of boxes that are gone are swept.
    pub fn list(&self) -> Result<Listed, HolderError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listed::default()),
            entries => entries.map_err(HolderError::io("read", &self.dir))?,
        };
        let mut names: Vec<BoxName> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name();
                BoxName::parse(name.to_str()?.strip_suffix(".json")?).ok()
            })
            .collect();
        names.sort();
        let mut listed = Listed::default();
        for name in names {
            match self.find(&name) {
                Ok(run) => listed.living.push((name, run)),
                Err(HolderError::Gone { run, .. }) => {
                    self.release(&name, &run)?;
                    listed.gone.push(name);
                }
                // Closed meanwhile.
                Err(_) => {}
            }
        }
        Ok(listed)
    }

    /// The run of a name, and whether its holder lives.
    fn look(&self, name: &BoxName) -> Result<Option<(RunId, bool)>, HolderError> {
        let Some(named) = self.read(name)? else {
            return Ok(None);
        };
        let living = self
            .runs
            .find(named.run.as_str())
            .and_then(|run| run.is_running())
            .unwrap_or(false);
        Ok(Some((named.run, living)))
    }

    fn read(&self, name: &BoxName) -> Result<Option<Named>, HolderError> {
        let path = self.path(name);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read
                // One that a crash of the machine left empty or torn names no run.
                .map(|bytes| serde_json::from_slice(&bytes).ok())
                .map_err(HolderError::io("read", &path)),
        }
    }

    fn remove(&self, name: &BoxName) -> Result<(), HolderError> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(HolderError::io("remove", &path))
    }

    fn path(&self, name: &BoxName) -> PathBuf {
        self.dir.join(format!("{}.json", name.as_str()))
    }

    /// Held while a name changes hands.
    fn gate(&self) -> Result<File, HolderError> {
        let path = self.dir.join("gate");
        private(&path)
            .and_then(|gate| gate.lock().map(|()| gate))
            .map_err(HolderError::io("lock", &path))
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_plain_file_name() {
        for good in ["a", "train-2", "0_x", &"n".repeat(40)] {
            assert!(BoxName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "A",
            "a/b",
            "a.b",
            "a b",
            "ü",
            &"n".repeat(41),
        ] {
            assert!(BoxName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_a_crash_left_torn_is_free() {
        let home = tempfile::tempdir().unwrap();
        let (boxes, name) = (Boxes::open(home.path()), BoxName::parse("one").unwrap());
        let held = RunStore::open(home.path()).create(&new_run_id()).unwrap();
        for torn in ["", "{\"run\":"] {
            fs::create_dir_all(&boxes.dir).unwrap();
            fs::write(boxes.path(&name), torn).unwrap();
            assert!(matches!(
                boxes.find(&name),
                Err(HolderError::NoSuchBox { .. })
            ));
            boxes.register(&name, held.run()).unwrap();
            assert_eq!(boxes.find(&name).unwrap().id(), held.run());
        }
    }

    #[test]
    fn a_name_is_one_living_boxs_and_free_again_when_its_holder_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let (boxes, name) = (Boxes::open(home.path()), BoxName::parse("one").unwrap());
        let held = RunStore::open(home.path()).create(&new_run_id()).unwrap();
        boxes.register(&name, held.run()).unwrap();
        assert!(matches!(
            boxes.register(&name, &new_run_id()),
            Err(HolderError::Taken { run, .. }) if run == *held.run()
        ));
        assert_eq!(boxes.find(&name).unwrap().id(), held.run());
        let run = held.run().clone();
        // As when its process dies.
        drop(held);
        assert!(matches!(boxes.find(&name), Err(HolderError::Gone { .. })));
        let next = RunStore::open(home.path()).create(&new_run_id()).unwrap();
        boxes.register(&name, next.run()).unwrap();
        // What the dead one would have taken back is another's by now.
        boxes.release(&name, &run).unwrap();
        assert_eq!(boxes.find(&name).unwrap().id(), next.run());
        drop(next);
        let Listed { living, gone } = boxes.list().unwrap();
        assert!(living.is_empty());
        assert_eq!(gone.first(), Some(&name));
        assert!(matches!(
            boxes.find(&name),
            Err(HolderError::NoSuchBox { .. })
        ));
    }
}
