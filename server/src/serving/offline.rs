//! The gRPC door of jobs: each runs on a thread of its own, tells how far it is, and is stopped when its caller goes away.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill_proto::v1::offline_server::Offline;
use tidemill_proto::v1::{
    BackfillProgress, BackfillRequest, Column, ExportRequest, JobProgress, JobResult, SnapshotRequest,
    VerifyDifference, VerifyRequest, VerifyResponse,
};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::grpc::Api;
use super::status::to_grpc;
use super::training::{Job, Progress};
use super::verify::{Difference, Verified, verify};
use super::wire::{to_wire, values_to_wire};
use crate::components::Server;
use crate::failure::{Failure, Remedy};
use crate::metrics;

type Steps<T = JobProgress> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that wait for a slow caller; the job waits with the next one.
const MESSAGES: usize = 4;

/// Stops a job when the stream that tells of it is dropped.
struct StopOnDrop(Arc<AtomicBool>);

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
        let _place = place;
        let mut tell = |message| {
            let _ = messages.blocking_send(Ok(message));
        };
        let done = work(&Job { server: &server, stop: &stopped }, &mut tell);
        metrics::job(method, done.as_ref().map_or_else(|failure| failure.code, |()| "OK"));
        if let Err(failure) = done {
            let _ = messages.blocking_send(Err(to_grpc(failure)));
        }
    });
    let guard = StopOnDrop(stop);
    let told = tokio_stream::wrappers::ReceiverStream::new(told).map(move |message| {
        let _ = &guard;
        message
    });
    Ok(Response::new(Box::pin(told)))
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

fn verified_to_wire(verified: &Verified) -> VerifyResponse {
    VerifyResponse {
        sampled: verified.sampled,
        differences: verified.differences,
        outdated: verified.outdated,
        beyond: verified.beyond,
        shown: verified.shown.iter().map(difference_to_wire).collect(),
    }
}

fn difference_to_wire(difference: &Difference) -> VerifyDifference {
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
    }
}

#[tonic::async_trait]
impl Offline for Api {
    type ExportStream = Steps;
    type SnapshotStream = Steps;
    type VerifyStream = Steps<VerifyResponse>;
    type BackfillStream = Steps<BackfillProgress>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let request = request.into_inner();
        run_writing(self.server.clone(), "Export", move |job, progress| job.export(&request, progress))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        let count = match request.get_ref().sample {
            0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(usize::MAX),
        };
        run(self.server.clone(), "Verify", move |job, told| {
            let verified = verify(job, &job.server.answers_folder(), count)?;
            told(verified_to_wire(&verified));
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
