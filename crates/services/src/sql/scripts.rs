//! Scripts of a database's owner: what each of their statements gave, and where one failed.

use verge_dataset::rusqlite::{Connection, ffi};

use super::database::{Answer, Database, SharedStop, rules};
use super::error::{ErrorKind, SqlError};
use super::home::Home;
use super::message::{Done, Request};
use super::reads::Unsettled;
use super::run::Outcome;
use super::script;

impl<H: Home> Database<H> {
    /// A script with what each of its statements gave: all on one state here if they only read,
    /// else in one transaction at the primary. A failure names its line and column.
    pub async fn script(
        &self,
        text: String,
        stop: Option<SharedStop>,
    ) -> Result<Answer<Vec<Outcome>>, SqlError> {
        if let Some(outcomes) = self.script_here(&text, &stop).await? {
            return Ok(outcomes);
        }
        if self.home().is_primary() {
            let policy = *self.policy();
            let job = move |conn: &Connection| {
                let done = script::script(conn, &rules(policy, &stop), &text, false);
                done.map(Option::unwrap_or_default)
            };
            let (value, position) = self.home().write(None, job).await?;
            return Ok(self.here(value, position));
        }
        let reply = self.ask_primary(&Request::Script(text)).await?;
        reply.answer(|done| match done {
            Done::Outcomes(value) => Some(value),
            _ => None,
        })
    }

    /// `None` if it writes, or if it uses what only the primary's writer may know of.
    async fn script_here(
        &self,
        text: &str,
        stop: &Option<SharedStop>,
    ) -> Result<Option<Answer<Vec<Outcome>>>, SqlError> {
        let Some((outcomes, settled)) = self.read_script(text, stop)? else { return Ok(None) };
        let position = settled.await?;
        Ok(Some(self.here(outcomes, position)))
    }

    fn read_script(
        &self,
        text: &str,
        stop: &Option<SharedStop>,
    ) -> Result<Option<Unsettled>, SqlError> {
        let reader = self.home().reader()?;
        let rules = rules(*self.policy(), stop);
        let read =
            script::in_read_transaction(&reader, |conn| script::script(conn, &rules, text, true));
        match read {
            // A replica may not have a table yet that the primary has, and a script may make what
            // it uses.
            Err(error) if error.kind == ErrorKind::Exec && error.code == ffi::SQLITE_ERROR => {
                Ok(None)
            }
            read => Ok(read?.map(|outcomes| (outcomes, self.home().settled(&reader, false)))),
        }
    }
}
