//! The peers: Python packages, each in a process of its own, on the same rows and queries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};
use tidemill::vectors::{Hit, Metric};

use super::{EF_USUAL, EFS, Point, RECALL_MOST, Set};

/// Their names.
pub const ENGINES: [&str; 4] = ["hnswlib", "faiss", "usearch", "usearch-f16"];

/// What one of them needed.
pub struct Measured {
    pub build: f64,
    pub bytes: f64,
    pub points: Vec<Point>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn said(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_string())
}

/// The folder of the sets, which are fetched if they are not there.
pub fn fetched() -> Result<String> {
    said(Command::new(root().join("benches/data/vectors")))
}

/// Builds and searches with one of them.
pub fn measure(engine: &str, set: &Set, metric: Metric, truth: &[Vec<Hit>]) -> Result<Measured> {
    let folder = tempfile::tempdir()?;
    let floats = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    std::fs::write(folder.path().join("rows.f32"), floats(&set.rows))?;
    std::fs::write(folder.path().join("queries.f32"), floats(&set.queries))?;
    let keys = truth.iter().flatten().flat_map(|hit| hit.key.iter().rev().copied());
    std::fs::write(folder.path().join("truth.u32"), keys.collect::<Vec<u8>>())?;
    let shape = json!({ "dims": set.dims, "efs": EFS, "ef_usual": EF_USUAL, "recall_most": RECALL_MOST });
    std::fs::write(folder.path().join("shape.json"), shape.to_string())?;
    let python = said(Command::new(root().join("scripts/python-vectors")))?;
    let mut command = Command::new(python);
    command.arg(root().join("benches/peers/vectors.py")).arg(engine).arg(folder.path());
    command.arg(format!("{metric:?}").to_lowercase());
    let said: Json = serde_json::from_str(&said(command)?)?;
    let number = |from: &Json, name: &str| from[name].as_f64().context("a number");
    let points = said["points"].as_array().context("points")?;
    let point = |point: &Json| {
        let ef = point["ef"].as_u64().context("a number")? as usize;
        Ok(Point { ef, recall: number(point, "recall")?, speed: number(point, "qps")? })
    };
    let points = points.iter().map(point).collect::<Result<Vec<_>>>()?;
    Ok(Measured { build: number(&said, "build")?, bytes: number(&said, "bytes")?, points })
}
