//! Generated requests whose meaning the generator knows: whatever is off in any one place is
//! never served, whatever is fine always is. `SEED=<n>` replays a run.

use crate::support::{Stage, get};

/// SplitMix64; the test needs no more.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }
}

/// A request and whether it is fine.
struct Made {
    bytes: String,
    fine: bool,
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";

fn make(dice: &mut Dice) -> Made {
    let mut fine = true;
    let mut off = |dice: &mut Dice, good: &[&'static str], bad: &[&'static str]| {
        if dice.roll(40) == 0 {
            fine = false;
            dice.pick(bad)
        } else {
            dice.pick(good)
        }
    };
    let version = off(dice, &["HTTP/1.1"], &["HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 "]);
    let target = off(dice, &["/read", "/read?a=b"], &["/re ad", "read", "*", "/a#b", "/\0"]);
    let end = off(dice, &["\r\n"], &["\n", "\r", "\r\r\n", "\n\r"]);
    let host = off(
        dice,
        &["Host: app.test", "HOST:app.test:80", "host:\tapp.test "],
        &[
            "Host : app.test",
            "Host: a b",
            "Host app.test",
            " Host: app.test",
            "Host: app.test\r\nHost: app.test",
            "X: y",
        ],
    );
    let plain =
        off(dice, &["A: b", "Accept: */*", "X-Y: \u{e9}"], &["A : b", "A\0: b", "A: b\n c", ": b"]);
    let folded = off(dice, &["B: c", "C:"], &["\tfolded", "B: c\r\n\tfolded", "nocolon"]);
    let (framing, body) = if dice.roll(2) == 0 {
        let body = format!("{SMUGGLED}{}", "x".repeat(dice.roll(50)));
        let length = off(
            dice,
            &["Content-Length: ", "content-length:"],
            &[
                "Content-Length: +",
                "Content-Length: 0x",
                "Content-Length: 1, ",
                "Content-Length: 0\r\nContent-Length: ",
                "Transfer-Encoding: chunked\r\nContent-Length: ",
                "Transfer-Encoding: identity\r\nContent-Length: ",
                "Content-Length : ",
            ],
        );
        (format!("{length}{}", body.len()), body)
    } else {
        let coding = off(
            dice,
            &["Transfer-Encoding: chunked", "transfer-encoding:Chunked"],
            &[
                "Transfer-Encoding: chunked, chunked",
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: chunked\r\nContent-Length: 4",
                "Content-Length: 4\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding : chunked",
                "Transfer-Encoding: x",
            ],
        );
        let extension = dice.pick(&["", ";a", ";a=b"]);
        let size = SMUGGLED.len();
        let body = format!("{size:x}{extension}\r\n{SMUGGLED}\r\n0\r\n\r\n");
        (coding.to_owned(), body)
    };
    let bytes = format!(
        "POST {target} {version}\r\n{host}\r\n{plain}{end}{framing}\r\n{folded}\r\n\r\n{body}"
    );
    Made { bytes, fine }
}

#[tokio::test]
async fn what_is_off_anywhere_is_never_served() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(42);
    let mut dice = Dice(seed);
    let stage = Stage::new().await;
    for round in 0..3000 {
        let before = stage.seen.calls();
        // A few on one connection: everything from the first that is off must be refused.
        let made: Vec<_> = (0..1 + dice.roll(3)).map(|_| make(&mut dice)).collect();
        let good = made.iter().take_while(|made| made.fine).count();
        let mut bytes: String = made.iter().map(|made| made.bytes.as_str()).collect();
        bytes.push_str(&get("app.test", "/"));
        let answer = stage.raw(&bytes).await;
        let served = stage.seen.calls() - before;
        let expected = if good == made.len() { good + 1 } else { good };
        assert_eq!(served, expected, "seed {seed}, round {round}: {bytes:?}\n{answer}");
    }
    let smuggled = stage.log.any(|entry| entry.path.contains("smuggled"));
    assert!(!smuggled, "seed {seed}");
}
