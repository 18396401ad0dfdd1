//! What kind of Kong answers: `GET /`.

use serde::Deserialize;

use super::{Call, Failure, Kong, Method, OBJECT_LIMIT, Wire, parse};
use crate::quote::Quoted;
use crate::settings::AdminMode;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it keeps its configuration.
    pub mode: Mode,
    /// Its version, if it tells.
    pub version: Option<Quoted>,
}

/// Where a Kong keeps its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a database.
    Database,
    /// In a database, for data planes.
    ControlPlane,
    /// In memory.
    Dbless,
}

impl Mode {
    /// The word, as it stands in `/status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::ControlPlane => "control_plane",
            Self::Dbless => "dbless",
        }
    }
}

impl<W: Wire> Kong<W> {
    /// Finds out the mode, unless it is known or configured. That a Kong cannot be fed is asked for
    /// each time: it may have been started anew with a database.
    ///
    /// # Errors
    ///
    /// If the node cannot be asked (`GET /` is 500 while its database is down); then nothing is
    /// known, and it is asked again at the next call.
    pub async fn meet(&mut self) -> Result<&Node, Failure> {
        let is_of_use = self.node.as_ref().is_some_and(|node| node.mode != Mode::Dbless);
        if self.is_node_doubted || !is_of_use {
            let asked = match self.mode {
                AdminMode::Database => Ok(Node { mode: Mode::Database, version: None }),
                AdminMode::Auto => self.ask_node().await,
            };
            match asked {
                Ok(node) => self.node = Some(node),
                Err(failure) if self.node.is_none() => return Err(failure),
                // What was known counts.
                Err(_) => {}
            }
            self.is_node_doubted = false;
        }
        self.node.as_ref().ok_or(Failure::NotSent)
    }

    async fn ask_node(&self) -> Result<Node, Failure> {
        let call =
            Call { method: Method::Get, path: "/".to_owned(), body: None, limit: OBJECT_LIMIT };
        let answer = self.ask(call).await?;
        let root: Root = parse(&answer)?;
        let mode = match (root.configuration.database.as_str(), root.configuration.role.as_deref())
        {
            ("off", _) => Mode::Dbless,
            (_, Some("control_plane")) => Mode::ControlPlane,
            _ => Mode::Database,
        };
        Ok(Node { mode, version: root.version.as_deref().map(Quoted::new) })
    }
}

#[derive(Deserialize)]
struct Root {
    version: Option<String>,
    configuration: Configuration,
}

#[derive(Deserialize)]
struct Configuration {
    database: String,
    role: Option<String>,
}
