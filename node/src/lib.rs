//! The node: drives Trine's machines with real sockets, disks and clocks, and is the `trine` binary.
//!
//! Everything that touches the outside goes through [`runtime::Runtime`]; the rest is written once
//! over it, so that a simulator can run the same shell.
//!
//! # Reading order
//!
//! [`runtime`] (the outside world and its tokio implementation) → [`transport`] (links to other
//! processes) → [`driver`] (the loop of the core's calling contract) → [`http`], [`tls`], [`ready`] → [`config`],
//! [`files`], [`data`] (settings and what is in the data directory) → [`members`] (the nodes of a cluster), [`hosting`] (the stores of a
//! process) → [`admin`] (what operators ask) → [`app`] (start, serve, stop). [`mod@bench`] stands beside all
//! of it: it is a client, which shares nothing with the server but the command line. So does [`inspect`], which
//! reads the disks of stores that do not run.
//!
//! # What is deliberately absent
//!
//! Protocol and storage logic (`trine-core`), S3 (`trine-s3`), and `spawn_blocking`: blocking work
//! has its own named threads, inside the runtime's implementation.

pub mod admin;
pub mod app;
pub mod bench;
pub mod config;
pub mod data;
pub mod driver;
pub mod files;
pub mod hosting;
pub mod http;
pub mod inspect;
pub mod members;
pub mod ready;
pub mod runtime;
pub mod tls;
pub mod transport;
