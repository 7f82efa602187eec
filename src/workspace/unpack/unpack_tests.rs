//! Archives that want out, want to fill the disk, or want to lie: each by its name.

use super::*;
use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tar::EntryType as T;
use tempfile::TempDir;

const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    entries: 100,
};

/// An archive, entry by entry, with whatever bytes for a name.
#[derive(Default)]
struct Pack(Vec<u8>);

impl Pack {
    fn raw(mut self, (name, kind): (&[u8], T), size: u64, (target, mode): (&[u8], u32)) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..target.len()].copy_from_slice(target);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, body: &[u8]) -> Self {
        self.raw(
            (name.as_bytes(), T::Regular),
            body.len() as u64,
            (b"", 0o644),
        )
        .body(body)
    }

    fn folder(self, name: &str) -> Self {
        self.raw((name.as_bytes(), T::Directory), 0, (b"", 0o755))
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.raw((name.as_bytes(), T::Symlink), 0, (target.as_bytes(), 0o777))
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw((name.as_bytes(), T::Link), 0, (target.as_bytes(), 0o644))
    }

    /// The word before an entry, as GNU tar (`L`, `K`) and pax (`x`, `g`) write it.
    fn word(self, kind: T, body: &[u8]) -> Self {
        self.raw((b"././@LongLink", kind), body.len() as u64, (b"", 0o644))
            .body(body)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn pack() -> Pack {
    Pack::default()
}

/// A folder beside a secret, and what was unpacked in it.
struct Tried {
    dir: TempDir,
    result: Result<Unpacked, WorkspaceError>,
}

fn tried(shape: Shape, bounds: Bounds, archives: &[Vec<u8>]) -> Tried {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    let root = File::open(dir.path().join("in")).unwrap();
    let ground = Ground::new(root.into(), shape, None);
    let mut extraction = Extraction::on(ground, shape, bounds);
    let all = archives.iter().try_for_each(|archive| {
        extraction.add(archive.as_slice(), &mut |_| ControlFlow::Continue(()))
    });
    Tried {
        dir,
        result: all.map(|()| extraction.finish()),
    }
}

fn files(archive: Vec<u8>) -> Tried {
    tried(Shape::Files, BOUNDS, &[archive])
}

fn layers(archives: &[Vec<u8>]) -> Tried {
    tried(Shape::Layers, BOUNDS, archives)
}

impl Tried {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn fault(&self) -> Fault {
        match &self.result {
            Err(WorkspaceError::Archive { fault, .. }) => *fault,
            other => panic!("{other:?}"),
        }
    }

    fn done(&self) -> &Unpacked {
        self.result.as_ref().unwrap()
    }

    /// Nothing has come to be beside the folder, and the secret is what it was.
    fn held(&self) {
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["in", "secret"]);
        let secret = self.dir.path().join("secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "outside");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn files_and_folders_come_out_as_they_went_in() {
    let archive = pack()
        .folder("./")
        .folder("./src/")
        .file("./src/a.py", b"print(1)\n")
        .file("made/on/the/way.txt", b"x")
        .end();
    for archive in [gzip(&archive), archive] {
        let tried = files(archive);
        assert_eq!(tried.text("src/a.py"), "print(1)\n");
        assert_eq!(tried.text("made/on/the/way.txt"), "x");
        let found = fs::metadata(tried.at("src/a.py")).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, 0o644);
        assert_eq!(found.mtime(), 1_700_000_000);
        let done = tried.done();
        assert_eq!((done.files, done.folders, done.bytes), (2, 1, 10));
    }
}

#[test]
fn an_absolute_name_is_refused() {
    for name in ["/tmp/x", "//x"] {
        let tried = files(pack().file(name, b"x").end());
        assert_eq!(tried.fault(), Fault::Absolute, "{name}");
        tried.held();
    }
}

#[test]
fn a_name_that_leads_upward_is_refused() {
    for name in ["../secret", "a/../../secret", "a/..", "..", "./.."] {
        for shape in [Shape::Files, Shape::Layers] {
            let tried = tried(shape, BOUNDS, &[pack().file(name, b"x").end()]);
            assert_eq!(tried.fault(), Fault::Upward, "{name}");
            tried.held();
        }
    }
}

#[test]
fn a_long_name_that_leads_upward_is_refused() {
    let long = format!("{}/../../secret", "a/".repeat(80));
    let gnu = pack()
        .word(T::GNULongName, long.as_bytes())
        .file("harmless", b"x")
        .end();
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        format!("{}{rest}", rest.len() + 2)
    };
    let pax = pack()
        .word(T::XHeader, record("path", "../secret").as_bytes())
        .file("harmless", b"x")
        .end();
    for archive in [gnu, pax] {
        let tried = files(archive);
        assert_eq!(tried.fault(), Fault::Upward);
        tried.held();
    }
}

