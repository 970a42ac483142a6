//! The one test binary: every end-to-end, parity and crash test of the project, and the house rules.

mod across;
mod crash;
mod engine;
mod exports;
mod flights;
mod golden;
mod hard_cases;
mod metamorphic;
mod parity;
mod readme;
mod replay;
mod sealing;
mod services;
mod serving;
mod sql;
mod templates;
mod tidy;
mod training_set;
mod verify;
mod vocabulary;
