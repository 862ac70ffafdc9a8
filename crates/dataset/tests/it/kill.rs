//! `kill -9` of a writing process, again and again on the same files: everything it was told is
//! kept, and nothing is half there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::*;

const CHILD: &str = "VERGE_DATASET_KILL_CHILD";
const ROUNDS: u32 = 20;

/// Not a test of its own: what the child process does.
#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let settings = verge_dataset::Settings {
        checkpoint_bytes: 64 << 10,
        log_file_bytes: 256 << 10,
        max_log_bytes: 1 << 20,
        large_bytes: 100 << 10,
        ..settings()
    };
    let store = open(Path::new(&folder), settings);
    let dataset = match store.get(&id("app/main")) {
        Ok(dataset) => dataset,
        Err(_) => {
            let dataset = store.create(&id("app/main"), Default::default()).unwrap();
            sql(
                &dataset,
                "CREATE TABLE ack(n INTEGER PRIMARY KEY); CREATE TABLE bank(who PRIMARY KEY, has); \
                 INSERT INTO bank VALUES ('a', 500), ('b', 500); CREATE TABLE junk(x)",
            )
            .await;
            dataset
        }
    };
    let begin = number(&dataset, "SELECT coalesce(max(n), 0) FROM ack");
    let next = std::sync::atomic::AtomicI64::new(begin + 1);
    let work = async || {
        loop {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let give = n % 7;
            let text = format!(
                "INSERT INTO ack VALUES ({n}); UPDATE bank SET has = has - {give} WHERE who = 'a'; \
                 UPDATE bank SET has = has + {give} WHERE who = 'b'; \
                 INSERT INTO junk VALUES (randomblob({}));",
                n % 5000
            );
            sql(&dataset, &text).await;
            println!("ack {n}");
            if n % 40 == 0 {
                sql(&dataset, "DELETE FROM junk").await;
                dataset.vacuum().await.unwrap();
            }
        }
    };
    tokio::join!(work(), work(), work(), work());
}

#[test]
fn what_was_acknowledged_survives_kill_9_round_after_round() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut highest = 0;
    let mut all = std::collections::BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::child_writes_until_it_is_killed", "--exact", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut seen = 0;
        let limit = 20 + round * 17 % 120;
        for line in out.lines() {
            let line = line.unwrap();
            if let Some((_, n)) = line.split_once("ack ") {
                all.insert(n.parse::<i64>().unwrap());
                seen += 1;
                // What it still prints after the signal counts as well.
                if seen == limit {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(seen >= limit, "round {round}: the child ended by itself after {seen}");
        // A copy is looked at, so that the next child finds the files as they were left.
        let copy = tempfile::tempdir().unwrap();
        crate::harness::copy(folder.path(), copy.path());
        let store = open(copy.path(), settings());
        let dataset = store.get(&id("app/main")).unwrap();
        let reader = dataset.reader().unwrap();
        let mut kept = reader.prepare("SELECT n FROM ack").unwrap();
        let kept: std::collections::BTreeSet<i64> =
            kept.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let lost: Vec<_> = all.difference(&kept).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
        assert_eq!(number(&dataset, "SELECT sum(has) FROM bank"), 1000, "round {round}");
        let given = number(&dataset, "SELECT sum(n % 7) FROM ack");
        assert_eq!(number(&dataset, "SELECT has - 500 FROM bank WHERE who = 'b'"), given);
        assert_eq!(text(&dataset, "PRAGMA integrity_check"), "ok");
        checksum_holds(&dataset);
        let position = dataset.position().txid;
        assert!(position > highest);
        highest = position;
    }
}