#[test]
fn long_names_are_taken_whole() {
    let long = format!("{}/x.py", "n".repeat(200));
    let tried = files(
        pack()
            .word(T::GNULongName, long.as_bytes())
            .file("cut", b"x")
            .end(),
    );
    assert_eq!(tried.text(&long), "x");
}

#[test]
fn a_workspace_gets_no_link_and_is_told() {
    let tried = files(
        pack()
            .link("out", "/etc/passwd")
            .file("a", b"a")
            .hard_link("b", "a")
            .end(),
    );
    let done = tried.done();
    assert_eq!(done.left_out, 2);
    assert_eq!(
        done.named,
        [
            (PathBuf::from("out"), Left::Link),
            (PathBuf::from("b"), Left::HardLink)
        ]
    );
    assert!(fs::symlink_metadata(tried.at("out")).is_err());
    assert!(fs::symlink_metadata(tried.at("b")).is_err());
}

#[test]
fn a_file_beneath_a_link_is_refused() {
    let twice = pack().link("l", "..").file("l/secret", b"x").end();
    let tried_once = layers(&[twice]);
    assert_eq!(tried_once.fault(), Fault::NotAFolder);
    tried_once.held();
    let chain = [
        pack().folder("a").link("a/l", "../..").end(),
        pack().file("a/l/secret", b"x").end(),
    ];
    let tried = layers(&chain);
    assert_eq!(tried.fault(), Fault::NotAFolder);
    tried.held();
}

#[test]
fn a_file_over_a_link_replaces_the_link() {
    let tried = layers(&[
        pack().link("l", "../secret").end(),
        pack().file("l", b"mine").end(),
    ]);
    tried.done();
    assert_eq!(tried.text("l"), "mine");
    tried.held();
}

#[test]
fn a_folder_over_a_link_does_not_enter_it() {
    let tried = layers(&[
        pack().link("l", "..").end(),
        pack().folder("l").file("l/new", b"x").end(),
    ]);
    tried.done();
    assert_eq!(tried.text("l/new"), "x");
    tried.held();
}

#[test]
fn a_second_name_of_a_foreign_file_is_refused() {
    for target in ["../secret", "/etc/passwd"] {
        let tried = layers(&[pack().hard_link("mine", target).end()]);
        assert!(matches!(tried.fault(), Fault::Upward | Fault::Absolute));
        tried.held();
    }
    let nothing = layers(&[pack().hard_link("mine", "gone").end()]);
    assert_eq!(nothing.fault(), Fault::Foreign);
    let through = layers(&[pack().link("l", "..").hard_link("mine", "l/secret").end()]);
    assert_eq!(through.fault(), Fault::NotAFolder);
    through.held();
    let of_a_link = layers(&[pack().link("l", "../secret").hard_link("mine", "l").end()]);
    assert_eq!(of_a_link.fault(), Fault::Foreign);
    of_a_link.held();
}

#[test]
fn a_second_name_of_what_was_there_before_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("before"), "not of the archive").unwrap();
    let root = File::open(dir.path()).unwrap();
    let ground = Ground::new(root.into(), Shape::Layers, None);
    let mut extraction = Extraction::on(ground, Shape::Layers, BOUNDS);
    let archive = pack().hard_link("mine", "before").end();
    let error = extraction
        .add(archive.as_slice(), &mut |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(error.to_string().contains("did not bring"), "{error}");
    assert_eq!(fs::metadata(dir.path().join("before")).unwrap().nlink(), 1);
}

