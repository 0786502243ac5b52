//! `auditor check`: reads a configuration as every other command would, and prints what would be in force.

use super::{Failure, print, rule_ids};
use crate::{
    cli::CheckArgs,
    config::{CommonFlags, LiveFlags, ServeFlags, resolve},
};

pub(super) fn run(arguments: &CheckArgs) -> Result<(), Failure> {
    let mut common: CommonFlags = arguments.common.clone();
    common.config = Some(arguments.file.clone());
    let (live, serve): (&LiveFlags, &ServeFlags) = (&arguments.live, &arguments.serve);
    let config = resolve(&common, live, serve, &rule_ids())?;
    print(&config.to_string())
}
