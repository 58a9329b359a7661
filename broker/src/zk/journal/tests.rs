use super::*;

/// Runs commands through a machine and its journal, as the store does.
fn run(journal: &mut Journal, machine: &mut Machine, command: Command) {
    machine
        .apply(&command, 5, &mut Vec::new())
        .expect("applies");
    journal
        .append(machine.zxid(), 5, &command)
        .expect("appends");
}

fn create(session: i64, path: &str, mode: CreateMode) -> Command {
    Command::Write(
        session,
        vec![
            Op::Create {
                path: path.to_owned(),
                data: Bytes::copy_from_slice(path.as_bytes()),
                mode,
            },
            Op::Set {
                path: "/".to_owned(),
                data: Bytes::new(),
                version: None,
            },
        ],
    )
}

/// A journal with every kind of command; returns the machine's nodes after each of them.
fn fill(folder: &Path) -> Vec<Vec<NodeImage>> {
    let (mut journal, mut machine) = Journal::open(folder).expect("opens");
    let mut after = vec![machine.images().collect()];
    let commands = [
        Command::Open,
        create(1, "/a", CreateMode::Persistent),
        create(1, "/e", CreateMode::Ephemeral),
        Command::Write(
            1,
            vec![
                Op::Check {
                    path: "/a".to_owned(),
                    version: 0,
                },
                Op::Create {
                    path: "/a/s-".to_owned(),
                    data: Bytes::new(),
                    mode: CreateMode::PersistentSequential,
                },
                Op::Delete {
                    path: "/e".to_owned(),
                    version: Some(0),
                },
            ],
        ),
        create(1, "/f", CreateMode::Ephemeral),
        Command::Close(1),
    ];
    for command in commands {
        run(&mut journal, &mut machine, command);
        after.push(machine.images().collect());
    }
    after
}

fn only_journal(folder: &Path) -> PathBuf {
    let found = journals(folder).expect("lists");
    assert_eq!(found.len(), 1);
    found.into_iter().next().expect("one")
}

#[test]
fn journal_torn_at_every_byte_gives_a_prefix_and_takes_more() {
    let origin = tempfile::tempdir().expect("a folder");
    let after = fill(origin.path());
    let whole = fs::read(only_journal(origin.path())).expect("reads");
    for length in 0..=whole.len() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.0000000000000000");
        fs::write(&path, &whole[..length]).expect("writes");
        let (mut journal, mut machine) = Journal::open(folder.path()).expect("opens");
        let zxid = machine.zxid();
        let nodes: Vec<_> = machine.images().collect();
        assert_eq!(nodes, after[zxid as usize], "cut at {length}");
        run(&mut journal, &mut machine, Command::Open);
        drop(journal);
        let (_, reopened) = Journal::open(folder.path()).expect("opens again");
        assert_eq!(reopened.zxid(), zxid + 1, "cut at {length}");
    }
}

#[test]
fn garbage_or_zeros_behind_the_last_record_are_cut_off() {
    for tail in [
        &[0u8; 64][..],
        b"\xff\xff\xff\xff\xff",
        b"\x05\0\0\0\x01\x02\x03\x04hello",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let after = fill(folder.path());
        let path = only_journal(folder.path());
        let mut bytes = fs::read(&path).expect("reads");
        let whole = bytes.len();
        bytes.extend_from_slice(tail);
        fs::write(&path, &bytes).expect("writes");
        let (_, machine) = Journal::open(folder.path()).expect("opens");
        assert_eq!(machine.zxid() as usize, after.len() - 1);
        assert_eq!(fs::metadata(&path).expect("there").len() as usize, whole);
    }
}

#[test]
fn damage_before_whole_records_is_refused_with_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    let path = only_journal(folder.path());
    let mut bytes = fs::read(&path).expect("reads");
    // In the payload of the first record.
    bytes[JOURNAL_MAGIC.len() + RECORD_HEADER + 3] ^= 1;
    fs::write(&path, &bytes).expect("writes");
    let error = Journal::open(folder.path()).expect_err("refuses");
    let text = error.to_string();
    assert!(text.contains("damaged at byte 8"), "{text}");
}

#[test]
fn compaction_survives_a_stop_at_each_of_its_steps() {
    for step in 0..3 {
        let folder = tempfile::tempdir().expect("a folder");
        fill(folder.path());
        let (mut journal, mut machine) = Journal::open(folder.path()).expect("opens");
        let compaction = journal.compact(&machine).expect("begins");
        run(&mut journal, &mut machine, Command::Open);
        let session = machine.zxid();
        run(
            &mut journal,
            &mut machine,
            create(session, "/later", CreateMode::Ephemeral),
        );
        match step {
            0 => drop(compaction),
            // The snapshot is there, what it covers as well.
            1 => fs::write(folder.path().join(SNAPSHOT), &compaction.snapshot).expect("writes"),
            _ => {
                compaction.finish().expect("finishes");
                assert_eq!(journals(folder.path()).expect("lists").len(), 1);
            }
        }
        drop(journal);
        let (_, reopened) = Journal::open(folder.path()).expect("opens again");
        assert_eq!(reopened.zxid(), machine.zxid(), "step {step}");
        assert!(reopened.images().eq(machine.images()), "step {step}");
        assert!(reopened.is_open(session));
    }
}

#[test]
fn a_folder_is_open_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = Journal::open(folder.path()).expect("opens");
    let error = Journal::open(folder.path()).expect_err("refuses");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
}
