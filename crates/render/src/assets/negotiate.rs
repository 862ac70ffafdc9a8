//! Which encoding a client takes.

/// A content coding that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Brotli,
    Zstd,
    Gzip,
}

impl Encoding {
    /// From the smallest answer to the largest.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    pub fn index(self) -> usize {
        match self {
            Self::Brotli => 0,
            Self::Zstd => 1,
            Self::Gzip => 2,
        }
    }

    /// `x.js.br` is `x.js` in Brotli.
    pub fn of_file(path: &str) -> Option<(&str, Self)> {
        [(".br", Self::Brotli), (".zst", Self::Zstd), (".gz", Self::Gzip)]
            .into_iter()
            .find_map(|(suffix, encoding)| Some((path.strip_suffix(suffix)?, encoding)))
    }
}

/// The best of `available` that `accept` (an `Accept-Encoding` header) takes; `None` is the
/// plain form.
pub(super) fn choose(accept: &str, available: impl Fn(Encoding) -> bool) -> Option<Encoding> {
    let mut best: Option<(Encoding, f32)> = None;
    for encoding in Encoding::ALL {
        let quality = quality(accept, encoding.token());
        if quality > 0.0 && available(encoding) && best.is_none_or(|(_, q)| quality > q) {
            best = Some((encoding, quality));
        }
    }
    let identity = quality(accept, "identity");
    best.filter(|(_, quality)| *quality >= identity || !accept.contains("identity"))
        .map(|(encoding, _)| encoding)
}

fn quality(accept: &str, token: &str) -> f32 {
    let mut wildcard = 0.0;
    for part in accept.split(',') {
        let mut fields = part.split(';').map(str::trim);
        let name = fields.next().unwrap_or("");
        let quality = fields
            .find_map(|field| field.strip_prefix("q=").or_else(|| field.strip_prefix("Q=")))
            .map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if name.eq_ignore_ascii_case(token) {
            return quality;
        }
        if name == "*" {
            wildcard = quality;
        }
    }
    wildcard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_is_taken() {
        let all = |_| true;
        assert_eq!(choose("gzip, deflate, br", all), Some(Encoding::Brotli));
        assert_eq!(choose("gzip;q=1.0, br;q=0.5", all), Some(Encoding::Gzip));
        assert_eq!(choose("br;q=0, gzip", all), Some(Encoding::Gzip));
        assert_eq!(choose("*", all), Some(Encoding::Brotli));
        assert_eq!(choose("identity", all), None);
        assert_eq!(choose("", all), None);
        assert_eq!(choose("br", |_| false), None);
        assert_eq!(choose("gzip;q=x", all), None);
    }
}
