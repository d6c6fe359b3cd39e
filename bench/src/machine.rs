//! The conditions of a run, which belong to its figures.

use serde_json::{Value, json};
use std::process::Command;

#[derive(Debug)]
pub struct Conditions {
    cores: usize,
    processor: String,
    memory_gib: f64,
    kernel: String,
    commit: String,
    load_before: String,
}

impl Conditions {
    pub fn look() -> Conditions {
        Conditions {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into()),
            memory_gib: line_of("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
                .map_or(0.0, |kib| kib / 1024.0 / 1024.0),
            kernel: read("/proc/sys/kernel/osrelease"),
            commit: commit(),
            load_before: load_average(),
        }
    }

    /// To be called at the end, when the load average has become that of the run.
    pub fn to_json(&self, rest: Value) -> Value {
        let mut all = json!({
            "cores": self.cores,
            "processor": self.processor,
            "memory_gib": (self.memory_gib * 10.0).round() / 10.0,
            "kernel": self.kernel,
            "commit": self.commit,
            "load_average_before": self.load_before,
            "load_average_after": load_average(),
            "sharing": "generator, servers and databases share the cores",
        });
        if let (Some(all), Some(rest)) = (all.as_object_mut(), rest.as_object()) {
            all.extend(rest.clone());
        }
        all
    }
}

/// The load of the last one, five and fifteen minutes.
fn load_average() -> String {
    read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
    if changed { format!("{commit} and changes that are not committed") } else { commit }
}

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}
