//! The words everything else is said in: values without behaviour, clock, disk or network.

pub mod alarm;
pub mod control;
pub mod device;
pub mod event;
pub mod ids;
pub mod limit;
pub mod message;
pub mod net;
pub mod outcome;
pub mod question;
pub mod spec;
pub mod stop;
