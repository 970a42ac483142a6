//! Child processes and their CPU time.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tidemill_client::Client;

/// A child that is killed when dropped.
pub struct Process {
    child: Child,
    /// where it listens
    pub address: String,
}

impl Process {
    /// Starts a command that listens on `address`.
    pub fn start(command: &mut Command, address: String) -> Result<Process> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("starting a server")?;
        Ok(Process { child, address })
    }

    /// CPU seconds so far, user and system.
    pub fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        // USER_HZ is 100 on every Linux that Rust runs on.
        Ok(ticks / 100.0)
    }

    /// Resident bytes.
    pub fn resident(&self) -> Result<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages: u64 = statm.split_whitespace().nth(1).unwrap_or("0").parse()?;
        Ok(pages * 4096)
    }

    /// Begins the greatest resident size anew.
    pub fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    /// The greatest resident size, in bytes.
    pub fn peak_resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes: u64 = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0").parse()?;
        Ok(kilobytes * 1024)
    }

    /// SIGTERM, and waits.
    pub fn terminate(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free address.
pub fn free_address() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

fn binary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("tidemill");
    anyhow::ensure!(path.is_file(), "{} is missing: cargo build --release first", path.display());
    Ok(path)
}

/// `tidemill serve` on a project folder, ready.
pub async fn tidemill(project: &Path) -> Result<(Process, Client)> {
    tidemill_with(project, &[]).await
}

/// The same with more flags.
pub async fn tidemill_with(project: &Path, flags: &[&str]) -> Result<(Process, Client)> {
    let address = free_address()?;
    let mut command = Command::new(binary()?);
    command.arg("serve").arg(project).args(["--listen", &address, "--metrics-listen", "", "--quiet"]).args(flags);
    let process = Process::start(&mut command, address)?;
    for _ in 0..3000 {
        if let Ok(client) = Client::connect(&process.address).await
            && client.status().await.is_ok()
        {
            return Ok((process, client));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the server did not start")
}

/// A project folder.
pub fn project(definitions: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("features"))?;
    std::fs::write(folder.path().join("features/bench.toml"), definitions)?;
    Ok(folder)
}

/// CPU seconds of this thread so far, to the nanosecond.
pub fn own_cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = stat.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(nanos / 1e9)
}
