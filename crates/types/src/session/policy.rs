//! Whether an app's clients have sessions, and what their tokens are sealed with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a client is held to what it wrote, from its last write on: longer than links stay
/// cut, short enough that a visitor becomes a plain reader again.
pub const SESSION_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What an app remembers of its clients.
#[derive(Clone, Debug, Default)]
pub enum SessionPolicy {
    /// Nothing, and it costs nothing: an app without databases.
    #[default]
    Off,
    /// Within one request or WebSocket only; nothing is sent to or taken from the client but
    /// `Server-Timing`. For an app with databases that switched read-your-writes off.
    RequestOnly,
    /// From request to request, at every point of presence that has the same keys.
    On(Arc<SessionKeys>),
}

/// The fleet's secret behind session tokens; the same for all apps (a token is bound to its app).
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKeys {
    current: [u8; 32],
    previous: Vec<[u8; 32]>,
    max_age: Duration,
}

impl SessionKeys {
    pub fn new(current: [u8; 32]) -> Self {
        Self { current, previous: Vec::new(), max_age: SESSION_MAX_AGE }
    }

    /// A key that is still believed but no longer used. To change the key without forgetting a
    /// session: add the new one everywhere as a previous one, then make it the current one with
    /// the old one as previous, then drop the old one after [`Self::max_age`].
    #[must_use]
    pub fn with_previous(mut self, key: [u8; 32]) -> Self {
        self.previous.push(key);
        self
    }

    /// Whole seconds, at least one.
    #[must_use]
    pub fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Duration::from_secs(max_age.as_secs().max(1));
        self
    }

    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// What new tokens are sealed with.
    pub fn current(&self) -> &[u8; 32] {
        &self.current
    }

    /// All that may have sealed a token, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &[u8; 32]> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// Tells how many keys there are, never what they are.
impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys")
            .field("keys", &(1 + self.previous.len()))
            .field("max_age", &self.max_age)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_printed() {
        let keys = SessionKeys::new([0x41; 32]).with_previous([0x42; 32]);
        let policy = SessionPolicy::On(Arc::new(keys));
        assert_eq!(format!("{policy:?}"), "On(SessionKeys { keys: 2, max_age: 86400s })");
    }
}
