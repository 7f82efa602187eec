//! What the host lays out to be found: one for the whole suite.

use crate::stage::Stage;
use fumehood::app::selftest::decoys::Decoys;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::OnceLock;

pub(crate) fn decoys() -> &'static Decoys {
    static DECOYS: OnceLock<Decoys> = OnceLock::new();
    DECOYS.get_or_init(|| {
        let home = std::env::var_os("HOME").map_or("/root".into(), PathBuf::from);
        Decoys::lay_out(&home).unwrap()
    })
}

pub(crate) fn told_in(stage: &Stage) -> Value {
    decoys().told(&stage.path("workspace"))
}
