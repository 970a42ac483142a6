//! The gRPC door of jobs: each runs on a thread of its own, tells how far it is, and is stopped when its caller goes away or
//! neither sends nor takes anything for long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill_proto::v1::offline_server::Offline;
use tidemill_proto::v1::{
    BackfillProgress, BackfillRequest, Column, ExportRequest, HistoryRequest, HistoryResponse, JobProgress, JobResult,
    SnapshotRequest, VerifyDifference, VerifyRequest, VerifyResponse, history_request::Part,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::answer::{explanation_to_wire, positions_where};
use super::grpc::Api;
use super::status::to_grpc;
use super::training::{Job, Progress};
use super::verify::{Difference, Verified, verify};
use super::wire::{to_wire, values_to_wire};
use crate::components::Server;
use crate::failure::{Failure, Remedy};
use crate::limits::CALLER_IDLE;
use crate::metrics;

type Steps<T = JobProgress> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that wait for a slow caller; the job waits with the next one.
const MESSAGES: usize = 4;

/// Stops a job when what waits for it is dropped.
pub(super) struct StopOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a job, which tells of itself in messages.
fn run<T: Send + 'static>(
    server: Arc<Server>,
    method: &'static str,
    work: impl FnOnce(&Job<'_>, &mut dyn FnMut(T)) -> Result<(), Failure> + Send + 'static,
) -> Result<Response<Steps<T>>, Status> {
    let Ok(place) = server.jobs.clone().try_acquire_owned() else {
        let message = "as many jobs are under way as this server runs at once; try again later";
        return Err(to_grpc(Failure::new(Remedy::Exhausted, "E3025", message)));
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (messages, told) = tokio::sync::mpsc::channel(MESSAGES);
    let stopped = stop.clone();
    tokio::task::spawn_blocking(move || {
        let mut tell = |message| {
            if !sent(&messages, Ok(message)) {
                stopped.store(true, Ordering::Relaxed);
            }
        };
        let has_log = server.reader.past.check_whole();
        let done = has_log.and_then(|()| work(&Job { server: &server, stop: &stopped }, &mut tell));
        metrics::job(method, done.as_ref().map_or_else(|failure| failure.code, |()| "OK"));
        // Before the caller learns of the end: the next job may come at once.
        drop(place);
        if let Err(failure) = done {
            sent(&messages, Err(to_grpc(failure)));
        }
    });
    let guard = StopOnDrop(stop);
    let told = tokio_stream::wrappers::ReceiverStream::new(told).map(move |message| {
        let _ = &guard;
        message
    });
    Ok(Response::new(Box::pin(told)))
}

/// Waits until there is room for a message, from the thread of a job. False: nobody takes it.
fn sent<T>(messages: &Sender<Result<T, Status>>, message: Result<T, Status>) -> bool {
    let sending = async { tokio::time::timeout(CALLER_IDLE, messages.send(message)).await };
    matches!(Handle::current().block_on(sending), Ok(Ok(())))
}

/// The next part of what a caller sends, awaited on the thread of a job; None behind the last one.
fn next_part(server: &Server, sent: &mut Streaming<HistoryRequest>) -> Result<Option<Part>, Failure> {
    let away = |what: String| Failure::new(Remedy::Unavailable, "E3023", format!("the job was stopped: {what}"));
    let next = async {
        tokio::select! {
            message = tokio::time::timeout(CALLER_IDLE, sent.message()) => match message {
                Ok(message) => message.map_err(|status| away(format!("the spine did not come: {}", status.message()))),
                Err(_) => Err(away(format!("nothing was sent for {} s", CALLER_IDLE.as_secs()))),
            },
            () = server.closed() => Err(away("the server stops".to_string())),
        }
    };
    match Handle::current().block_on(next)? {
        None => Ok(None),
        Some(HistoryRequest { part: Some(part) }) => Ok(Some(part)),
        Some(HistoryRequest { part: None }) => Err(Failure::field("E3054", "part", "an empty message")),
    }
}

/// A job that writes files: steps, then the result.
fn run_writing(
    server: Arc<Server>,
    method: &'static str,
    work: impl FnOnce(&Job<'_>, &mut Progress<'_>) -> Result<JobResult, Failure> + Send + 'static,
) -> Result<Response<Steps>, Status> {
    run(server, method, move |job, tell| {
        let result = work(job, &mut |rows, rows_total| tell(JobProgress { rows, rows_total, result: None }))?;
        tell(JobProgress { rows: result.rows, rows_total: result.rows, result: Some(result) });
        Ok(())
    })
}

fn verified_to_wire(server: &Server, verified: &Verified) -> VerifyResponse {
    VerifyResponse {
        sampled: verified.sampled,
        differences: verified.differences,
        outdated: verified.outdated,
        beyond: verified.beyond,
        shown: verified.shown.iter().map(|difference| difference_to_wire(server, difference)).collect(),
    }
}

fn difference_to_wire(server: &Server, difference: &Difference) -> VerifyDifference {
    let (status, value) = &difference.served;
    let mut served = values_to_wire(&difference.data_type, std::iter::once(value), 1);
    served.statuses = vec![*status].into();
    let given = difference.given.iter().map(|(name, data_type, value)| {
        let column = values_to_wire(data_type, std::iter::once(value), 1);
        Column { name: name.clone(), ..column }
    });
    VerifyDifference {
        feature: difference.feature.clone(),
        given: given.collect(),
        read_time: difference.time,
        served: Some(served),
        recomputed: Some(to_wire(
            String::new(),
            &difference.data_type,
            std::slice::from_ref(&difference.recomputed),
            false,
        )),
        redefined: difference.redefined,
        explained: difference.explained.as_ref().map(|of| explanation_to_wire(server, &difference.feature, of)),
        positions: positions_where(server, &difference.positions, |_| true),
        definition_hash: format!("{:016x}", difference.definition_hash),
    }
}

#[tonic::async_trait]
impl Offline for Api {
    type ExportStream = Steps;
    type HistoryStream = Steps<HistoryResponse>;
    type SnapshotStream = Steps;
    type VerifyStream = Steps<VerifyResponse>;
    type BackfillStream = Steps<BackfillProgress>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let request = request.into_inner();
        run_writing(self.server.clone(), "Export", move |job, progress| job.export(&request, progress))
    }

    async fn history(
        &self,
        request: Request<Streaming<HistoryRequest>>,
    ) -> Result<Response<Self::HistoryStream>, Status> {
        let (server, mut sent) = (self.server.clone(), request.into_inner());
        run(self.server.clone(), "History", move |job, tell| {
            let Some(Part::Start(start)) = next_part(&server, &mut sent)? else {
                return Err(Failure::field("E3054", "start", "the first message says what is asked for"));
            };
            let mut chunks = || match next_part(&server, &mut sent)? {
                None => Ok(None),
                Some(Part::Arrow(bytes)) => Ok(Some(bytes)),
                Some(Part::Start(_)) => Err(Failure::field("E3054", "start", "it is in the first message only")),
            };
            job.history(&start, &mut chunks, tell)
        })
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        let count = match request.get_ref().sample {
            0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(usize::MAX),
        };
        run(self.server.clone(), "Verify", move |job, told| {
            let verified = verify(job, &job.server.answers_folder(), count)?;
            told(verified_to_wire(job.server, &verified));
            Ok(())
        })
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let request = request.into_inner();
        run_writing(self.server.clone(), "Snapshot", move |job, progress| job.snapshot(&request, progress))
    }

    async fn backfill(&self, request: Request<BackfillRequest>) -> Result<Response<Self::BackfillStream>, Status> {
        let view = request.into_inner().view;
        run(self.server.clone(), "Backfill", move |job, tell| job.backfill(&view, tell))
    }
}
