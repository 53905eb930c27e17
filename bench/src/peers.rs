//! The peers: a workspace of their own, built on demand; Erlang/OTP and Node.js where these are
//! installed.
//!
//! Their versions are read from their lock file, or named here. Bound: one build, of at most all of
//! them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::KERNEL;
use crate::scan::kernel;

/// A peer that can be run.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    version: Option<String>,
    program: PathBuf,
    arguments: Vec<String>,
}

/// What a peer is called, and its binary.
const PEERS: [(&str, &str); 14] = [
    (CATCH_UNWIND, "peer-bare"),
    (FDATASYNC, "peer-bare"),
    (SOA, "peer-bare"),
    ("quinn", "peer-quinn"),
    ("tokio", "peer-tokio"),
    ("spargio", "peer-spargio"),
    ("actix", "peer-actix"),
    ("kameo", "peer-kameo"),
    ("ractor", "peer-ractor"),
    ("rusm-otp", "peer-rusm"),
    ("rumqttc", "peer-rumqttc"),
    ("mqtt5", "peer-mqtt5"),
    (MQTTX, "peer-node"),
    (MQTTJS, "peer-node"),
];

/// A tool on Node.js, driven if the host has it.
const MQTTX: &str = "mqttx-cli";

/// A library for Node.js, which npm fetches if the host has those.
const MQTTJS: &str = "MQTT.js";
const MQTTJS_VERSION: &str = "5.16.0";

/// Not a library: a loop around what the language has.
const CATCH_UNWIND: &str = "catch_unwind";

/// Not a library: one file, written over and synced.
const FDATASYNC: &str = "fdatasync";

/// Not a library: plain arrays with the columns of the world, and a loop over them.
const SOA: &str = "soa";

/// Not in the workspace: from the host, if it has it.
const ERLANG: &str = "erlang";

/// The same, started by this binary at the place that a scan would have.
const CYCLICTEST: &str = "cyclictest";

const LOCK: &str = include_str!("../peers/Cargo.lock");

impl Peer {
    /// Name and version, where there is one.
    pub(crate) fn title(&self) -> String {
        let version = self.version.iter().map(|version| format!(" {version}"));
        std::iter::once(self.name.to_owned())
            .chain(version)
            .collect()
    }

    /// Its process, without the job.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

/// Builds those that are asked for; those that cannot be are named with the reason.
pub(crate) fn build(asked: &[&str]) -> (Vec<Peer>, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let target = folder.join("target");
    let (mut peers, mut failures) = (Vec::new(), Vec::new());
    let mut tools = BTreeMap::new();
    let mut absent = Vec::new();
    for (name, find) in TOOLS.iter().filter(|tool| asked.contains(&tool.0)) {
        match find(&folder, &target) {
            Ok(tool) => drop(tools.insert(*name, tool)),
            Err(reason) => {
                eprintln!("{name}: left out, {reason}");
                absent.push(*name);
            }
        }
    }
    let here = |name: &&str| asked.contains(name) && !absent.contains(name);
    let of_workspace: Vec<_> = PEERS.iter().filter(|peer| here(&peer.0)).collect();
    if !of_workspace.is_empty() {
        match compile(&folder, &target) {
            Ok(()) => peers.extend(of_workspace.iter().map(|(name, binary)| {
                let tool = tools.remove(name);
                let (version, arguments) = tool.map_or_else(
                    || (locked_version(LOCK, name), Vec::new()),
                    |(version, arguments)| (Some(version), arguments),
                );
                Peer {
                    name,
                    version,
                    program: target.join("release").join(binary),
                    arguments,
                }
            })),
            Err(error) => failures.push(error),
        }
    }
    if asked.contains(&ERLANG) {
        match erlang(
            &folder.join("erlang/bench_peer.erl"),
            &target.join("erlang"),
        ) {
            Ok(peer) => peers.push(peer),
            Err(reason) => eprintln!("{ERLANG}: left out, {reason}"),
        }
    }
    if asked.contains(&CYCLICTEST) {
        match cyclictest() {
            Ok(peer) => peers.push(peer),
            Err(reason) => eprintln!("{CYCLICTEST}: left out, {reason}"),
        }
    }
    (peers, failures)
}

/// All of them, whoever is asked for: another choice would be other features of what they share,
/// and a new build of it.
fn compile(folder: &Path, target: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cannot build the peers: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the peers do not build: {status}"))
    }
}

/// What is not in the workspace, but for its driver: its version, and what the driver is told.
type Tool = (String, Vec<String>);

/// Finds it, given the folder of the peers and a place for what is fetched.
type Find = fn(&Path, &Path) -> Result<Tool, String>;

const TOOLS: [(&str, Find); 2] = [(MQTTX, mqttx), (MQTTJS, mqttjs)];

fn mqttx(_: &Path, _: &Path) -> Result<Tool, String> {
    let absent = |error| format!("`mqttx` is not here ({error}); it is in npm's mqttx-cli");
    let output = Command::new("mqttx").arg("--version").output();
    let output = output.map_err(absent)?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((version, Vec::new()))
}

fn mqttjs(folder: &Path, target: &Path) -> Result<Tool, String> {
    let library = target.join("node");
    fetch("npm", &library)?;
    let output = Command::new("node").arg("--version").output();
    output.map_err(|error| format!("`node` is not here ({error}); Debian has it in nodejs"))?;
    let paths = [folder.join("node/clients.mjs"), library];
    let paths = paths.map(|path| path.display().to_string());
    Ok((MQTTJS_VERSION.to_owned(), paths.into()))
}

