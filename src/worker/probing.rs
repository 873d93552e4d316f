//! Tries what a worker must not be able to do and tells what came of it (feature `fault-points`). The calls are made
//! for real; a test asserts that every one was denied.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::libc;

/// JSON: what was tried → `denied: <why>` or `DONE`.
pub fn probe(input: &Path) -> String {
    let inside = |name: &str| input.join(name);
    let beside = input.join("../../..");
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 22));
    let mut told = serde_json::Map::new();
    let mut tell = |name: &str, result: io::Result<()>| {
        let text = match result {
            Ok(()) => "DONE".to_owned(),
            Err(error) => format!("denied: {error}"),
        };
        told.insert(name.to_owned(), text.into());
    };
    tell("open /etc/passwd", File::open("/etc/passwd").map(drop));
    tell("open /proc/self/environ", File::open("/proc/self/environ").map(drop));
    tell("list /", fs::read_dir("/").map(drop));
    tell("list the other slots", fs::read_dir(&beside).map(drop));
    tell("open a file of the other slot", File::open(beside.join("1/in/secret")).map(drop));
    tell("write into in/", fs::write(inside("written"), b"x"));
    tell("write beside in/", fs::write(inside("../written"), b"x"));
    tell("write into /tmp", fs::write("/tmp/inkpool-probe", b"x"));
    tell("remove the input's directory", fs::remove_dir_all(input));
    tell("symbolic link in out/", std::os::unix::fs::symlink("/etc/passwd", inside("../out/link")));
    tell("hard link in out/", fs::hard_link("/etc/passwd", inside("../out/hard")));
    tell("FIFO in out/", fifo(&inside("../out/fifo")));
    tell("change a mode", fs::set_permissions(inside("../out"), std::os::unix::fs::PermissionsExt::from_mode(0o777)));
    tell("TCP connect", TcpStream::connect_timeout(&loopback, Duration::from_secs(1)).map(drop));
    tell("UDP socket", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop));
    tell("Unix socket", UnixStream::connect("/run/systemd/journal/socket").map(drop));
    tell("listen", UnixListener::bind(inside("../out/socket")).map(drop));
    tell("socket pair", UnixStream::pair().map(drop));
    tell("start a program", Command::new("/bin/true").spawn().map(drop));
    tell("start a thread", std::thread::Builder::new().spawn(|| {}).map(drop));
    tell("signal the parent", kill_parent());
    tell("trace the parent", ptrace_parent());
    tell("become another user", rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1)).map_err(Into::into));
    tell("new namespace", nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(Into::into));
    tell("raise its own limit", raise_limit());
    tell("open 10,000 files", open_many(&inside("../out/many")));
    serde_json::Value::Object(told).to_string()
}

fn fifo(path: &Path) -> io::Result<()> {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)?;
    Ok(())
}

fn parent() -> io::Result<rustix::process::Pid> {
    rustix::process::getppid().ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))
}

fn kill_parent() -> io::Result<()> {
    // Signal 0 asks whether a signal could be sent.
    Ok(rustix::process::test_kill_process(parent()?)?)
}

fn ptrace_parent() -> io::Result<()> {
    let parent = nix::unistd::Pid::from_raw(parent()?.as_raw_nonzero().get());
    Ok(nix::sys::ptrace::attach(parent)?)
}

fn raise_limit() -> io::Result<()> {
    let more = rustix::process::Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, more)?)
}

fn open_many(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let files: io::Result<Vec<File>> =
        (0..10_000).map(|number| File::create(folder.join(number.to_string()))).collect();
    fs::remove_dir_all(folder)?;
    files.map(drop)
}
