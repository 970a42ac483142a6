//! What stands in the place of `s3` in a build without it: a sentence that says so.

use std::io::Write;
use std::path::Path;

use super::{Expected, Mark, Object, ObjectError};
use crate::settings::S3Settings;

/// There is none.
pub(super) enum Bucket {}

impl Bucket {
    pub(super) fn open(name: &str, _settings: &S3Settings) -> Result<Bucket, ObjectError> {
        let message =
            format!("s3://{name}: this program was built without object stores; build it with the feature `s3`");
        Err(ObjectError::Invalid(message))
    }

    pub(super) fn below(&self, _key: &str, _most: usize) -> Result<Vec<Object>, ObjectError> {
        match *self {}
    }

    pub(super) fn head(&self, _key: &str) -> Result<Option<(u64, Option<Mark>)>, ObjectError> {
        match *self {}
    }

    pub(super) fn put(&self, _file: &Path, _key: &str) -> Result<(), ObjectError> {
        match *self {}
    }

    pub(super) fn write(&self, _: Vec<u8>, _key: &str, _: &Expected) -> Result<Option<Mark>, ObjectError> {
        match *self {}
    }

    pub(super) fn copy(&self, _key: &str, _: u64, _: Option<&Mark>, _to: &mut dyn Write) -> Result<(), ObjectError> {
        match *self {}
    }

    pub(super) fn remove(&self, _key: &str) -> Result<(), ObjectError> {
        match *self {}
    }
}