#[test]
fn a_second_name_of_an_own_file_is_the_same_file() {
    let tried = layers(&[pack().file("a", b"x").hard_link("b", "./a").end()]);
    tried.done();
    let inode = |name| fs::metadata(tried.at(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
}

#[test]
fn devices_and_pipes_are_left_out() {
    let archive = pack()
        .raw((b"dev/sda", T::Block), 0, (b"", 0o666))
        .raw((b"dev/mem", T::Char), 0, (b"", 0o666))
        .raw((b"pipe", T::Fifo), 0, (b"", 0o666))
        .raw((b"odd", T::new(b'Z')), 0, (b"", 0o666))
        .end();
    for shape in [Shape::Files, Shape::Layers] {
        let tried = tried(shape, BOUNDS, std::slice::from_ref(&archive));
        assert_eq!(tried.done().left_out, 4);
        assert_eq!(fs::read_dir(tried.at("")).unwrap().count(), 0);
    }
}

#[test]
fn setuid_and_what_others_may_write_is_taken_off() {
    let archive = pack()
        .raw((b"suid", T::Regular), 0, (b"", 0o6777))
        .raw((b"sticky", T::Directory), 0, (b"", 0o7777))
        .raw((b"closed", T::Directory), 0, (b"", 0))
        .file("closed/file", b"x")
        .end();
    for shape in [Shape::Files, Shape::Layers] {
        let tried = tried(shape, BOUNDS, std::slice::from_ref(&archive));
        tried.done();
        let mode = |name| fs::metadata(tried.at(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("suid"), mode("sticky")), (0o755, 0o755));
        assert_eq!(mode("closed"), 0o700);
    }
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let twice = pack().file("a", b"shown").file("a", b"run").end();
    for shape in [Shape::Files, Shape::Layers] {
        let tried = tried(shape, BOUNDS, std::slice::from_ref(&twice));
        assert_eq!(tried.fault(), Fault::Duplicate);
        assert_eq!(tried.text("a"), "shown");
    }
    let folder_over_file = pack().file("a", b"x").folder("a").end();
    assert_eq!(files(folder_over_file).fault(), Fault::Duplicate);
    let beneath_a_file = pack().file("a", b"x").file("a/b", b"x").end();
    assert_eq!(files(beneath_a_file).fault(), Fault::NotAFolder);
}

#[test]
fn names_that_differ_in_case_or_look_alike_stay_two() {
    let archive = pack()
        .file("Train.py", b"1")
        .file("train.py", b"2")
        .file("tr\u{430}in.py", b"3")
        .end();
    let tried = files(archive);
    assert_eq!(tried.done().files, 3);
    assert_eq!(tried.text("tr\u{430}in.py"), "3");
}

#[test]
fn names_that_are_no_text_are_taken_as_bytes() {
    let archive = pack()
        .raw((b"a\xff\x1b[2J", T::Regular), 0, (b"", 0o644))
        .end();
    let tried = files(archive);
    tried.done();
    let name = OsStr::from_bytes(b"a\xff\x1b[2J");
    assert!(tried.at("").join(name).exists());
}

#[test]
fn an_error_shows_the_name_without_its_escapes() {
    let archive = pack().raw((b"/\x1b[2J", T::Regular), 0, (b"", 0o644)).end();
    let said = files(archive).result.unwrap_err().to_string();
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn what_others_act_upon_is_left_out_of_a_workspace() {
    let tried = files(
        pack()
            .file(".git/hooks/post-checkout", b"#!/bin/sh")
            .file("a/.envrc", b"x")
            .end(),
    );
    assert_eq!(tried.done().left_out, 2);
    assert!(!tried.at(".git").exists() && !tried.at("a").exists());
}

#[test]
fn folders_nested_too_deep_are_refused() {
    let deep = |count| format!("{}f", "d/".repeat(count));
    assert_eq!(
        files(pack().file(&deep(32), b"").end()).fault(),
        Fault::TooDeep
    );
    files(pack().file(&deep(31), b"").end()).done();
    assert_eq!(
        layers(&[pack()
            .word(T::GNULongName, deep(64).as_bytes())
            .file("x", b"")
            .end()])
        .fault(),
        Fault::TooDeep
    );
}

#[test]
fn a_name_too_long_is_refused() {
    let long = "n".repeat(256);
    let archive = pack()
        .word(T::GNULongName, long.as_bytes())
        .file("x", b"")
        .end();
    assert_eq!(files(archive).fault(), Fault::NameTooLong);
    let path = "n/".repeat(2100);
    let archive = pack()
        .word(T::GNULongName, path.as_bytes())
        .file("x", b"")
        .end();
    assert_eq!(files(archive).fault(), Fault::PathTooLong);
}

#[test]
fn a_header_without_end_is_refused_before_it_fills_the_memory() {
    // Says 8 GiB, and there are 4 MiB of it.
    for kind in [T::GNULongName, T::GNULongLink, T::XHeader] {
        let archive = pack()
            .raw((b"long", kind), 8 << 30, (b"", 0))
            .body(&vec![b'n'; 4 << 20])
            .end();
        let many = Bounds {
            bytes: 1 << 40,
            entries: 100,
        };
        let tried = tried(Shape::Files, many, &[archive]);
        assert_eq!(tried.fault(), Fault::HeaderTooLong, "{kind:?}");
    }
}

#[test]
fn too_many_entries_are_refused() {
    let mut many = pack();
    for n in 0..101 {
        many = many.folder(&format!("d{n}"));
    }
    assert_eq!(files(many.end()).fault(), Fault::TooManyEntries(100));
}

#[test]
fn too_many_bytes_are_refused_whatever_one_header_says() {
    let archive = pack()
        .file("a", &vec![1; 700 << 10])
        .file("b", &vec![2; 700 << 10])
        .end();
    let tried = files(archive);
    assert_eq!(tried.fault(), Fault::TooManyBytes(1 << 20));
    assert!(!tried.at("b").exists());
    // A tebibyte, by its header.
    let archive = pack()
        .raw((b"huge", T::Regular), 1 << 40, (b"", 0o644))
        .end();
    assert_eq!(files(archive).fault(), Fault::TooManyBytes(1 << 20));
}

#[test]
fn a_bomb_is_refused_by_what_it_comes_to() {
    let zeros = gzip(&pack().file("zeros", &vec![0; 100 << 20]).end());
    let bounds = Bounds {
        bytes: 1 << 40,
        entries: 10,
    };
    let zeros = tried(Shape::Files, bounds, &[zeros]);
    assert_eq!(zeros.fault(), Fault::Ratio(meter::RATIO));
    // Of what nothing is made.
    let body = vec![0; 100 << 20];
    let skipped = pack()
        .raw((b"pipe", T::Fifo), body.len() as u64, (b"", 0o644))
        .body(&body)
        .end();
    let skipped = tried(Shape::Files, bounds, &[gzip(&skipped)]);
    assert_eq!(skipped.fault(), Fault::Ratio(meter::RATIO));
}

#[test]
fn a_sparse_file_is_counted_with_its_holes() {
    let mut header = tar::Header::new_gnu();
    header.set_path("sparse").unwrap();
    header.set_entry_type(T::GNUSparse);
    header.set_mode(0o644);
    header.set_size(512);
    {
        let gnu = header.as_gnu_mut().unwrap();
        let octal = |field: &mut [u8; 12], value: u64| {
            field.copy_from_slice(format!("{value:011o}\0").as_bytes());
        };
        octal(&mut gnu.sparse[0].offset, 300 << 20);
        octal(&mut gnu.sparse[0].numbytes, 512);
        octal(&mut gnu.realsize, (300 << 20) + 512);
    }
    header.set_cksum();
    let archive = Pack(header.as_bytes().to_vec()).body(&[7; 512]).end();
    assert_eq!(files(archive.clone()).fault(), Fault::TooManyBytes(1 << 20));
    let bounds = Bounds {
        bytes: 1 << 40,
        entries: 10,
    };
    let tried = tried(Shape::Files, bounds, &[archive]);
    assert_eq!(tried.fault(), Fault::Ratio(meter::RATIO));
}

#[test]
fn a_sparse_file_in_the_newer_form_is_refused_by_name() {
    let record = "22 GNU.sparse.major=1\n";
    let archive = pack()
        .word(T::XHeader, record.as_bytes())
        .file("sparse", b"x")
        .end();
    assert_eq!(files(archive).fault(), Fault::Sparse);
}

#[test]
fn an_archive_that_ends_early_is_refused() {
    let whole = pack().file("a", &vec![1; 10_000]).end();
    let cut = whole[..6000].to_vec();
    assert_eq!(files(cut).fault(), Fault::Truncated);
    let packed = gzip(&whole);
    let cut = files(packed[..packed.len() - 4].to_vec());
    assert!(matches!(cut.fault(), Fault::Truncated | Fault::Damaged));
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    assert_eq!(files(vec![b'x'; 4096]).fault(), Fault::Damaged);
    for (start, how) in [
        (&b"PK\x03\x04"[..], "zip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh9", "bzip2"),
    ] {
        assert_eq!(files(start.to_vec()).fault(), Fault::Packed(how));
    }
}

#[test]
fn words_about_the_whole_archive_name_nothing() {
    let archive = pack()
        .word(T::XGlobalHeader, b"13 comment=x\n")
        .file("a", b"x")
        .end();
    let tried = files(archive);
    assert_eq!((tried.done().files, tried.done().left_out), (1, 0));
}

#[test]
fn a_whiteout_takes_away_what_an_earlier_layer_brought() {
    let below = pack()
        .file("a", b"x")
        .file("d/e/f", b"x")
        .file("stays", b"x")
        .end();
    let above = pack().file(".wh.a", b"").file(".wh.d", b"").end();
    let tried = layers(&[below, above]);
    tried.done();
    assert!(!tried.at("a").exists() && !tried.at("d").exists());
    assert_eq!(tried.text("stays"), "x");
}

#[test]
fn an_opaque_folder_hides_earlier_layers_and_not_its_own() {
    let below = pack().file("d/old", b"x").file("d/sub/old", b"x").end();
    // Its own files stand before and behind the word.
    let above = pack()
        .file("d/sub/new", b"x")
        .file("d/.wh..wh..opq", b"")
        .file("d/new", b"x")
        .end();
    let tried = layers(&[below, above]);
    tried.done();
    assert!(!tried.at("d/old").exists() && !tried.at("d/sub/old").exists());
    assert_eq!(tried.text("d/sub/new"), "x");
    assert_eq!(tried.text("d/new"), "x");
}

#[test]
fn a_whiteout_reaches_nothing_outside() {
    for name in [".wh...", ".wh..", "../.wh.secret", "l/.wh.secret"] {
        let archive = pack().link("l", "..").file(name, b"").end();
        let tried = layers(&[archive]);
        assert!(
            matches!(tried.fault(), Fault::Upward | Fault::NotAFolder),
            "{name}"
        );
        tried.held();
    }
    let opaque = layers(&[pack().link("l", "..").file("l/.wh..wh..opq", b"").end()]);
    assert_eq!(opaque.fault(), Fault::NotAFolder);
    opaque.held();
}

#[test]
fn an_upper_file_does_not_write_into_the_second_name_of_a_lower_one() {
    let below = pack().file("a", b"lower").hard_link("b", "a").end();
    let tried = layers(&[below, pack().file("b", b"upper").end()]);
    tried.done();
    assert_eq!(tried.text("a"), "lower");
    assert_eq!(tried.text("b"), "upper");
}

#[test]
fn the_tap_sees_every_byte_that_was_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let archive = pack().file("a", b"x").end();
    let mut seen = Vec::new();
    let mut extraction = Extraction::layers(&dir.path().join("root"), BOUNDS).unwrap();
    let packed = gzip(&archive);
    extraction
        .add(packed.as_slice(), &mut |part| {
            seen.extend_from_slice(part);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, archive);
}

mod any {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn whatever_the_names_nothing_is_made_outside(
            entries in prop::collection::vec(
                (r"(/|\.|\.\.|a|b|l|\.wh\.|/\.\./){1,6}", 0u8..4, r"(/|\.\.|a|b|l|secret){0,4}"),
                0..12,
            ),
            in_layers: bool,
        ) {
            let mut archive = pack();
            for (name, kind, target) in &entries {
                archive = match kind {
                    0 => archive.file(name, b"x"),
                    1 => archive.folder(name),
                    2 => archive.link(name, target),
                    _ => archive.hard_link(name, target),
                };
            }
            let shape = if in_layers { Shape::Layers } else { Shape::Files };
            tried(shape, BOUNDS, &[archive.end()]).held();
        }
    }
}

#[test]
fn who_asked_for_it_can_end_it_at_any_byte() {
    let archive = Pack::default()
        .file("a", b"first")
        .file("b", b"second")
        .end();
    let dir = tempfile::tempdir().unwrap();
    let mut extraction = Extraction::layers(&dir.path().join("root"), BOUNDS).unwrap();
    let mut left = 600usize;
    let error = extraction.add(archive.as_slice(), &mut |part| {
        left = left.saturating_sub(part.len());
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    let error = error.unwrap_err();
    assert!(
        matches!(
            &error,
            WorkspaceError::Archive {
                fault: Fault::Interrupted,
                ..
            }
        ),
        "{error}"
    );
    assert!(!dir.path().join("root/b").exists());
}
