//! The one test binary: every end-to-end, parity and crash test of the project, and the house rules.

mod across;
mod bad_input;
mod crash;
mod engine;
mod exports;
mod flights;
mod golden;
mod hard_cases;
mod histories;
mod metamorphic;
mod parity;
mod readme;
mod replay;
mod sealing;
mod serving;
mod snapshots;
mod sql;
mod templates;
mod tidy;
mod training_set;
mod trickle;
mod verify;
mod vocabulary;
