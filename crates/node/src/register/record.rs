//! A lease's record as bytes of fixed length, so that a renewal can be written over it in place.

use verge_replicate::NodeId;
use verge_replicate::lease::{Phase, Record};

pub(super) const LEN: usize = 80;
const MAGIC: &[u8; 8] = b"VLEASE1\n";

pub(super) fn encode(record: &Record) -> [u8; LEN] {
    let (phase, successor): (u64, u64) = match record.phase {
        Phase::Held => (0, 0),
        Phase::Released { successor: None } => (1, 0),
        Phase::Released { successor: Some(node) } => (2, node.0),
    };
    let fields = [
        record.epoch,
        record.holder.0,
        record.incarnation,
        record.sequence,
        record.base,
        record.ttl_ms,
        phase,
        successor,
    ];
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(MAGIC);
    for (index, field) in fields.iter().enumerate() {
        bytes[8 + index * 8..16 + index * 8].copy_from_slice(&field.to_le_bytes());
    }
    let sum = sum(&bytes[..72]);
    bytes[72..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// `None` for what `encode` did not make.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let bytes: &[u8; LEN] = bytes.try_into().ok()?;
    let field = |index: usize| {
        let mut field = [0; 8];
        field.copy_from_slice(&bytes[8 + index * 8..16 + index * 8]);
        u64::from_le_bytes(field)
    };
    if &bytes[..8] != MAGIC || field(8) != sum(&bytes[..72]) {
        return None;
    }
    let phase = match field(6) {
        0 => Phase::Held,
        1 => Phase::Released { successor: None },
        2 => Phase::Released { successor: Some(NodeId(field(7))) },
        _ => return None,
    };
    Some(Record {
        epoch: field(0),
        holder: NodeId(field(1)),
        incarnation: field(2),
        sequence: field(3),
        base: field(4),
        ttl_ms: field(5),
        phase,
    })
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_damage_is_noticed() {
        let phases = [
            Phase::Held,
            Phase::Released { successor: None },
            Phase::Released { successor: Some(NodeId(u64::MAX - 3)) },
        ];
        for phase in phases {
            let record = Record {
                epoch: 3,
                holder: NodeId(7),
                incarnation: 9,
                sequence: 11,
                base: 13,
                ttl_ms: 5000,
                phase,
            };
            let bytes = encode(&record);
            assert_eq!(decode(&bytes), Some(record));
            for at in 0..LEN {
                let mut bad = bytes;
                bad[at] ^= 4;
                assert_eq!(decode(&bad), None, "byte {at}");
            }
            assert_eq!(decode(&bytes[1..]), None);
        }
    }
}
