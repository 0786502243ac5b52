use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use proptest::prelude::*;

use super::*;

fn saved(directory: &Path) -> Vec<u8> {
    fs::read(directory.join(STATE)).unwrap()
}

fn snapshot(numbers: &[u32]) -> Snapshot {
    Snapshot::new().with("numbers", 1, numbers.to_vec()).with("word", 7, "w\n".to_owned())
}

#[test]
fn what_is_saved_is_restored_and_readable_by_the_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/state");
    let state = StateDir::open(&path).unwrap();
    assert_eq!(state.restore().names().count(), 0, "nothing yet");
    for numbers in [vec![1, 2], vec![3]] {
        state.saver().save(snapshot(&numbers)).unwrap();
        let mut sections = state.restore();
        assert_eq!(sections.names().collect::<Vec<_>>(), ["numbers", "word"]);
        assert_eq!(sections.take::<Vec<u32>>("numbers", 1), Some(numbers));
        assert_eq!(sections.take::<String>("word", 7).as_deref(), Some("w\n"));
        assert_eq!(sections.names().count(), 0);
    }
    let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode(STATE), mode(LOCK)), (0o700, 0o600, 0o600));
    let mut left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [LOCK, STATE], "no temporary file is left");
}

#[test]
fn sections_of_another_version_or_shape_are_dropped_alone() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    state.saver().save(snapshot(&[5])).unwrap();
    let mut sections = state.restore();
    assert_eq!(sections.take::<Vec<u32>>("numbers", 2), None);
    assert_eq!(sections.take::<u32>("word", 7), None);
    assert_eq!(sections.take::<u32>("none", 1), None);
    assert_eq!(state.restore().take::<Vec<u32>>("numbers", 1), Some(vec![5]), "the file itself is whole");
}

#[test]
fn one_auditor_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let first = StateDir::open(parent.path()).unwrap();
    let error = StateDir::open(parent.path()).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(error.contains(&format!("another auditor uses it (pid {pid}); stop that one")), "{error}");
    drop(first);
    StateDir::open(parent.path()).unwrap();
}

#[test]
fn a_place_that_is_none_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let error = StateDir::open(&file.join("x")).unwrap_err().to_string();
    assert!(error.contains("file/x: cannot make it: not a directory; name a directory"), "{error}");
}

/// Starts with `bytes` in the file: nothing is restored, and the file is set aside as it was.
fn refused(bytes: &[u8]) {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    let path = parent.path().join(STATE);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(state.restore().names().count(), 0, "{:?}", String::from_utf8_lossy(bytes));
    assert!(!path.exists());
    assert_eq!(fs::read(parent.path().join(SET_ASIDE)).unwrap(), bytes);
    state.saver().save(snapshot(&[1])).unwrap();
    assert_eq!(state.restore().names().count(), 2, "the next save is as if nothing had been");
}

#[test]
fn a_file_cut_at_any_length_is_set_aside() {
    let whole = snapshot(&[1, 2, 3]).into_bytes().unwrap();
    assert!(Sections::parse(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(Sections::parse(&whole[..length]).is_err(), "cut to {length} of {}", whole.len());
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length]);
    }
}

#[test]
fn foreign_newer_and_lying_files_are_set_aside() {
    let text = String::from_utf8(snapshot(&[1]).into_bytes().unwrap()).unwrap();
    refused(b"hello\n");
    refused(b"{}\n");
    refused(text.replace(FORMAT_NAME, "another").as_bytes());
    refused(text.replace("\"version\":1,\"saved\"", "\"version\":2,\"saved\"").as_bytes());
    refused(text.replace("\"bytes\":4", "\"bytes\":400").as_bytes());
    refused(text.replace("[1]", "[2]").as_bytes());
    refused(&[b'x'; 100_000]);
}

const FORMAT_NAME: &str = "zero-trust-auditor-state";

#[test]
fn a_file_of_others_or_a_link_is_not_followed() {
    let parent = tempfile::tempdir().unwrap();
    let elsewhere = parent.path().join("elsewhere");
    fs::write(&elsewhere, snapshot(&[1]).into_bytes().unwrap()).unwrap();
    let path = parent.path().join("state");
    let state = StateDir::open(&path).unwrap();
    symlink(&elsewhere, path.join(STATE)).unwrap();
    symlink(&elsewhere, path.join(TEMPORARY)).unwrap();
    assert_eq!(state.restore().names().count(), 0, "a link is not followed");
    let before = fs::read(&elsewhere).unwrap();
    state.saver().save(snapshot(&[9])).unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), before, "nothing is written through a link");
    fs::set_permissions(path.join(STATE), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(state.restore().names().count(), 0, "others could have written it");
}

#[test]
fn a_crash_while_saving_leaves_the_old_state() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    state.saver().save(snapshot(&[1])).unwrap();
    let old = saved(parent.path());
    let new = snapshot(&[2]).into_bytes().unwrap();
    for length in [0, 10, new.len()] {
        fs::write(parent.path().join(TEMPORARY), &new[..length]).unwrap();
        assert_eq!(state.restore().take::<Vec<u32>>("numbers", 1), Some(vec![1]), "{length}");
    }
    assert_eq!(saved(parent.path()), old);
    state.saver().save(snapshot(&[3])).unwrap();
    assert_eq!(state.restore().take::<Vec<u32>>("numbers", 1), Some(vec![3]));
}

proptest! {
    #[test]
    fn any_change_of_a_byte_is_noticed_or_harmless(at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = snapshot(&[1, 2, 3]).into_bytes().unwrap();
        let at = at.index(bytes.len());
        let body = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let changed = bytes[at] != byte;
        bytes[at] = byte;
        match Sections::parse(&bytes) {
            // In the first line the time may be another, or a name or version, which is then nobody's.
            Ok(mut sections) => {
                prop_assert!(!changed || at <= body);
                let numbers = sections.take::<Vec<u32>>("numbers", 1);
                prop_assert!(numbers.is_none() || numbers == Some(vec![1, 2, 3]), "{numbers:?}");
            }
            Err(_) => prop_assert!(changed),
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>) {
        prop_assert!(Sections::parse(&bytes).is_err());
    }
}
