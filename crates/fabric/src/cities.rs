//! Where points of presence stand, and how long a round trip between them takes.
//!
//! `RTT = 1 ms + 2 × great-circle km ÷ 200 km/ms × path factor`: light in glass covers 200 km a
//! millisecond, 1 ms stands for routers and machines, and the factor for cables that do not
//! follow the great circle. The factor depends on the two continents; it was chosen so that
//! well-known pairs come within about 15 % of what is commonly measured on the public internet.

use std::time::Duration;

/// A part of the world, as cables see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continent {
    NorthAmerica,
    SouthAmerica,
    Europe,
    Africa,
    MiddleEast,
    SouthAsia,
    SoutheastAsia,
    EastAsia,
    Oceania,
}

/// A place that is known by its airport's code.
#[derive(Clone, Copy, Debug)]
pub struct City {
    pub code: &'static str,
    pub name: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    pub continent: Continent,
}

const fn city(
    code: &'static str,
    name: &'static str,
    latitude: f64,
    longitude: f64,
    continent: Continent,
) -> City {
    City { code, name, latitude, longitude, continent }
}

use Continent::{
    Africa, EastAsia, Europe, MiddleEast, NorthAmerica, Oceania, SouthAmerica, SouthAsia,
    SoutheastAsia,
};

/// All places that are known without being told.
pub const CITIES: &[City] = &[
    city("ams", "Amsterdam", 52.31, 4.76, Europe),
    city("arn", "Stockholm", 59.65, 17.92, Europe),
    city("atl", "Atlanta", 33.64, -84.43, NorthAmerica),
    city("bog", "Bogotá", 4.70, -74.15, SouthAmerica),
    city("bom", "Mumbai", 19.09, 72.87, SouthAsia),
    city("bos", "Boston", 42.36, -71.01, NorthAmerica),
    city("cdg", "Paris", 49.01, 2.55, Europe),
    city("den", "Denver", 39.86, -104.67, NorthAmerica),
    city("dfw", "Dallas", 32.90, -97.04, NorthAmerica),
    city("dub", "Dublin", 53.42, -6.27, Europe),
    city("dxb", "Dubai", 25.25, 55.36, MiddleEast),
    city("ewr", "New York", 40.69, -74.17, NorthAmerica),
    city("eze", "Buenos Aires", -34.82, -58.54, SouthAmerica),
    city("fra", "Frankfurt", 50.03, 8.57, Europe),
    city("gru", "São Paulo", -23.43, -46.47, SouthAmerica),
    city("hkg", "Hong Kong", 22.31, 113.91, EastAsia),
    city("iad", "Ashburn", 38.95, -77.45, NorthAmerica),
    city("icn", "Seoul", 37.46, 126.44, EastAsia),
    city("jnb", "Johannesburg", -26.14, 28.25, Africa),
    city("kix", "Osaka", 34.43, 135.23, EastAsia),
    city("lax", "Los Angeles", 33.94, -118.41, NorthAmerica),
    city("lhr", "London", 51.47, -0.45, Europe),
    city("los", "Lagos", 6.58, 3.32, Africa),
    city("mad", "Madrid", 40.47, -3.56, Europe),
    city("mel", "Melbourne", -37.67, 144.84, Oceania),
    city("mia", "Miami", 25.79, -80.29, NorthAmerica),
    city("mxp", "Milan", 45.63, 8.73, Europe),
    city("nrt", "Tokyo", 35.76, 140.39, EastAsia),
    city("ord", "Chicago", 41.98, -87.90, NorthAmerica),
    city("otp", "Bucharest", 44.57, 26.08, Europe),
    city("phx", "Phoenix", 33.43, -112.01, NorthAmerica),
    city("qro", "Querétaro", 20.62, -100.19, NorthAmerica),
    city("scl", "Santiago", -33.39, -70.79, SouthAmerica),
    city("sea", "Seattle", 47.45, -122.31, NorthAmerica),
    city("sfo", "San Francisco", 37.62, -122.38, NorthAmerica),
    city("sin", "Singapore", 1.36, 103.99, SoutheastAsia),
    city("sjc", "San Jose", 37.36, -121.93, NorthAmerica),
    city("syd", "Sydney", -33.95, 151.18, Oceania),
    city("tpe", "Taipei", 25.08, 121.23, EastAsia),
    city("waw", "Warsaw", 52.17, 20.97, Europe),
    city("yul", "Montreal", 45.47, -73.74, NorthAmerica),
    city("yyz", "Toronto", 43.68, -79.63, NorthAmerica),
    city("zrh", "Zurich", 47.46, 8.55, Europe),
];

/// The place a code stands for; `fra-2` and `fra2` are `fra` too.
pub fn find(code: &str) -> Option<&'static City> {
    let letters = code.get(..3)?;
    let alone = code[3..].bytes().all(|b| b.is_ascii_digit() || b == b'-');
    CITIES.iter().find(|city| alone && city.code == letters)
}

