//! The processes under test: started with a log of their own, measured through `/proc`, and stopped by their id however
//! this program ends.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STOP_WITHIN: Duration = Duration::from_secs(20);

pub struct Process {
    name: String,
    child: Child,
    stop_signal: Signal,
    keeper: Keeper,
    log: PathBuf,
}

impl Process {
    /// Starts a program; its output goes to `log`, which replaces an older one.
    pub fn start(
        name: &str,
        command: &mut Command,
        stop_signal: Signal,
        log: &Path,
    ) -> Result<Process, String> {
        let failed = |error: std::io::Error| format!("{name} did not start: {error}");
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone().map_err(failed)?).stderr(file);
        // Before the process, so that it takes nothing from a measured start.
        let mut keeper = Keeper::wait_for_a_process(stop_signal)?;
        let child = command.spawn().map_err(failed)?;
        keeper.watch(child.id());
        Ok(Process { name: name.to_owned(), child, stop_signal, keeper, log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of the log when the process is gone.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(format!("{} has ended ({status}); its log ends:\n{}", self.name, self.log_end()))
            }
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub fn stop(&mut self) {
        if self.check_alive().is_ok() {
            if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
                // Just ended is as good.
                let _ = kill_process(pid, self.stop_signal);
            }
            let began = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) {
                if began.elapsed() > STOP_WITHIN {
                    eprintln!("{} did not stop in {} s and is killed", self.name, STOP_WITHIN.as_secs());
                    let _ = self.child.kill();
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = self.child.wait();
        }
        self.keeper.dismiss();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A shell at the end of a pipe. When this program ends without stopping its processes (Ctrl-C, `kill -9`), the pipe
/// closes, and the shell stops the process it was told of.
struct Keeper {
    shell: Child,
}

impl Keeper {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        read -r process || exit 0
        read -r word && exit 0
        kill -s "$1" "$process" 2>/dev/null
        for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 "$process" 2>/dev/null || exit 0; sleep 0.5; done
        kill -s KILL "$process" 2>/dev/null
    "#;

    fn wait_for_a_process(stop_signal: Signal) -> Result<Keeper, String> {
        let name = if stop_signal == Signal::INT { "INT" } else { "TERM" };
        let shell = Command::new("sh")
            .args(["-c", Self::SCRIPT, "keeper", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("no shell to watch over a process: {error}"))?;
        Ok(Keeper { shell })
    }

    fn watch(&mut self, process: u32) {
        self.say(&format!("{process}\n"));
    }

    fn dismiss(&mut self) {
        self.say("done\n");
        self.shell.stdin = None;
        let _ = self.shell.wait();
    }

    fn say(&mut self, text: &str) {
        if let Some(pipe) = &mut self.shell.stdin {
            // A keeper that is gone has nothing to be told.
            let _ = pipe.write_all(text.as_bytes());
        }
    }
}

/// The process and everything it started.
pub fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let process: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((process, stat(process)?.get(1)?.parse().ok()?))
        })
        .collect();
    let mut members = vec![root];
    let mut at = 0;
    while at < members.len() {
        let parent = members[at];
        members.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        at += 1;
    }
    members
}

/// Resident memory of all of them in MiB. Shared pages count in each, as `VmRSS` does.
pub fn resident_mib(processes: &[u32]) -> f64 {
    let of = |&process: &u32| field(&format!("/proc/{process}/status"), "VmRSS:");
    processes.iter().filter_map(of).sum::<f64>() / 1024.0
}

/// Memory in MiB with shared pages divided among those that share them.
pub fn proportional_mib(processes: &[u32]) -> f64 {
    let of = |&process: &u32| field(&format!("/proc/{process}/smaps_rollup"), "Pss:");
    processes.iter().filter_map(of).sum::<f64>() / 1024.0
}

/// A figure in kB from one of the kernel's tables.
fn field(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time that all of them have used.
pub fn processor_time(processes: &[u32]) -> Duration {
    // The kernel counts these in hundredths of a second, whatever its own tick.
    let ticks = |&process: &u32| {
        let stat = stat(process)?;
        Some(stat.get(11)?.parse::<u64>().ok()? + stat.get(12)?.parse::<u64>().ok()?)
    };
    Duration::from_millis(processes.iter().filter_map(ticks).sum::<u64>() * 10)
}

/// The fields of `/proc/PID/stat` behind the name, which may hold blanks itself: state, parent, …
fn stat(process: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_and_stopped() {
        let log = std::env::temp_dir().join(format!("tollgate-bench-process-{}", std::process::id()));
        let mut process =
            Process::start("sleep", Command::new("sleep").arg("600"), Signal::TERM, &log).unwrap();
        assert!(family(std::process::id()).contains(&process.id()));
        assert!(resident_mib(&[process.id()]) > 0.1);
        process.check_alive().unwrap();
        process.stop();
        assert!(process.check_alive().is_err());
        assert!(!family(std::process::id()).contains(&process.id()));
        std::fs::remove_file(log).unwrap();
    }
}
