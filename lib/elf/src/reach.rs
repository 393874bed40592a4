//! Files of file systems that another machine or another process serves: NFS, CIFS, FUSE. One whose server is gone, which is what many
//! a service hangs in, has whoever asks for a file wait for ever. So a thread of its own asks, and is left behind when that takes too
//! long: it ends with this process.
//!
//! What must hold: once such a file system has kept somebody waiting it is not asked again. A file that has been opened, and of which
//! both ends could be read, is taken to be there to the end.

use pyst_snapshot::payload::{Diagnostic, Severity};
use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

/// How long a file is waited for. A server that is alive answers within milliseconds, and one that starts anew takes a minute.
const PATIENCE: Duration = Duration::from_secs(2);

/// The types of such file systems, as `/proc/PID/mountinfo` has them, besides those that begin with `fuse` (`fuse.sshfs`, `fuseblk`).
const SERVED: [&[u8]; 16] = [
    b"9p",
    b"afs",
    b"beegfs",
    b"ceph",
    b"cifs",
    b"coda",
    b"gpfs",
    b"lustre",
    b"nfs",
    b"nfs4",
    b"orangefs",
    b"prl_fs",
    b"smb3",
    b"vboxsf",
    b"virtiofs",
    b"vmhgfs",
];

/// The major and the minor number of the device that a file is on, as `/proc/PID/maps` has them.
pub type Device = (u32, u32);

/// What can be had of the file systems that a process sees.
#[derive(Default)]
pub struct Reach {
    /// Those that are served.
    served: Vec<Device>,
    helper: RefCell<Option<Helper>>,
    /// What did not come, and from where if that is known.
    silent: RefCell<Vec<(Option<Device>, PathBuf)>>,
}

/// The thread that asks.
struct Helper(Sender<Box<dyn FnOnce() + Send>>);

impl Reach {
    /// By a mount table (`/proc/PID/mountinfo`).
    #[must_use]
    pub fn of(mount_table: &[u8]) -> Reach {
        let served = mount_table.split(|byte| *byte == b'\n').filter_map(served_device).collect();
        Reach { served, ..Reach::default() }
    }

    /// That of this process.
    #[must_use]
    pub fn here() -> Reach {
        Reach::of(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Opens a file as `open` does, with what it is. Where the device is not known it may be any.
    ///
    /// # Errors
    /// It cannot be opened, or [`io::ErrorKind::TimedOut`].
    pub fn open(
        &self,
        device: Option<Device>,
        path: &Path,
        open: fn(&Path) -> io::Result<File>,
    ) -> io::Result<(File, Metadata)> {
        let is_served = self.is_served(device);
        let own_path = path.to_owned();
        self.ask(device, path, move || {
            let file = open(&own_path)?;
            let metadata = file.metadata()?;
            if is_served {
                // What the target uses of it is in memory already, its ends need not be.
                file.read_at(&mut [0], 0)?;
                file.read_at(&mut [0], metadata.len().saturating_sub(1))?;
            }
            Ok((file, metadata))
        })
    }

    /// Does `work`, which concerns the file `what`.
    ///
    /// # Errors
    /// Those of `work`, or [`io::ErrorKind::TimedOut`].
    pub fn ask<T: Send + 'static>(
        &self,
        device: Option<Device>,
        what: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if !self.is_served(device) {
            return work();
        }
        if self.silent.borrow().iter().any(|(silent, _)| *silent == device) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut helper = self.helper.borrow_mut();
        let asked = match helper.take() {
            Some(helper) => helper,
            None => Helper::start()?,
        };
        let (answer, answered) = mpsc::channel();
        let job = Box::new(move || _ = answer.send(work()));
        asked.0.send(job).map_err(|_| io::ErrorKind::BrokenPipe)?;
        if let Ok(result) = answered.recv_timeout(PATIENCE) {
            *helper = Some(asked);
            return result;
        }
        self.silent.borrow_mut().push((device, what.to_owned()));
        Err(io::ErrorKind::TimedOut.into())
    }

    /// What there is to say of files that did not come.
    #[must_use]
    pub fn diagnostic(&self) -> Option<Diagnostic> {
        let silent = self.silent.borrow();
        let (_, first) = silent.first()?;
        let message = format!(
            "{} did not come within {} s: the server of a file system (NFS, CIFS, FUSE) does not answer, and a process that waits for \
             it hangs; source lines, names and frames that such files would tell are missing",
            first.display(),
            PATIENCE.as_secs()
        );
        Some(Diagnostic::new(Severity::LOSS, "files-out-of-reach", message))
    }

    /// Whether a device is that of such a file system; where the device is not known, whether there is any.
    #[must_use]
    pub fn is_served(&self, device: Option<Device>) -> bool {
        device.map_or(!self.served.is_empty(), |device| self.served.contains(&device))
    }
}

impl Helper {
    fn start() -> io::Result<Helper> {
        let (jobs, job) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let work = move || job.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("files".to_owned()).spawn(work)?;
        Ok(Helper(jobs))
    }
}

/// The device of a line of `mountinfo`, if it is of a file system that is served (proc(5)):
/// `36 35 0:45 / /home rw,relatime shared:7 - nfs4 server:/home rw,vers=4.2`
fn served_device(line: &[u8]) -> Option<Device> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(words.nth(2)?).ok()?;
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    let (major, minor) = device.split_once(':')?;
    let is_served = kind.starts_with(b"fuse") || SERVED.contains(&kind);
    is_served.then_some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Receiver;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        36 22 0:45 / /home rw,relatime shared:7 master:2 - nfs4 server:/home rw,vers=4.2\n\
        37 22 0:46 / /a\\040-\\040b rw - fuse.sshfs host: rw\n\
        38 22 0:47 / /tmp rw - tmpfs tmpfs rw\n39 22";

