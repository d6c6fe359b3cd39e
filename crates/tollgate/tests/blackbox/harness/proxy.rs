//! A real reverse proxy, configured by what a guide says.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::wait::until;

pub struct Proxy {
    pub address: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl Proxy {
    /// nginx with these servers, which listen on that address.
    pub fn nginx(address: SocketAddr, servers: &str) -> Proxy {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut text = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log stderr warn;\nevents {{}}\nhttp {{\naccess_log off;\n",
            path("pid")
        );
        for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            text.push_str(&format!("{name}_temp_path {};\n", path(name)));
        }
        text.push_str(servers);
        text.push_str("\n}\n");
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).expect("the folder is ours");
        let mut command = Command::new(program("TOLLGATE_TEST_NGINX"));
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        Proxy::run(command, address, folder)
    }

    /// Caddy with this file, whose site listens on that address.
    pub fn caddy(address: SocketAddr, caddyfile: &str) -> Proxy {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("Caddyfile");
        let text = format!("{{\n\tadmin off\n\tauto_https off\n}}\n{caddyfile}");
        std::fs::write(&file, text).expect("the folder is ours");
        let mut command = Command::new(program("TOLLGATE_TEST_CADDY"));
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
        command
            .env("HOME", folder.path())
            .env("XDG_DATA_HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path());
        Proxy::run(command, address, folder)
    }

    fn run(mut command: Command, address: SocketAddr, folder: TempDir) -> Proxy {
        let log = std::fs::File::create(folder.path().join("log")).expect("the folder is ours");
        let errors = log.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut proxy = Proxy { address, process, folder };
        until(Duration::from_secs(20), "the proxy to listen", || {
            let ended = proxy.process.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the proxy ended at once ({ended:?}):\n{}", proxy.log());
            TcpStream::connect(address).ok()
        });
        proxy
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the proxy's log:\n{}", self.log());
        }
    }
}

fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{variable} names the program: run `cargo xtask test`, or `cargo xtask services cargo test …`")
    })
}
