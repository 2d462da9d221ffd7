//! Tests of the simulated disk, on which the crash tests depend.

use super::*;

fn written(disk: &SimDisk) -> SimFile {
    let file = disk.create(Path::new("/file")).unwrap();
    file.write_at(0, &[1; 2000]).unwrap();
    file
}

fn content(disk: &SimDisk) -> Option<Vec<u8>> {
    disk.bytes(Path::new("/file"))
}

#[test]
fn what_is_not_synced_may_go() {
    let disk = SimDisk::new();
    let file = written(&disk);
    assert_eq!(disk.unsynced(), 5);
    file.sync_data().unwrap();
    let nameless = disk.fork();
    nameless.crash(&mut |_| 0);
    assert_eq!(content(&nameless), None);
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(disk.unsynced(), 0);
    file.write_at(500, &[2; 600]).unwrap();
    file.write_at(2000, &[3; 100]).unwrap();
    let lost = disk.fork();
    lost.crash(&mut |_| 0);
    assert_eq!(content(&lost), Some(vec![1; 2000]));
    let mut kept = vec![1; 2100];
    kept[500..1100].fill(2);
    kept[2000..].fill(3);
    let all = disk.fork();
    all.crash(&mut |_| 1);
    assert_eq!(content(&all), Some(kept));
    assert!(file.sync_data().is_ok());
}

/// Otherwise a power failure would take a log that began after the restart.
#[test]
fn a_directory_of_a_process_that_ended_before_its_sync_is_durable_once_it_is_used() {
    let (disk, dir) = (SimDisk::new(), Path::new("/member"));
    disk.create_dir(dir).unwrap();
    disk.kill();
    crate::disk::create_dir_durably(&disk, dir).unwrap();
    disk.crash(&mut |_| 0);
    assert!(disk.exists(dir).unwrap());
}

#[test]
fn a_torn_sector_is_new_on_one_side_and_old_on_the_other() {
    let disk = SimDisk::new();
    let file = written(&disk);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(512, &[2; 512]).unwrap();
    for (side, expected) in [(0, [2, 1]), (1, [1, 2])] {
        let torn = disk.fork();
        let mut answers = [2, 100, side].into_iter();
        torn.crash(&mut |_| answers.next().unwrap());
        let content = content(&torn).unwrap();
        assert!(content[512..612].iter().all(|byte| *byte == expected[0]));
        assert!(content[612..1024].iter().all(|byte| *byte == expected[1]));
        assert_eq!(content[1024..], [1; 976]);
    }
}

#[test]
fn a_failed_sync_forgets_what_it_should_have_written() {
    let disk = SimDisk::new();
    let file = written(&disk);
    disk.sync_dir(Path::new("/")).unwrap();
    disk.fail_sync(0);
    assert!(file.sync_data().is_err());
    // A second sync reports success although the data is not durable.
    file.sync_data().unwrap();
    let lost = disk.fork();
    lost.crash(&mut |_| 0);
    assert_eq!(content(&lost), Some(vec![0; 2000]));
    file.write_at(0, &[1; 2000]).unwrap();
    file.sync_data().unwrap();
    disk.crash(&mut |_| 0);
    assert_eq!(content(&disk), Some(vec![1; 2000]));
    assert!(
        file.sync_data().is_err(),
        "a file that was open before the crash"
    );
}

#[test]
fn names_survive_one_by_one() {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/dir")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.create(Path::new("/dir/a")).unwrap();
    disk.rename(Path::new("/dir/a"), Path::new("/dir/b"))
        .unwrap();
    for (keep, expected) in [([0, 0], vec![]), ([1, 0], vec!["a"]), ([0, 1], vec!["b"])] {
        let crashed = disk.fork();
        let mut answers = keep.into_iter();
        crashed.crash(&mut |_| answers.next().unwrap());
        assert_eq!(crashed.list(Path::new("/dir")).unwrap(), expected);
    }
}

#[test]
fn space_runs_out_and_locks_are_held() {
    let disk = SimDisk::new();
    let file = written(&disk);
    disk.limit(Some(2100));
    let full = file.write_at(2000, &[0; 200]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.write_at(1900, &[0; 200]).unwrap();
    let lock = disk.lock(Path::new("/lock")).unwrap();
    let held = disk.lock(Path::new("/lock")).err().unwrap();
    assert_eq!(held.kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    assert!(disk.lock(Path::new("/lock")).is_ok());
}