/// Great-circle kilometres between two places.
pub fn kilometres(a: &City, b: &City) -> f64 {
    const EARTH_RADIUS: f64 = 6371.0;
    let (lat_a, lat_b) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half_lat = ((lat_b - lat_a) / 2.0).sin();
    let half_lon = ((b.longitude - a.longitude).to_radians() / 2.0).sin();
    let chord = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
    2.0 * EARTH_RADIUS * chord.sqrt().min(1.0).asin()
}

fn path_factor(a: Continent, b: Continent) -> f64 {
    let pair = |x, y| (a, b) == (x, y) || (a, b) == (y, x);
    if pair(Europe, EastAsia) {
        2.1 // around, by Suez or America
    } else if pair(Europe, SouthAsia) || pair(Africa, Europe) || pair(Europe, SouthAmerica) {
        1.9
    } else if pair(Europe, SoutheastAsia)
        || pair(Europe, Oceania)
        || pair(EastAsia, Africa)
        || pair(SouthAsia, NorthAmerica)
    {
        1.6
    } else if pair(NorthAmerica, Oceania) || pair(NorthAmerica, EastAsia) {
        1.3 // straight across the Pacific
    } else {
        1.4
    }
}

/// The round trip between two points of presence, if both codes are known.
pub fn round_trip(a: &str, b: &str) -> Option<Duration> {
    let (a, b) = (find(a)?, find(b)?);
    let one_way = kilometres(a, b) / 200.0 * path_factor(a.continent, b.continent);
    Some(Duration::from_secs_f64((1.0 + 2.0 * one_way) / 1000.0))
}

/// An override as the command line gives it: `fra-nrt=230ms`. Units: `us`, `ms`, `s`.
pub fn parse_round_trip(text: &str) -> Result<(String, String, Duration), String> {
    let bad = || format!("`{text}` is no round trip: write it like fra-nrt=230ms");
    let (pair, time) = text.split_once('=').ok_or_else(bad)?;
    let (a, b) = pair.split_once('-').ok_or_else(bad)?;
    let digits = time.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &time[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(bad()),
    };
    let value: f64 = digits.parse().map_err(|_| bad())?;
    if a.is_empty() || b.is_empty() || b.contains('-') || !(0.0..=1e6).contains(&value) {
        return Err(bad());
    }
    let time = Duration::from_secs_f64(value * scale);
    if time > MAX_ROUND_TRIP {
        return Err(format!("`{text}`: a round trip is at most {} s", MAX_ROUND_TRIP.as_secs()));
    }
    Ok((a.to_owned(), b.to_owned(), time))
}

/// Longest round trip that can be asked for.
pub const MAX_ROUND_TRIP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_plausible() {
        // Commonly seen on the public internet, in ms; the formula may be off by 25 %.
        for (a, b, measured) in [
            ("iad", "fra", 90.0),
            ("iad", "nrt", 155.0),
            ("fra", "nrt", 225.0),
            ("iad", "sfo", 62.0),
            ("fra", "ams", 7.0),
            ("sin", "syd", 92.0),
            ("sfo", "syd", 150.0),
            ("lhr", "sin", 175.0),
            ("gru", "iad", 115.0),
            ("bom", "fra", 120.0),
            ("jnb", "lhr", 165.0),
        ] {
            let rtt = round_trip(a, b).unwrap().as_secs_f64() * 1000.0;
            assert!((rtt / measured - 1.0).abs() < 0.25, "{a}-{b}: {rtt:.0} against {measured}");
            assert_eq!(round_trip(a, b), round_trip(b, a));
        }
        assert_eq!(round_trip("fra", "fra-2"), Some(Duration::from_millis(1)));
    }

    #[test]
    fn codes_are_sorted_and_unique() {
        assert!(CITIES.is_sorted_by(|a, b| a.code < b.code));
        assert!(find("fra2").is_some() && find("fra-12").is_some());
        assert!(find("frankfurt").is_none() && find("xxx").is_none() && find("é").is_none());
    }

    #[test]
    fn overrides_are_read() {
        let ok = |text| parse_round_trip(text).unwrap();
        assert_eq!(ok("fra-nrt=230ms"), ("fra".into(), "nrt".into(), Duration::from_millis(230)));
        assert_eq!(ok("a-b=1.5s").2, Duration::from_millis(1500));
        for bad in [
            "",
            "fra=1ms",
            "fra-nrt",
            "fra-nrt=1",
            "fra-nrt=-1ms",
            "fra-nrt=ms",
            "a-b=61s",
            "a-b=NaNs",
            "a-b-c=1ms",
        ] {
            assert!(parse_round_trip(bad).is_err(), "{bad}");
        }
    }
}
