//! The four tools, built: as `cargo build --release` does, or to be carried to other machines.

use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TOOLS: [&str; 4] = ["pyst-grab", "pyst-unwind", "pyst-py", "pyst-fmt"];

/// Builds the tools for this machine, and says where they are.
pub(crate) fn tools(root: &Path) -> Result<PathBuf> {
    build_with(root, [])
}

/// Builds the tools without any library that they would need where they run, which may have an older C library or another
/// one, and says where they are. To be loaded takes them a third of a millisecond less, too, each.
pub(crate) fn static_tools(root: &Path) -> Result<PathBuf> {
    let host = host()?;
    // Flags reach the compiler's plugins, which cannot be static, unless a target is named.
    let flags = format!("target.{host}.rustflags=[\"-C\",\"target-feature=+crt-static\"]");
    let built = build_with(root, ["--target", &host, "--config", &flags]);
    built.context("is there a static C library (Debian: libc6-dev, Fedora: glibc-static)?")
}

/// Builds the tools to be carried away, puts them into `target/dist`, and says how large they are.
pub(crate) fn distribute(root: &Path) -> Result<()> {
    let built = static_tools(root)?;
    // target/x86_64-unknown-linux-gnu/release
    let target = built.parent().and_then(Path::parent).context("cargo built into no target directory")?;
    let folder = target.join("dist");
    fs::create_dir_all(&folder)?;
    for tool in TOOLS {
        // A tool that runs just now cannot be written to, but another can take its name.
        let new = folder.join(format!("{tool}.new"));
        fs::copy(built.join(tool), &new)?;
        fs::rename(&new, folder.join(tool))?;
        let size = folder.join(tool).metadata()?.len();
        println!("{size:>9} bytes  {}", folder.join(tool).display());
    }
    Ok(())
}

fn build_with<'a>(root: &Path, options: impl IntoIterator<Item = &'a str>) -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--bins", "--message-format=json-render-diagnostics"])
        .args(options)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the tools did not build");
    let messages = String::from_utf8(output.stdout)?;
    let executables = messages.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split_once('"'));
    let tool = executables.map(|(path, _)| Path::new(path)).find(|path| path.ends_with(TOOLS[0]));
    Ok(tool.and_then(Path::parent).context("cargo built no pyst-grab")?.to_owned())
}

/// What rustc calls this machine: `x86_64-unknown-linux-gnu`.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsStr::new("rustc").to_owned());
    let output = Command::new(rustc).arg("-vV").output().context("there is no rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what this machine is")?.to_owned())
}
