//! How fast Python frames are decoded from a snapshot: deep stacks, many threads; in the library, and in the stages.
//!
//! A benchmark and no test: nothing here fails because of a time.

use crate::bench::Target;
use crate::build;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Deep: one function that calls itself.
const RECURSION: &str = "
def again(left):
    if left == 0:
        print('ready', flush=True)
        time.sleep(1000)
    return again(left - 1) + 1
again(SIZE - 2)
";

/// Deep: a hundred functions, each with a few lines of its own, so that little is the same from frame to frame.
const MANY_FUNCTIONS: &str = r"
text = ''.join(f'''
def f{number}(left, a=1, b='two', *c, **d):
    if left == 0:
        print('ready', flush=True)
        time.sleep(1000)
    if left % 2:
        return {{'key': f{(number + 1) % 100}(left - 1)}}
    return [a, b, f{(number + 7) % 100}(left - 1, a + 1, x=1)]
''' for number in range(100))
exec(compile(text, '/nonexistent/many.py', 'exec'))
f0(SIZE - 3)
";

/// Wide: threads that sleep ten calls deep.
const THREADS: &str = "
started = threading.Semaphore(0)
def again(left):
    if left == 0:
        started.release()
        time.sleep(1000)
    return again(left - 1) + 1
threading.stack_size(256 << 10)
for _ in range(SIZE - 1):
    threading.Thread(target=again, args=(6,), daemon=True).start()
for _ in range(SIZE - 1):
    started.acquire()
print('ready', flush=True)
time.sleep(1000)
";

const CASES: [(&str, &str, &[u32]); 3] = [
    ("frames of one function", RECURSION, &[10_000, 50_000, 100_000]),
    ("frames of a hundred functions", MANY_FUNCTIONS, &[10_000, 50_000, 100_000]),
    ("threads", THREADS, &[500, 1000, 5000]),
];

/// Measures each case in each size, and prints how the time grows.
pub(crate) fn run(root: &Path, python: &str) -> Result<()> {
    let tools = build::tools(root)?;
    let folder = std::env::temp_dir().join(format!("pyst-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = measure(root, &tools, python, &folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn measure(root: &Path, tools: &Path, python: &str, folder: &Path) -> Result<()> {
    let version = Command::new(python).arg("-V").output().context("no such Python")?;
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
    println!(
        "| snapshot | frames | decoded ms | frames/s | time/frame to the first | peak bytes/frame | recorded bytes/frame | pyst-py ms | pyst-fmt ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, program, sizes) in CASES {
        let mut first = None;
        for size in sizes {
            let program = format!("sys.setrecursionlimit(1 << 30)\n{}", program.replace("SIZE", &size.to_string()));
            let target = Target::start(python, &format!("import sys\n{program}"))?;
            let grabbed = folder.join("grabbed.pyst");
            let pid = target.id().to_string();
            let mut grab = Command::new(tools.join("pyst-grab"));
            pipe(grab.args(["--python-only", "--no-source", &pid]), None, &grabbed)?;
            drop(target);
            let walked = folder.join("walked.pyst");
            let py = best(|| pipe(&mut Command::new(tools.join("pyst-py")), Some(&grabbed), &walked))?;
            let report = folder.join("report.txt");
            let fmt = best(|| pipe(&mut Command::new(tools.join("pyst-fmt")), Some(&walked), &report))?;
            let Decoded { frames, nanoseconds, recorded, peak } = decode(root, &grabbed)?;
            let each = nanoseconds / frames;
            println!(
                "| {size} {name} | {frames} | {:.2} | {:.0} | {:.2} | {:.0} | {:.0} | {} | {} |",
                nanoseconds / 1e6,
                1e9 / each,
                each / *first.get_or_insert(each),
                peak / frames,
                recorded / frames,
                py.as_millis(),
                fmt.as_millis(),
            );
        }
    }
    Ok(())
}

/// What `lib/python/benches/decode.rs` says of a snapshot.
struct Decoded {
    frames: f64,
    nanoseconds: f64,
    recorded: f64,
    peak: f64,
}

fn decode(root: &Path, snapshot: &Path) -> Result<Decoded> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["bench", "--quiet", "--package", "pyst-python", "--bench", "decode", "--"]).arg(snapshot);
    let output = command.current_dir(root).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the benchmark of the library failed");
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [frames, _, nanoseconds, recorded, peak] = numbers[..] else { bail!("it said: {text}") };
    Ok(Decoded { frames, nanoseconds, recorded, peak })
}

/// Runs a tool from one file into another.
pub(crate) fn pipe(command: &mut Command, input: Option<&Path>, output: &Path) -> Result<()> {
    match input {
        Some(input) => command.stdin(File::open(input)?),
        None => command.stdin(Stdio::null()),
    };
    let status = command.stdout(File::create(output)?).status()?;
    ensure!(status.code() == Some(0), "{command:?} failed: {status}");
    Ok(())
}

fn best(mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        work()?;
        best = best.min(started.elapsed());
    }
    Ok(best)
}
