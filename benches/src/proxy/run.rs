//! The parts, one after the other, and what they print.

use anyhow::Result;

use super::plan::{Part, Plan};
use super::{added, claim, claim_report, memory};
use crate::draw::hosts;
use crate::files;
use crate::server::Server;
use crate::table;

/// Runs the plan, prints the tables, writes the files.
///
/// # Errors
/// A process does not start, or ends by itself; the text holds the ends of the logs.
pub fn run(plan: &Plan) -> Result<()> {
    match plan.parts.contains(&Part::Added) {
        true => plan.servers.check_rounds(plan.rounds)?,
        // Only that part has the same cells for both builds.
        false => plan.servers.check_no_baseline("a run of these parts")?,
    }
    // Twice: a proxy has a connection to a member for each one that it accepted.
    files::allow(2 * (plan.idle + plan.watches).max(plan.clients))?;
    let servers = plan.servers.find_with_v2()?;
    let mut files: Vec<(&str, String)> = Vec::new();
    let mut text = String::new();
    let mut changes = None;
    for part in &plan.parts {
        let section = match part {
            Part::Claim => {
                let cells = crate::block_on(claim::run(plan, &servers))?;
                let chart = claim_report::chart(plan, &servers, &cells);
                files.push(("proxy.svg", hosts::draw(&chart)));
                claim_report::markdown(plan, &servers, &cells)
            }
            Part::Added => {
                let cells = crate::block_on(added::run(plan, &servers))?;
                changes = Some(added::changes(plan, &servers, &cells));
                added::markdown(plan, &servers, &cells)
            }
            Part::Memory => memory_section(plan, &servers)?,
        };
        let section = format!("## {}\n\n{section}\n", part.title());
        print!("{section}");
        text += &section;
    }
    files.push(("proxy.md", text));
    if let Some(out) = &plan.out {
        table::write(out, &files)?;
    }
    match changes {
        Some(changes) => plan.servers.judge(|| changes),
        None => Ok(()),
    }
}

fn memory_section(plan: &Plan, servers: &[Server]) -> Result<String> {
    let cells = crate::block_on(memory::run(plan, servers))?;
    Ok(memory::markdown(plan, servers, &cells))
}

impl Part {
    /// Its heading.
    fn title(self) -> &'static str {
        match self {
            Part::Claim => "Proxies or members",
            Part::Added => "What a proxy adds",
            Part::Memory => "What a proxy holds",
        }
    }
}
