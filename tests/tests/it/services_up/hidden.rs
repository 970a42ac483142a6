//! What the script says where something is missing: one line, and not with success.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tidemill_tests::services::{Place, Server, script};

/// A folder with everything of this machine's PATH but some commands.
fn without(hidden: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for place in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !hidden.iter().any(|hidden| name == *hidden) {
                // The first of a name counts, as in PATH.
                let _ = symlink(entry.path(), folder.path().join(name));
            }
        }
    }
    folder
}

fn run(path: &Path, cache: &Path, arguments: &[&str]) -> Output {
    let bash = path.join("bash");
    let mut command = Command::new(bash);
    command.arg(script()).args(arguments).env("PATH", path).env("TIDEMILL_SERVICES", cache).env_remove("JAVA_HOME");
    command.output().unwrap()
}

/// Fails with one line on standard error; this line.
fn one_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    let mut lines = text.lines().filter(|line| !line.contains("tests/services: installing"));
    let line = lines.next().unwrap_or_default().to_string();
    assert_eq!((lines.next(), output.stdout.is_empty()), (None, true), "{text}");
    line
}

#[test]
fn without_java_it_says_so_in_one_line() {
    let path = without(&["java", "apt-get"]);
    let cache = tempfile::tempdir().unwrap();
    let whole: PathBuf = tidemill_tests::services::installed("").join("");
    for arguments in
        [&["up", "kafka", "3"][..], &["up", "registry"], &["install"], &["install", "kafka"], &["path", "kafka"]]
    {
        for cache in [cache.path(), &whole] {
            let line = one_line(&run(path.path(), cache, arguments));
            let wanted = "missing: java 17 or newer in PATH (apt-get install default-jre-headless)";
            assert!(line.contains(wanted), "{arguments:?}: {line}");
        }
    }
}

#[test]
fn what_is_not_installed_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let everything = without(&[]);
    for (name, line) in [
        ("kafka", "kafka is not installed (tests/services install kafka)"),
        ("redis-cli", "redis is not installed (tests/services install redis)"),
        ("mongo", "`mongo` has no path; there are java, kafka, registry, redis, redis-cli and valkey"),
    ] {
        let said = one_line(&run(everything.path(), cache.path(), &["path", name]));
        assert_eq!(said, format!("tests/services: {line}"));
    }
    let said = one_line(&run(everything.path(), cache.path(), &["up", "kafka", "9"]));
    assert!(said.ends_with("kafka takes 1 to 5 brokers, not 9"), "{said}");
}

/// The addresses are there when it says so, and nothing is left when it ends.
#[test]
fn up_prints_addresses_and_takes_down_what_it_started() {
    use std::io::{BufRead, BufReader};
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(script());
    command.args(["up", "redis", "valkey"]).env("TMPDIR", temporary.path());
    let mut up = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut address = |name: &str| lines.next().unwrap().strip_prefix(name).unwrap().to_string();
    let addresses = [address("REDIS="), address("VALKEY=")];
    assert!(addresses.iter().all(|address| std::net::TcpStream::connect(address).is_ok()));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    assert!(Command::new("kill").arg(up.id().to_string()).status().unwrap().success());
    assert!(up.wait().unwrap().success());
    assert!(addresses.iter().all(|address| std::net::TcpStream::connect(address).is_err()));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

/// One that ends takes the others down, and is named.
#[test]
fn up_does_not_go_on_without_one_of_them() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(script());
    command.args(["up", "redis", "valkey"]).env("TMPDIR", temporary.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut up = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(up.stdout.take().unwrap())).map(Result::unwrap);
    let [redis, valkey] = [(); 2].map(|()| lines.next().unwrap().split_once('=').unwrap().1.to_string());
    let port = valkey.rsplit(':').next().unwrap();
    let stop = ["-p", port, "shutdown", "nosave"];
    assert!(Command::new(tidemill_tests::services::installed("redis-cli")).args(stop).status().unwrap().success());
    let ended = up.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && words.contains("tests/services: valkey has ended: "), "{words}");
    assert!(std::net::TcpStream::connect(redis).is_err());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

/// A place goes with what runs in it, even where nobody ends the server.
#[test]
fn nothing_outlives_its_place() {
    let place = Place::new();
    let folder = place.path().to_path_buf();
    let mut server = Server::new(&place, "sleep", Path::new("sleep"), vec!["1000".to_string()]);
    server.start();
    let pid = std::fs::read_to_string(folder.join("sleep.pid")).unwrap();
    assert!(Path::new("/proc").join(&pid).exists());
    std::mem::forget(server);
    drop(place);
    assert!(!folder.exists());
    // Killed, and nobody waits for it: a zombie.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(status.is_empty() || status.contains(") Z "), "{status}");
}
