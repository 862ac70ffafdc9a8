//! Around the lock page at 1 GiB: a sparse file beyond it, at two page sizes. The file is made by
//! hand: an empty database whose free list is nothing and whose size is beyond the lock page.

use verge_dataset::lock_page;

use crate::harness::*;

/// Grows a dataset beyond the lock page without writing a gigabyte: pages of the file up to
/// shortly before it are zero and belong to nobody, as after a crashed application's own making.
async fn beyond_the_lock_page(page_size: u32) {
    let (one, other) = (Node::new(), Node::new());
    let primary = create(&one, page_size);
    sql(&primary, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)").await;
    let name = primary.id().clone();
    drop(primary);
    assert!(one.store.close(&name));
    stretch(&one.folder.path().join("app+main"), page_size, lock_page(page_size) - 3);

    let primary = one.store.get(&name).unwrap();
    let blob = page_size * 2;
    for _ in 0..4 {
        sql(&primary, &format!("INSERT INTO t(x) VALUES (randomblob({blob}))")).await;
    }
    assert!(primary.size() > u64::from(lock_page(page_size)) * u64::from(page_size));
    primary.verify().await.unwrap();
    let copy = crate::copies::seed(&primary, &other.store).await;
    assert_eq!(copy.checksum(), primary.checksum());
    sql(&primary, &format!("INSERT INTO t(x) VALUES (randomblob({blob}))")).await;
    sql(&primary, "DELETE FROM t WHERE id = 2").await;
    ship_light(&primary, &copy).await;
    copy.verify().await.unwrap();
    primary.checkpoint().await.unwrap();
    drop((primary, copy));
    assert!(one.store.close(&name) && other.store.close(&name));
    let (primary, copy) = (one.store.get(&name).unwrap(), other.store.get(&name).unwrap());
    primary.vacuum().await.unwrap();
    assert!(primary.size() < 1 << 24, "nobody owned the rest");
    ship(&primary, &copy).await;
    checksum_holds(&primary);
    assert_eq!(number(&copy, "SELECT count(*) FROM t"), 4);
}

/// Without comparing a gigabyte page by page.
async fn ship_light(primary: &verge_dataset::Dataset, copy: &verge_dataset::Dataset) {
    let mut log = primary.subscribe(copy.position()).unwrap();
    while let Some((_, segment)) = log.try_next().unwrap() {
        copy.apply(vec![segment]).await.unwrap();
    }
    assert_eq!(primary.checksum(), copy.checksum());
}

/// Makes a closed dataset's file `pages` long, by its header and its state.
fn stretch(dir: &std::path::Path, page_size: u32, pages: u32) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(dir.join("db")).unwrap();
    file.write_all_at(&pages.to_be_bytes(), 28).unwrap();
    file.set_len(u64::from(pages) * u64::from(page_size)).unwrap();
    let mut checksum = 0;
    let mut page = vec![0; page_size as usize];
    let zero = vec![0; page_size as usize];
    for number in 1..=pages {
        let bytes = if number <= 2 {
            file.read_exact_at(&mut page, u64::from(number - 1) * u64::from(page_size)).unwrap();
            &page
        } else {
            &zero
        };
        checksum ^= verge_dataset::page_hash(number, bytes);
    }
    let state = std::fs::read_to_string(dir.join("state")).unwrap();
    let mut lines = String::new();
    for line in state.lines() {
        let line = match line.split_once(' ') {
            Some(("checksum", _)) => format!("checksum {checksum}"),
            Some(("pages", _)) => format!("pages {pages}"),
            Some(("hash", _)) => continue,
            _ => line.to_owned(),
        };
        lines.push_str(&line);
        lines.push('\n');
    }
    let hash = verge_dataset::page_hash(0, lines.as_bytes());
    std::fs::write(dir.join("state"), format!("{lines}hash {hash:016x}\n")).unwrap();
}

#[tokio::test]
async fn the_lock_page_is_left_out_at_4_kib() {
    beyond_the_lock_page(4096).await;
}

#[tokio::test]
async fn the_lock_page_is_left_out_at_64_kib() {
    beyond_the_lock_page(65_536).await;
}