/// Has npm put the library into a folder, unless it is there.
fn fetch(npm: &str, library: &Path) -> Result<(), String> {
    let manifest = std::fs::read_to_string(library.join("node_modules/mqtt/package.json"));
    let wanted = format!("\"version\": \"{MQTTJS_VERSION}\"");
    if manifest.is_ok_and(|manifest| manifest.contains(&wanted)) {
        return Ok(());
    }
    std::fs::create_dir_all(library).map_err(|error| format!("{}: {error}", library.display()))?;
    let absent = |error| format!("`{npm}` is not here ({error}); Debian has it in npm");
    let fetched = Command::new(npm)
        .args(["install", "--loglevel=error", "--no-audit", "--no-fund"])
        .args(["--ignore-scripts", "--prefix"])
        .arg(library)
        .arg(format!("mqtt@{MQTTJS_VERSION}"))
        .stdin(Stdio::null())
        .output()
        .map_err(absent)?;
    match fetched.status.success() {
        true => Ok(()),
        false => Err(why_not(&String::from_utf8_lossy(&fetched.stderr))),
    }
}

/// The first thing that npm says of an error which is no bare code.
fn why_not(stderr: &str) -> String {
    let said = stderr.lines().filter_map(|line| {
        let line = line
            .strip_prefix("npm error")
            .or(line.strip_prefix("npm ERR!"))?;
        Some(line.trim()).filter(|line| line.contains(' ') && !line.starts_with("code "))
    });
    let said = said.take(1).collect::<String>();
    format!("npm cannot fetch mqtt@{MQTTJS_VERSION}: {said}")
}

/// Compiles the module, if there is a compiler.
fn erlang(source: &Path, target: &Path) -> Result<Peer, String> {
    let absent = |error| format!("`erlc` is not here ({error}); Debian has it in erlang-base");
    std::fs::create_dir_all(target).map_err(|error| format!("{}: {error}", target.display()))?;
    let status = Command::new("erlc")
        .arg("-o")
        .args([target, source])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(absent)?;
    if !status.success() {
        return Err(format!("erlc ended with {status}"));
    }
    let release = Command::new("erl")
        .args([
            "-noinput",
            "-eval",
            "io:put_chars(erlang:system_info(otp_release)), halt().",
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(absent)?;
    let version = String::from_utf8_lossy(&release.stdout).trim().to_owned();
    // two schedulers on a core each, as all others have two threads; room for two million processes
    let flags = "-noinput +S 2:2 +sbt db +P 2000000 -kernel logger_level none -pa";
    let mut arguments: Vec<String> = flags.split(' ').map(str::to_owned).collect();
    arguments.push(target.display().to_string());
    arguments.extend(["-run", "bench_peer", "main", "-extra"].map(str::to_owned));
    Ok(Peer {
        name: ERLANG,
        version: Some(version),
        program: "erl".into(),
        arguments,
    })
}

fn cyclictest() -> Result<Peer, String> {
    let program = std::env::current_exe().map_err(|error| format!("own binary: {error}"))?;
    Ok(Peer {
        name: CYCLICTEST,
        version: Some(kernel::version()?),
        program,
        arguments: vec![KERNEL.to_owned()],
    })
}

fn locked_version(lock: &str, package: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SCENARIOS;

    #[test]
    fn every_library_has_a_version_in_the_lock_file() {
        for (name, _) in PEERS {
            let version = locked_version(LOCK, name);
            let bare = [CATCH_UNWIND, FDATASYNC, SOA, MQTTX, MQTTJS].contains(&name);
            assert_eq!(version.is_none(), bare, "{name}");
        }
    }

    #[test]
    fn a_library_that_cannot_be_fetched_says_why() {
        let folder = std::env::temp_dir().join(format!("bench-peers-{}", std::process::id()));
        let missing = fetch("no-such-npm", &folder).unwrap_err();
        assert!(missing.contains("`no-such-npm` is not here"), "{missing}");
        let refused = fetch("false", &folder).unwrap_err();
        assert!(refused.contains("cannot fetch mqtt@"), "{refused}");
        let package = folder.join("node_modules/mqtt");
        std::fs::create_dir_all(&package).unwrap();
        let manifest = format!("{{\n  \"version\": \"{MQTTJS_VERSION}\"\n}}");
        std::fs::write(package.join("package.json"), manifest).unwrap();
        assert_eq!(fetch("no-such-npm", &folder), Ok(()), "it is there");
        std::fs::remove_dir_all(&folder).unwrap();
        let said = "npm error code E404\nnpm error 404 Not Found - GET x\nnpm error 404\n";
        assert!(why_not(said).ends_with(": 404 Not Found - GET x"));
    }

    #[test]
    fn scenarios_name_peers_and_shapes_that_there_are() {
        let known = |name: &str| {
            [ERLANG, CYCLICTEST].contains(&name)
                || crate::loss::BASELINES.contains(&name)
                || PEERS.iter().any(|peer| peer.0 == name)
        };
        for scenario in SCENARIOS {
            let name = scenario.name;
            assert!(scenario.peers.iter().all(|name| known(name)), "{name}");
            let mut sizes = scenario.peer_sizes.iter();
            assert!(
                sizes.all(|(peer, _)| scenario.peers.contains(peer)),
                "{name}"
            );
            let shapes = scenario.shapes(&[], false);
            for (own, peers) in scenario.own_shapes {
                assert!(shapes.iter().any(|shape| shape.word() == *own), "{own}");
                let known = |peer| scenario.peers.contains(peer);
                assert!(peers.iter().all(known), "{name} {own}");
            }
        }
    }
}
