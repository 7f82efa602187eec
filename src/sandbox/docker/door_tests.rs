//! The door without an engine: this process plays init.

use super::*;
use bytes::Bytes;
use tokio::io::AsyncReadExt;

fn me() -> i64 {
    std::process::id().into()
}

/// As init sees it.
fn socket(door: &Door) -> PathBuf {
    door.folder().join(SOCKET)
}

fn left(init: &Path) -> usize {
    fs::read_dir(doors(init).unwrap()).unwrap().count()
}

#[test]
fn init_looks_where_it_is() {
    let looked_for = format!("{TARGET}/{SOCKET}");
    assert_eq!(looked_for, crate::sandbox::wire::DOOR);
}

#[tokio::test]
async fn init_comes_once_and_nobody_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let init = dir.path().join("init");
    let door = Door::open(&init).unwrap();
    let address = socket(&door);
    // Whoever holds the folder, as the container does, still finds nothing.
    let mounted = File::open(door.folder()).unwrap();
    let mut inside = UnixStream::connect(&address).await.unwrap();
    let mut second = UnixStream::connect(&address).await.unwrap();
    let mut outside = door.answer(me()).await.unwrap();
    let mut word = [0];
    inside.read_exact(&mut word).await.unwrap();
    assert_eq!(word, [HERE]);
    outside.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    inside.read_exact(&mut hello).await.unwrap();
    assert!(matches!(second.read(&mut word).await, Ok(0) | Err(_)));
    assert!(UnixStream::connect(&address).await.is_err());
    let through = format!("/proc/self/fd/{}/{SOCKET}", mounted.as_raw_fd());
    assert!(UnixStream::connect(through).await.is_err());
    assert_eq!(left(&init), 0);
}

#[tokio::test]
async fn whoever_is_not_init_is_shut_out() {
    let dir = tempfile::tempdir().unwrap();
    let door = Door::open(&dir.path().join("init")).unwrap();
    let mut inside = UnixStream::connect(socket(&door)).await.unwrap();
    let error = door.answer(me() + 1).await.unwrap_err();
    assert!(error.to_string().contains("not init"), "{error}");
    assert!(matches!(inside.read(&mut [0]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn the_path_may_be_longer_than_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(200));
    fs::create_dir(&deep).unwrap();
    let init = deep.join("init");
    drop(Door::open(&init).unwrap());
    assert_eq!(left(&init), 0);
}

#[tokio::test]
async fn nobody_else_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let init = dir.path().join("init");
    let _door = Door::open(&init).unwrap();
    let all = doors(&init).unwrap();
    assert_eq!(fs::metadata(&all).unwrap().mode() & 0o777, 0o700);
    fs::set_permissions(&all, Permissions::from_mode(0o755)).unwrap();
    assert!(Door::open(&init).is_err());
    assert!(sweep(&init).is_err());
}

#[tokio::test]
async fn the_sweep_takes_what_nobody_holds() {
    let dir = tempfile::tempdir().unwrap();
    let init = dir.path().join("init");
    sweep(&init).unwrap();
    let held = Door::open(&init).unwrap();
    // As a kill leaves it.
    let crashed = doors(&init).unwrap().join("crashed");
    fs::create_dir(&crashed).unwrap();
    drop(std::os::unix::net::UnixListener::bind(crashed.join(SOCKET)).unwrap());
    sweep(&init).unwrap();
    assert!(!crashed.exists());
    assert!(UnixStream::connect(socket(&held)).await.is_ok());
}

/// An attached container that says this, and then nothing for ever.
fn attached(said: &'static [&'static str]) -> Attached {
    use futures_util::StreamExt;
    let said = said.iter().map(|text| Bytes::from_static(text.as_bytes()));
    let said = futures_util::stream::iter(said).chain(futures_util::stream::pending());
    Attached::saying(said)
}

fn open() -> (tempfile::TempDir, Door) {
    let dir = tempfile::tempdir().unwrap();
    let door = Door::open(&dir.path().join("init")).unwrap();
    (dir, door)
}

#[tokio::test]
async fn an_init_that_says_it_cannot_is_heard_over_stdio() {
    let (_dir, door) = open();
    let mut ends = meet(door, attached(&["+", "over stdio"]), me())
        .await
        .unwrap();
    let mut said = [0; 10];
    ends.from_init.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"over stdio");
}

#[tokio::test(start_paused = true)]
async fn an_init_that_never_comes_is_waited_for_over_stdio() {
    let (_dir, door) = open();
    let mut ends = meet(door, attached(&[]), me()).await.unwrap();
    let hour = Duration::from_secs(3600);
    let waited = timeout(hour, ends.from_init.read(&mut [0])).await;
    assert!(waited.is_err());
}

#[tokio::test]
async fn another_first_word_on_stdio_is_nonsense() {
    let (_dir, door) = open();
    let mut ends = meet(door, attached(&["x"]), me()).await.unwrap();
    let error = ends.from_init.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_word_on_stdio_beside_the_socket_is_nonsense() {
    let (_dir, door) = open();
    let (stdout, frames) = tokio::sync::mpsc::channel(1);
    let frames = futures_util::stream::unfold(frames, |mut frames| async {
        Some((frames.recv().await?, frames))
    });
    let mut inside = UnixStream::connect(socket(&door)).await.unwrap();
    let mut ends = meet(door, Attached::saying(frames), me()).await.unwrap();
    inside.write_all(b"x").await.unwrap();
    ends.from_init.read_exact(&mut [0]).await.unwrap();
    stdout.send(Bytes::from_static(b"x")).await.unwrap();
    let error = ends.from_init.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

/// The engine is gone, init is not: it must hear of it, and its last words must not be lost.
#[tokio::test]
async fn the_end_of_stdio_hangs_up_and_loses_nothing() {
    let (_dir, door) = open();
    let mut inside = UnixStream::connect(socket(&door)).await.unwrap();
    let (stdout, mut frames) = tokio::sync::mpsc::channel::<Bytes>(1);
    let frames = futures_util::stream::poll_fn(move |context| frames.poll_recv(context));
    let mut ends = meet(door, Attached::saying(frames), me()).await.unwrap();
    drop(stdout);
    let reading = tokio::spawn(async move {
        let mut last = String::new();
        ends.from_init.read_to_string(&mut last).await.map(|_| last)
    });
    inside.read_exact(&mut [0]).await.unwrap();
    assert_eq!(inside.read(&mut [0]).await.unwrap(), 0, "it heard of it");
    inside.write_all(b"last words").await.unwrap();
    drop(inside);
    assert_eq!(reading.await.unwrap().unwrap(), "last words");
}
