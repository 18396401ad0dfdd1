//! One process that is nginx's master, and stays that one.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal, test_kill_process,
};

use super::NoReload;
use super::processes::{Identity, Process, owner_of};

/// nginx's master, held by a pidfd: another process that gets its number is never taken for it.
#[derive(Debug)]
pub(super) struct Master {
    identity: Identity,
    pidfd: OwnedFd,
}

impl Master {
    /// `None` where `pid` is no nginx master, or we ourselves.
    pub(super) fn open(pid: u32) -> Result<Option<Self>, NoReload> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(errno) => return unopened(pid, errno).map_or(Ok(None), Err),
        };
        // Looked at after the pidfd was opened: what is seen here is what will be signalled, or
        // that has ended since.
        let seen = Process::read(pid).filter(Process::is_foreign_master);
        Ok(seen.map(|process| Self { identity: process.identity, pidfd }))
    }

    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether a signal may be sent; none is.
    pub(super) fn check(&self) -> Result<(), NoReload> {
        let pid = self.identity.pid;
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let checked = number.map_or(Err(Errno::SRCH), test_kill_process);
        checked.map_err(|errno| unsent(pid, errno, geteuid().as_raw(), owner_of(pid)))
    }

    /// Sends SIGHUP.
    pub(super) fn hang_up(&self) -> Result<(), NoReload> {
        let pid = self.identity.pid;
        pidfd_send_signal(&self.pidfd, Signal::HUP)
            .map_err(|errno| unsent(pid, errno, geteuid().as_raw(), owner_of(pid)))
    }
}

/// Nothing where there is no such process.
const fn unopened(pid: u32, errno: Errno) -> Option<NoReload> {
    match errno {
        Errno::SRCH | Errno::INVAL => None,
        // It asks for no rights: whoever forbids it filters system calls.
        Errno::NOSYS | Errno::PERM | Errno::ACCESS => Some(NoReload::NoPidfd),
        problem => Some(NoReload::System { pid, problem }),
    }
}

/// `ours` is our user, `owner` the master's if it can be seen.
fn unsent(pid: u32, errno: Errno, ours: u32, owner: Option<u32>) -> NoReload {
    match (errno, owner) {
        (Errno::SRCH, _) => NoReload::Gone { pid },
        (Errno::NOSYS, _) => NoReload::NoPidfd,
        (Errno::PERM, Some(owner)) if owner != ours => NoReload::Denied { pid, owner, ours },
        (Errno::PERM | Errno::ACCESS, _) => NoReload::Confined { pid },
        (problem, _) => NoReload::System { pid, problem },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_to_a_pidfd_is_told_apart() {
        let cases = [
            (Errno::SRCH, None),
            (Errno::INVAL, None),
            (Errno::NOSYS, Some(NoReload::NoPidfd)),
            (Errno::PERM, Some(NoReload::NoPidfd)),
            (Errno::MFILE, Some(NoReload::System { pid: 7, problem: Errno::MFILE })),
        ];
        for (errno, told) in cases {
            assert_eq!(unopened(7, errno), told, "{errno}");
        }
    }

    #[test]
    fn what_the_system_says_to_a_signal_is_told_apart() {
        let (gone, confined) = (NoReload::Gone { pid: 7 }, NoReload::Confined { pid: 7 });
        let cases = [
            (Errno::SRCH, None, gone),
            (Errno::NOSYS, Some(1000), NoReload::NoPidfd),
            (Errno::PERM, Some(0), NoReload::Denied { pid: 7, owner: 0, ours: 1000 }),
            (Errno::PERM, Some(1000), confined.clone()),
            (Errno::PERM, None, confined.clone()),
            (Errno::ACCESS, Some(0), confined),
            (Errno::NOMEM, Some(0), NoReload::System { pid: 7, problem: Errno::NOMEM }),
        ];
        for (errno, owner, told) in cases {
            assert_eq!(unsent(7, errno, 1000, owner), told, "{errno} {owner:?}");
        }
    }
}
