//! Which folder a row belongs to: its set, and below it one folder a hive key.

use std::collections::BTreeMap;

use tidemill_features::time::{DAY, rfc3339};

use super::split::Split;
use crate::failure::Failure;
use crate::offline::spine::SpineRows;

/// How a training set is laid out in files.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// the service whose features these are
    pub service: String,
    /// of the definitions
    pub definition_hash: String,
    /// sets by time
    pub split: Option<Split>,
    /// folders named `key=value`, from the outermost one
    pub hive: Vec<HiveKey>,
}

/// What folders can be named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiveKey {
    /// the service
    Service,
    /// the day of a row's time, UTC
    Date,
}

/// Where a row goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub set: usize,
    /// days since the epoch, where days have folders
    day: Option<i64>,
}

/// What Hive calls the folder of rows without a value; here of sets without rows.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

impl HiveKey {
    /// Reads a list such as `service,date`.
    pub fn parse_list(text: &str) -> Result<Vec<HiveKey>, Failure> {
        let mut keys = Vec::new();
        for name in text.split(',').map(str::trim) {
            let key = match name {
                "service" => HiveKey::Service,
                "date" => HiveKey::Date,
                other => {
                    let near = tidemill_features::problem::nearest(other, ["service", "date"]);
                    let message = format!("`{other}` is no key of folders: there are service and date");
                    return Err(Failure { near: near.into_iter().collect(), ..Failure::invalid("E3015", message) });
                }
            };
            if keys.contains(&key) {
                return Err(Failure::invalid("E3015", format!("the key `{name}` of folders is there twice")));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// As folders have it.
    pub fn name(self) -> &'static str {
        match self {
            HiveKey::Service => "service",
            HiveKey::Date => "date",
        }
    }
}

impl Layout {
    /// A split must know its bounds before the first row.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.split {
            Some(split) if !split.is_resolved() => {
                Err(Failure::internal("E3012", "a split by fractions has not been resolved into times"))
            }
            _ => Ok(()),
        }
    }

    /// What files say of themselves.
    pub(super) fn notes(&self) -> Vec<(&'static str, String)> {
        vec![("tidemill.service", self.service.clone()), ("tidemill.definition_hash", self.definition_hash.clone())]
    }

    /// Folders of the sets; one without a name where there is no split.
    pub(super) fn sets(&self) -> Vec<String> {
        self.split.as_ref().map_or_else(|| vec![String::new()], |split| split.names().map(str::to_string).collect())
    }

    /// The numbers of the rows of a batch by their places, ascending in each.
    pub(super) fn places(&self, rows: &SpineRows) -> Result<BTreeMap<Place, Vec<u32>>, Failure> {
        let by_day = self.hive.contains(&HiveKey::Date);
        let mut places: BTreeMap<Place, Vec<u32>> = BTreeMap::new();
        if self.split.is_none() && !by_day {
            let place = Place { set: 0, day: None };
            return Ok([(place, (0..rows.times.len() as u32).collect())].into());
        }
        for (number, time) in rows.times.iter().enumerate() {
            let set = match &self.split {
                None => 0,
                Some(split) => {
                    split.set_of(*time).ok_or_else(|| split.behind_all(rows.first + number as u64, *time))?
                }
            };
            let place = Place { set, day: by_day.then(|| time.div_euclid(DAY)) };
            places.entry(place).or_default().push(number as u32);
        }
        Ok(places)
    }

    /// The path of a place's folder in the training set.
    pub(super) fn folder(&self, place: Place) -> String {
        let date = place.day.map_or(NO_VALUE.to_string(), |day| rfc3339(day * DAY)[..10].to_string());
        let mut folders: Vec<String> = Vec::new();
        if let Some(split) = &self.split {
            folders.extend(split.names().nth(place.set).map(str::to_string));
        }
        for key in &self.hive {
            let value = match key {
                HiveKey::Service if self.service.is_empty() => NO_VALUE,
                HiveKey::Service => &self.service,
                HiveKey::Date => &date,
            };
            folders.push(format!("{}={value}", key.name()));
        }
        folders.join("/")
    }

    /// Folders of the sets that got no rows: a reader of `test/**` should find its columns there.
    pub(super) fn folders_without_rows(&self, rows_of_sets: &[u64]) -> Vec<String> {
        let empty = rows_of_sets.iter().enumerate().filter(|(_, rows)| **rows == 0);
        empty.map(|(set, _)| self.folder(Place { set, day: None })).collect()
    }
}