    fn lose(reach: &Reach, device: Option<Device>) -> Sender<()> {
        let (end, never): (Sender<()>, Receiver<()>) = mpsc::channel();
        let waits = move || {
            let _ = never.recv();
            Ok(())
        };
        let lost = reach.ask(device, Path::new("/lost"), waits);
        assert_eq!(lost.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        end
    }

    #[test]
    fn a_mount_table_says_what_is_served() {
        let reach = Reach::of(TABLE);
        assert_eq!(reach.served, [(0, 45), (0, 46)]);
        assert!(reach.is_served(None) && reach.is_served(Some((0, 46))) && !reach.is_served(Some((254, 0))));
        assert!(!Reach::of(b"").is_served(None));
    }

    #[test]
    fn what_is_not_served_is_asked_at_once_and_what_is_by_another_thread() {
        let reach = Reach::of(TABLE);
        let asked_by = |device| reach.ask(device, Path::new("/"), || Ok(std::thread::current().id())).unwrap();
        let this = std::thread::current().id();
        assert_eq!(asked_by(Some((254, 0))), this);
        let other = asked_by(Some((0, 45)));
        assert_ne!(other, this);
        assert_eq!(asked_by(None), other);
        let (_, metadata) = reach.open(None, Path::new("/proc/self/exe"), |path| File::open(path)).unwrap();
        assert!(metadata.len() > 0 && reach.diagnostic().is_none());
        assert!(reach.open(None, Path::new("/no/such"), |path| File::open(path)).is_err());
    }

    #[test]
    fn one_that_does_not_answer_is_not_asked_again_and_the_others_are() {
        let reach = Reach::of(TABLE);
        let _end = lose(&reach, Some((0, 45)));
        let again = reach.ask(Some((0, 45)), Path::new("/other"), || Ok(()));
        assert_eq!(again.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(reach.ask(Some((0, 46)), Path::new("/"), || Ok(())).is_ok());
        assert!(reach.ask(None, Path::new("/"), || Ok(())).is_ok());
        let said = reach.diagnostic().unwrap();
        assert_eq!((said.severity, said.code.as_str()), (Severity::LOSS, "files-out-of-reach"));
        assert!(said.message.starts_with("/lost did not come within 2 s: "), "{}", said.message);
    }
}
