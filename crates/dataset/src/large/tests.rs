use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use verge_types::Position;

use super::part::{Chain, HEAD_LEN, Head, PART_BYTES};
use super::{Place, Reader, Writer};
use crate::checksum::hash;
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::error::Error;
use crate::segment::{Compression, DecodeError, Draft, Header, Segment};

type Pages = Vec<(u32, Vec<u8>)>;

fn draft(txid: u64) -> Draft {
    Draft {
        position: Position::new(3, txid),
        previous_epoch: 2,
        wall_ms: 1,
        page_size: 65_536,
        db_pages: 1000,
        checksum_before: 11,
        checksum_after: 12,
        tag: 13,
    }
}

fn file() -> (tempfile::TempDir, Arc<dyn DiskFile>) {
    let folder = tempfile::tempdir().unwrap();
    let file = RealDisk.open(&folder.path().join("x.big"), true).unwrap();
    (folder, file)
}

fn write(
    file: &Arc<dyn DiskFile>,
    pages: &Pages,
    compression: Compression,
) -> (Header, Place, Bytes) {
    let mut writer = Writer::new(file.clone(), &draft(7), compression).unwrap();
    for (number, page) in pages {
        writer.put(*number, page).unwrap();
    }
    let record = writer.finish().unwrap().record(&draft(7));
    let (header, place) = Place::decode(&record).unwrap();
    (header, place, record)
}

fn read(file: &Arc<dyn DiskFile>, header: &Header, place: Place) -> Result<Pages, Error> {
    let mut pages = Vec::new();
    Reader::new(file.clone(), header, place).each_page(|number, page| {
        pages.push((number, page.to_vec()));
        Ok(())
    })?;
    Ok(pages)
}

/// Every third one does not compress.
fn sample(numbers: impl IntoIterator<Item = u32>) -> Pages {
    let page = |n: u32| match n % 3 {
        0 => (0..16_384)
            .flat_map(|i| {
                hash(&[n.to_le_bytes(), u32::to_le_bytes(i)].concat()).to_le_bytes()[..4].to_vec()
            })
            .collect(),
        _ => vec![n as u8; 65_536],
    };
    numbers.into_iter().map(|n| (n, page(n))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pages_survive_the_way_to_parts_and_back(
        numbers in proptest::collection::btree_set(1..=1000u32, 1..70),
        plain in any::<bool>(),
    ) {
        let pages = sample(numbers);
        let (_folder, file) = file();
        let compression = if plain { Compression::None } else { Compression::Zstd(1) };
        let (header, place, _) = write(&file, &pages, compression);
        let most = PART_BYTES as usize / 65_536;
        prop_assert_eq!(place.parts as usize, pages.len().div_ceil(most));
        prop_assert_eq!(file.size().unwrap(), place.len);
        prop_assert!(read(&file, &header, place).unwrap() == pages);
    }

    /// With the hash made to hold, so that the checks behind it are reached.
    #[test]
    fn a_head_from_anywhere_does_not_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), HEAD_LEN),
        small in any::<bool>(),
        body in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        bytes[..4].copy_from_slice(b"VSL1");
        let mut chain = Chain::new(1, 1, 1, 512, 5);
        let (flags, count) = (u32::from(bytes[4] & 1), u32::from(bytes[12] & 3));
        if small {
            bytes[4..8].copy_from_slice(&flags.to_le_bytes());
            bytes[8..12].fill(0);
            bytes[12..16].copy_from_slice(&count.to_le_bytes());
            bytes[16..20].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            bytes[24..32].copy_from_slice(&chain.hash.to_le_bytes());
            bytes[32..40].copy_from_slice(&hash(&body).to_le_bytes());
        }
        let own = hash(&bytes[..40]).to_le_bytes();
        bytes[40..].copy_from_slice(&own);
        if let Ok(head) = Head::decode(&bytes) {
            let _ = chain.take(&head, &body).map(|part| part.pages().count());
        }
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    for compression in [Compression::None, Compression::Zstd(1)] {
        let (_folder, file) = file();
        let pages = sample((1..=20).map(|n| n * 3 + 1));
        let (header, place, record) = write(&file, &pages, compression);
        assert_eq!(place.parts, 2);
        let mut good = vec![0; usize::try_from(place.len).unwrap()];
        file.read_exact_at(&mut good, 0).unwrap();
        let step = if compression == Compression::None { 4099 } else { 1 };
        for at in (0..good.len()).step_by(step).chain(0..HEAD_LEN.min(good.len())) {
            file.write_all_at(&[good[at] ^ 0x10], at as u64).unwrap();
            assert!(read(&file, &header, place).is_err(), "byte {at}");
            file.write_all_at(&good[at..=at], at as u64).unwrap();
        }
        assert!(read(&file, &header, place).is_ok());
        for at in 0..record.len() {
            let mut bad = record.to_vec();
            bad[at] ^= 0x10;
            assert!(Place::decode(&bad.into()).is_err(), "byte {at} of the record");
        }
        file.set_len(place.len - 1).unwrap();
        assert!(read(&file, &header, place).is_err(), "cut short");
    }
}

#[test]
fn parts_of_another_segment_or_out_of_turn_do_not_fit() {
    let (_folder, file) = file();
    let (header, place, record) = write(&file, &sample(1..=40), Compression::Zstd(1));
    let mut bytes = vec![0; usize::try_from(place.len).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let head = Head::decode(&bytes).unwrap();
    let mut chain = Chain::of(&header);
    let first = HEAD_LEN + chain.expect(&head).unwrap();
    chain.take(&head, &bytes[HEAD_LEN..first]).unwrap();
    assert_eq!(chain.expect(&head), Err(DecodeError::Part("it is not the next one")));
    let second = Head::decode(&bytes[first..]).unwrap();
    assert!(Chain::of(&header).expect(&second).is_err(), "the first is missing");
    let (other, _) = Place::decode(&place.record(&draft(8))).unwrap();
    assert!(Chain::of(&other).expect(&head).is_err(), "another segment's");
    assert!(Segment::decode(&record).is_err_and(|error| error == DecodeError::Large));
    let fewer = Place { parts: place.parts - 1, ..place };
    assert!(read(&file, &header, fewer).is_err());
}
