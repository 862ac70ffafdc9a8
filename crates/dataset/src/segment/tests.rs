use super::*;
use proptest::prelude::*;

fn sample(compression: Compression) -> Bytes {
    let pages: Vec<(u32, Vec<u8>)> =
        [1, 5, 9].map(|n| (n, vec![u8::try_from(n).unwrap(); 512])).into();
    let draft = Draft {
        position: Position::new(3, 7),
        previous_epoch: 2,
        wall_ms: 1,
        page_size: 512,
        db_pages: 9,
        checksum_before: 11,
        checksum_after: 12,
        tag: 13,
    };
    draft.encode(pages.iter().map(|(n, p)| (*n, p.as_slice())), compression).unwrap()
}

#[test]
fn a_segment_survives_the_way_to_bytes_and_back() {
    for compression in [Compression::None, Compression::Zstd(1)] {
        let segment = Segment::decode(&sample(compression)).unwrap();
        assert_eq!(segment.header.position, Position::new(3, 7));
        assert_eq!(segment.header.previous(), Position::new(2, 6));
        let pages: Vec<_> = segment.pages().map(|(n, page)| (n, page[0], page.len())).collect();
        assert_eq!(pages, [(1, 1, 512), (5, 5, 512), (9, 9, 512)]);
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for compression in [Compression::None, Compression::Zstd(1)] {
        let good = sample(compression);
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            assert!(Segment::decode(&bad.into()).is_err(), "byte {at}");
        }
        for len in 0..good.len() {
            assert!(Segment::decode(&good.slice(..len)).is_err(), "cut at {len}");
        }
    }
}

proptest! {
    /// With hashes made to hold, so that the checks behind them are reached.
    #[test]
    fn the_decoder_never_panics(
        fields in proptest::collection::vec(any::<u8>(), 84),
        small in any::<bool>(),
        body in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(&fields);
        if small {
            bytes[4..8].copy_from_slice(&u32::from(fields[0] & 1).to_le_bytes());
            bytes[40..44].copy_from_slice(&512u32.to_le_bytes());
            bytes[44..48].copy_from_slice(&u32::from(fields[1]).to_le_bytes());
            bytes[48..52].copy_from_slice(&u32::from(fields[2] & 3).to_le_bytes());
        }
        bytes[52..56].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes[80..88].copy_from_slice(&hash(&body).to_le_bytes());
        let own = hash(&bytes[..88]);
        bytes.extend(own.to_le_bytes());
        bytes.extend(&body);
        let _ = Segment::decode(&bytes.into()).map(|segment| segment.pages().count());
    }
}
