//! The servers that a node is compared with: the constant responder, nginx and Redis.
//!
//! **Not here**: what is asked of them (`suite`).

use std::fs;
use std::path::Path;

use crate::error::{Result, Tried};
use crate::process::{Process, Up, find, free_port};
use crate::starter;

/// Starts this program's constant responder as a process of its own.
pub(crate) fn start_constant(scratch: &Path, cpu: usize, bytes: usize, read_body: bool) -> Result<Process> {
    let port = free_port()?;
    let program = std::env::current_exe().tried(|| "find this program".into())?;
    let mut command = starter::command(program);
    command.args([
        "constant",
        "--port",
        &port.to_string(),
        "--cpu",
        &cpu.to_string(),
        "--bytes",
        &bytes.to_string(),
    ]);
    if read_body {
        command.arg("--read-body");
    }
    let output = scratch.join("constant.out");
    Process::start("the constant responder", command, &[cpu], port, Up::Answers("/"), output)
}

/// Starts nginx with one worker that answers everything with the same `bytes`; none if it is not installed.
pub(crate) fn start_nginx(scratch: &Path, cpu: usize, bytes: usize) -> Result<Option<Process>> {
    let Some(program) = find("nginx") else { return Ok(None) };
    let port = free_port()?;
    let home = scratch.join("nginx");
    fs::create_dir_all(&home).tried(|| format!("create {}", home.display()))?;
    // No logs, no limits on kept-alive connections: as little as it can do.
    let text = "x".repeat(bytes.saturating_sub(2));
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr;\n\
         events {{ worker_connections 20000; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; default_type application/json;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi;\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '\"{text}\"'; }} }} }}\n"
    );
    let path = home.join("nginx.conf");
    fs::write(&path, configuration).tried(|| format!("write {}", path.display()))?;
    let mut command = starter::command(program);
    command.arg("-p").arg(&home).arg("-c").arg(&path).args(["-e", "stderr"]);
    let output = scratch.join("nginx.out");
    Process::start("nginx", command, &[cpu], port, Up::Answers("/"), output).map(Some)
}

/// Starts Redis without persistence; none if it is not installed.
pub(crate) fn start_redis(scratch: &Path, cpu: usize) -> Result<Option<Process>> {
    let Some(program) = find("redis-server") else { return Ok(None) };
    let port = free_port()?;
    let mut command = starter::command(program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.current_dir(scratch);
    Process::start("Redis", command, &[cpu], port, Up::Accepts, scratch.join("redis.out")).map(Some)
}
