//! Chunks on their way to the event log: some at once, so that the next ones are decoded while one is written.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use futures::FutureExt;
use tokio::runtime::Handle;

use crate::failure::{Failure, Remedy};
use crate::ingest::Receipt;
use crate::limits::KAFKA_CHUNKS_IN_FLIGHT;

type Reply = Pin<Box<dyn Future<Output = Result<Receipt, Failure>> + Send>>;

/// What is on its way, in the order in which it was sent.
#[derive(Default)]
pub(super) struct Flight {
    sent: VecDeque<Reply>,
    /// by number of the partition: where the log ends
    kept: HashMap<u32, u64>,
}

/// Why something was not kept. What was sent behind it was not, either.
pub(super) enum Refused {
    /// there was no room
    Full(String),
    /// the server ends
    Stopping,
}

impl Flight {
    pub(super) fn add(&mut self, reply: impl Future<Output = Result<Receipt, Failure>> + Send + 'static) {
        self.sent.push_back(Box::pin(reply));
    }

    /// Looks at what has arrived; waits where too much has not.
    pub(super) fn settle(&mut self, runtime: &Handle) -> Result<(), Refused> {
        loop {
            let is_full = self.sent.len() > KAFKA_CHUNKS_IN_FLIGHT;
            let Some(reply) = self.sent.front_mut() else { return Ok(()) };
            let receipt = match reply.as_mut().now_or_never() {
                Some(receipt) => receipt,
                None if !is_full => return Ok(()),
                None => runtime.block_on(reply.as_mut()),
            };
            self.sent.pop_front();
            let receipt = receipt.map_err(refused)?;
            self.kept.insert(receipt.partition, receipt.next_offset);
        }
    }

    /// Waits for everything, whatever comes of it. Gives where the log ends then, by number of the partition.
    pub(super) fn land(&mut self, runtime: &Handle) -> &HashMap<u32, u64> {
        while let Some(reply) = self.sent.pop_front() {
            if let Ok(receipt) = runtime.block_on(reply) {
                self.kept.insert(receipt.partition, receipt.next_offset);
            }
        }
        &self.kept
    }
}

fn refused(failure: Failure) -> Refused {
    match failure.remedy {
        Remedy::Exhausted => Refused::Full(failure.to_string()),
        _ => Refused::Stopping,
    }
}
