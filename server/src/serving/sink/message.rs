//! What is sent of one entity: its key, and the values in the shape of `get --json`.

use serde_json::{Map, Value as Json, json};
use tidemill_features::read::{Answer, Status};
use tidemill_features::service::Keys;
use tidemill_features::time::rfc3339;

use crate::components::Server;
use crate::serving::get::Answers;
use crate::serving::{answer, row_json};

/// A message, or why there is none.
pub(super) enum Message {
    /// key, and value; without a value the entity is gone
    Send(Vec<u8>, Option<Vec<u8>>),
    /// no event of the entity has come to its time yet
    NotYet,
}

/// The messages of one answer.
pub(super) struct Messages<'a> {
    answers: &'a Answers,
    keys: &'a Keys,
    /// whether an entity can be deleted
    deletes: bool,
    /// what all rows have in common
    common: Map<String, Json>,
    /// why some values cannot be known
    unanswered: Option<(String, String)>,
}

impl<'a> Messages<'a> {
    pub(super) fn new(server: &Server, answers: &'a Answers, keys: &'a Keys, deletes: bool) -> Messages<'a> {
        let used = |source: usize| answers.plan.sources.contains(&source);
        let positions = row_json::positions(&server.registry, &answers.positions, used);
        let mut common = Map::new();
        common.insert("stale".into(), json!(answers.stale));
        common.insert("as_of".into(), json!(rfc3339(answers.read_time)));
        common.insert("positions".into(), positions.into());
        common.insert("definition_hash".into(), json!(format!("{:016x}", server.registry.hash)));
        let unanswered = answer::unanswered(server, answers).map(|why| (why.code, why.message));
        Messages { answers, keys, deletes, common, unanswered }
    }

    pub(super) fn of(&self, row: usize) -> Message {
        let is = |wanted: fn(Status) -> bool| self.answers.columns.iter().all(|column| wanted(column[row].status));
        if is(|status| status == Status::NotFound) {
            return Message::NotYet;
        }
        let as_it_is = |number: Json| number;
        let key = Json::from(row_json::key(&self.answers.plan, self.keys, row, as_it_is)).to_string().into_bytes();
        if self.deletes && is(|status| matches!(status, Status::NotFound | Status::Empty | Status::Defaulted)) {
            return Message::Send(key, None);
        }
        let mut value = row_json::row(self.answers, self.keys, row, as_it_is);
        value.extend(self.common.clone());
        if let Some((code, message)) = &self.unanswered {
            let columns = self.answers.plan.columns.iter().zip(&self.answers.columns);
            let unknown = |column: &[Answer]| column[row].is_unanswered();
            let features: Vec<&String> =
                columns.filter(|(_, column)| unknown(column)).map(|((name, _), _)| name).collect();
            if !features.is_empty() {
                value.insert("unanswered".into(), json!([{ "code": code, "message": message, "features": features }]));
            }
        }
        Message::Send(key, Some(Json::from(value).to_string().into_bytes()))
    }
}
