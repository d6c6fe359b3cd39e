//! What `doctor` looks at of outgoing events: whether those who want to be told can be told.

use super::Findings;
use crate::deployment::single_threaded;
use crate::problem::Problem;
use hooks::Load;
use store::Store;

const SETTING: &str = "hooks";

pub fn check(store: &Store, findings: &mut Findings) {
    let Ok(runtime) = single_threaded() else { return };
    match runtime.block_on(store.scan(hooks::load)) {
        Ok(load) => judge(&load, findings),
        Err(error) => {
            let what = format!("The endpoints of outgoing events cannot be read: {error}.");
            findings.problems.push(Problem::new(SETTING, what, "See what is said about the database."));
        }
    }
}

fn judge(load: &Load, findings: &mut Findings) {
    if load.endpoints == 0 {
        return;
    }
    let plural =
        |count: i64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    if load.failing == 0 && load.off == 0 {
        let takes = plural(load.endpoints, "endpoint takes", "endpoints take");
        findings.good.push(format!("{takes} outgoing events"));
    }
    if load.off > 0 {
        let what =
            format!("{} switched off, and told nothing.", plural(load.off, "endpoint is", "endpoints are"));
        let fix = "See why with `tollgate hooks list`; once it answers, `tollgate hooks enable ENDPOINT`.";
        findings.advice.push(Problem::new(SETTING, what, fix));
    }
    if load.failing > 0 {
        let what =
            format!("{} no outgoing events.", plural(load.failing, "endpoint takes", "endpoints take"));
        let fix = "See what they answer with `tollgate hooks log`; deliveries are tried for three days.";
        findings.advice.push(Problem::new(SETTING, what, fix));
    }
    if load.failed > 0 {
        let what = format!("{} given up.", plural(load.failed, "delivery was", "deliveries were"));
        let fix = "See them with `tollgate hooks log --state failed`; `tollgate hooks resend --failed --since TIME` sends them again.";
        findings.advice.push(Problem::new(SETTING, what, fix));
    }
}
