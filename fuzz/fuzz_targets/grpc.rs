//! Any bytes as gRPC messages, given to what stands behind the doors of a running server: an answer of the right shape, or an
//! error with its number that is not "internal".
//!
//! The server keeps what earlier cases pushed, up to a limit; a find that does not come back alone needs the cases before it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message;
use tidemill::failure::{Failure, Remedy};
use tidemill::serving::answer;
use tidemill_fuzz::running::Doors;
use tidemill_proto::v1;

static DOORS: LazyLock<Doors> = LazyLock::new(Doors::default);

fn sound<T>(result: Result<T, Failure>) -> Option<T> {
    result.map_err(|failure| assert!(failure.remedy != Remedy::Internal, "{failure}")).ok()
}

fn get(request: &v1::GetRequest) {
    let Some(answer) = sound(DOORS.get(request)) else { return };
    let rows: Vec<u32> = answer.columns.iter().map(|column| column.rows).collect();
    assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "columns of different lengths: {rows:?}");
    assert!(answer.columns.is_empty() != answer.arrow.is_empty() || rows.is_empty());
    let bytes = answer.encode_to_vec();
    assert!(v1::GetResponse::decode(&bytes[..]).is_ok());
}

fn explain(request: &v1::ExplainRequest) {
    if let Some(answer) = sound(DOORS.explain(request)) {
        assert!(answer.bit_identical, "the value out of the log is another: {answer:?}");
    }
}

fn push(request: v1::PushRequest) {
    if let Some(answer) = sound(DOORS.push(request)) {
        assert!(answer.dead_letters.len() as u64 <= answer.dead_lettered && answer.positions.len() == 1);
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((kind, bytes)) = data.split_first() else { return Corpus::Reject };
    let kept = match kind % 5 {
        0 => v1::GetRequest::decode(bytes).map(|request| get(&request)),
        1 => v1::PushRequest::decode(bytes).map(push),
        2 => v1::ExplainRequest::decode(bytes).map(|request| explain(&request)),
        3 => v1::CheckRequest::decode(bytes).map(|request| drop(sound(answer::check(request)))),
        _ => v1::DeadLettersRequest::decode(bytes).map(|request| drop(sound(DOORS.dead_letters(&request)))),
    };
    if kept.is_ok() { Corpus::Keep } else { Corpus::Reject }
});
