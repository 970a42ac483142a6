//! The oracle: a naive second reading of `design/semantics.md`, used only to attack the engine.
//! It shares no code and no idea with the engine: a list of rows, filters, sorts and exact fractions.
//! It is slow on purpose. Where oracle and engine differ, one of them (or the page) is a bug.
//!
//! Reading order: `model` and `vocabulary` (the words), `expression` and `evaluate` (SQL scalars), `accept` (what
//! becomes of an event), `number` (exact arithmetic), `bounded` (how far off an answer may be), `aggregate` (inputs
//! to one value, by way of `statistics`, `categories` and `vectors`), `window` and `calendar` (which events), `read`
//! (key and T to answers), `joins` (tables beside events), `derived` and `service` (many views at once), `toml` (the
//! same definitions as a file for the engine), `generate` (random cases, made of `generate_sql`,
//! `generate_definitions`, `generate_aggregates`, `generate_derived` and `generate_log`).
#![allow(dead_code)]

pub mod accept;
pub mod aggregate;
pub mod bounded;
pub mod calendar;
pub mod categories;
pub mod derived;
pub mod evaluate;
pub mod expression;
pub mod generate;
pub mod generate_aggregates;
pub mod generate_definitions;
pub mod generate_derived;
pub mod generate_log;
pub mod generate_sql;
pub mod joins;
pub mod model;
pub mod number;
pub mod read;
#[cfg(test)]
mod sample;
pub mod service;
pub mod statistics;
pub mod toml;
pub mod vectors;
pub mod vocabulary;
pub mod window;
