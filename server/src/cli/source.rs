//! Verbs for one source: resume, after a loss that nothing can undo.

use clap::Subcommand;
use serde_json::{Value as Json, json};
use tidemill_client::Client;

use super::output::table;
use super::{Ended, Style};
use crate::serving::http::given_up_json;

/// What can be done with a source.
#[derive(Subcommand)]
pub enum SourceAction {
    /// Lets a source that has stopped after a loss go on without what it has lost
    Resume {
        /// the source
        source: String,
        /// gives up what `tidemill status` shows as lost
        #[arg(long)]
        accept_loss: bool,
    },
}

pub(super) async fn run(server: &str, action: SourceAction, style: Style) -> Result<(), Ended> {
    let SourceAction::Resume { source, accept_loss } = action;
    let given_up = Client::connect(server).await?.resume_source(&source, accept_loss).await?.given_up;
    if style.json {
        println!("{}", json!({ "given_up": given_up.iter().map(given_up_json).collect::<Vec<Json>>() }));
        return Ok(());
    }
    println!("source {source} goes on; it has given up:");
    let to = |to: Option<u64>| to.map_or("?".to_string(), |to| to.to_string());
    let row = |lost: &tidemill_proto::v1::GivenUp| {
        let numbers = [lost.partition.to_string(), lost.from.to_string(), to(lost.to)];
        std::iter::once(lost.topic.clone()).chain(numbers).chain([lost.reason.clone()]).collect()
    };
    println!(
        "{}",
        table(&["topic", "partition", "from offset", "to (not in it)", "why"], given_up.iter().map(row).collect())
    );
    Ok(())
}
