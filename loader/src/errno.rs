//! What the kernel means by an error number, and what to do about it.
//!
//! Knows which causes each system call's errors have (kernel/kexec.c, kexec_core.c, kexec_file.c), and which files tell them
//! apart. Must not call anything. Makes the error that a person reads.

use std::{fmt, io, path::Path};

use crate::{
    error::{Error, Kind, Result, plain_io},
    host::files,
    range::{Range, human},
};

/// Which call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// By segments.
    Segments,
    /// By file.
    File,
}

impl Call {
    /// The name that a manual page has.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Segments => "kexec_load",
            Self::File => "kexec_file_load",
        }
    }
}

/// What the call was to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Load a kernel.
    Load,
    /// Unload it.
    Unload,
}

/// What the failure was about.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Which call.
    pub call: Call,
    /// For a crash, or for the next reboot.
    pub panic: bool,
    /// What it was to do.
    pub doing: Doing,
    /// The reserved range, if one is known.
    pub region: Option<Range>,
}

impl fmt::Display for Attempt {
    /// As it follows "cannot".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.doing {
            Doing::Load => "load",
            Doing::Unload => "unload",
        };
        write!(f, "{doing} the {}", if self.panic { "capture kernel" } else { "kernel" })
    }
}

/// Errors of a load by file after which another way may do: the call is not there, or did not understand the image.
#[must_use]
pub fn worth_another_way(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::ENOEXEC | libc::ENOTSUP))
}

/// Refuses before the call what is known to fail: a sysctl, a lockdown, a missing capability.
///
/// # Errors
/// The cause, and what to do.
pub fn foresee(root: &Path, attempt: &Attempt) -> Result<()> {
    let Some((cause, next)) = known_denial(root, attempt) else { return Ok(()) };
    Err(Error::new(Kind::Kernel, format!("cannot {attempt}")).because(cause).next_step(next))
}

/// Explains `error`; `root` has the files that tell causes apart.
#[must_use]
pub fn explain(root: &Path, attempt: &Attempt, error: &io::Error) -> Error {
    let number = error.raw_os_error().unwrap_or(0);
    let (cause, next) = sentences(root, attempt, number);
    let plain = plain_io(error);
    let mut out =
        Error::new(Kind::Kernel, format!("the kernel refused to {attempt} ({}: {plain})", attempt.call.name()))
            .because(cause)
            .next_step(next);
    out.errno = Some(number);
    out
}

/// The cause of an error number, and what to do about it.
fn sentences(root: &Path, attempt: &Attempt, number: i32) -> (String, String) {
    let (cause, next) = match (number, attempt.region) {
        (libc::EPERM, _) => return not_permitted(root, attempt),
        (libc::EADDRNOTAVAIL, Some(region)) if attempt.panic => {
            return (
                format!("the kernel does not fit into the {} reserved at {region}", human(region.len())),
                "make crashkernel= larger and reboot; 'vdump load --panic --dry-run' shows what is needed".to_owned(),
            );
        }
        (libc::EADDRNOTAVAIL, None) if attempt.panic => (
            "no memory is reserved for a capture kernel",
            "add crashkernel= to the kernel's command line and reboot; 'vdump load --panic --dry-run' says how much",
        ),
        (libc::EADDRNOTAVAIL, _) => ("a segment's place is not RAM on this machine", "use --method file"),
        (libc::ENOMEM, _) if attempt.panic => (
            "the running kernel's own tables do not fit beside what is loaded, or memory is short",
            "make crashkernel= a few MiB larger and reboot",
        ),
        (libc::ENOMEM, _) => {
            ("there is not enough free memory to hold the next kernel", "free some memory and try again")
        }
        _ => of_call(attempt.call, number),
    };
    (cause.to_owned(), next.to_owned())
}

/// The same for numbers whose cause is in the call alone.
fn of_call(call: Call, number: i32) -> (&'static str, &'static str) {
    match (number, call) {
        (libc::EACCES, _) => (
            "a security policy (IMA appraisal, or a security module) takes kernels only as files, so that it can check them",
            "use --method file, for unloading too",
        ),
        (libc::EBUSY, _) => ("another load, unload or hotplug update is going on", "try again in a second"),
        (libc::EINVAL, Call::Segments) => (
            "this kernel does not know an option of the load (--hotplug needs 6.5), or what is loaded is more than half of \
             all memory",
            "leave --hotplug out, or use a smaller initrd",
        ),
        (libc::EINVAL, Call::File) => {
            ("the kernel's own loader does not take this image or command line", "use --method segments")
        }
        (libc::ENOEXEC, _) => ("the kernel's own loader does not know this kind of image", "use --method segments"),
        (libc::ENOSYS, Call::Segments) => (
            "the running kernel was built without this system call",
            "use --method file; if that fails too the kernel has no kexec (CONFIG_KEXEC, CONFIG_KEXEC_FILE)",
        ),
        (libc::ENOSYS, Call::File) => (
            "the running kernel was built without this system call",
            "use --method segments; if that fails too the kernel has no kexec (CONFIG_KEXEC, CONFIG_KEXEC_FILE)",
        ),
        (number, _) if SIGNATURE.contains(&number) => (
            "the image is not signed with a key that the kernel trusts (Secure Boot, CONFIG_KEXEC_SIG)",
            "give the distribution's signed kernel as it is (not decompressed), or sign it",
        ),
        (libc::ENOENT, _) => ("nothing is loaded", "load a kernel first"),
        _ => ("the kernel does not document this error here", "its log (dmesg) may say more"),
    }
}

/// What a signature that is missing, damaged or unknown ends in (crypto/asymmetric_keys, certs/system_keyring.c).
const SIGNATURE: [i32; 8] = [
    libc::ENOKEY,
    libc::EKEYREJECTED,
    libc::EKEYEXPIRED,
    libc::EKEYREVOKED,
    libc::ELIBBAD,
    libc::ENOPKG,
    libc::EBADMSG,
    libc::ENODATA,
];

/// EPERM has five causes; files tell most of them apart.
fn not_permitted(root: &Path, attempt: &Attempt) -> (String, String) {
    let module = || ("a security module forbids it", "look for a denial in the kernel's log and the audit log");
    let (cause, next) = known_denial(root, attempt).unwrap_or_else(|| {
        let (cause, next) = match attempt.call {
            _ if is_locked_down(root) => {
                ("the kernel is locked down, and the image's signature did not convince it", SIGNED)
            }
            _ => module(),
        };
        (cause.to_owned(), next.to_owned())
    });
    (cause, next)
}

const SIGNED: &str = "give a kernel that is signed with a key that the running kernel trusts";

/// What denies every load of this kind, whatever is loaded.
fn known_denial(root: &Path, attempt: &Attempt) -> Option<(String, String)> {
    let sysctl = |name: &str| files::decimal(&root.join("proc/sys/kernel").join(name));
    let loads = attempt.doing == Doing::Load;
    let limit = if attempt.panic { "kexec_load_limit_panic" } else { "kexec_load_limit_reboot" };
    let (cause, next) = if !has_boot_capability(root) {
        ("only root may do that (CAP_SYS_BOOT)".to_owned(), "run this as root")
    } else if sysctl("kexec_load_disabled") == Some(1) {
        let cause = "the sysctl kernel.kexec_load_disabled is 1, until the next reboot";
        let next = match loads {
            true => "load the kernel before the sysctl is set (at boot), or do not set it",
            false => "what is loaded stays loaded until then",
        };
        (cause.to_owned(), next)
    } else if loads && sysctl(limit) == Some(0) {
        let cause = format!("the sysctl kernel.{limit} is 0: no load is left until the next reboot");
        (cause, "reboot, and set a higher limit then, or none")
    } else if is_locked_down(root) && attempt.call == Call::Segments {
        (
            "the kernel is locked down (Secure Boot, or lockdown=): it takes signed files only".to_owned(),
            "use --method file with a signed kernel",
        )
    } else {
        return None;
    };
    Some((cause, next.to_owned()))
}

fn is_locked_down(root: &Path) -> bool {
    let lockdown = files::text(&root.join("sys/kernel/security/lockdown")).unwrap_or_default();
    lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]")
}

/// CAP_SYS_BOOT is bit 22 of the effective set; a process whose set is not shown is taken to have it.
fn has_boot_capability(root: &Path) -> bool {
    let status = files::text(&root.join("proc/self/status")).unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_none_or(|set| set & 1 << 22 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn said(root: &Path, call: Call, number: i32) -> String {
        let region = Some(Range::new(0x2f00_0000, 0x3f00_0000));
        let attempt = Attempt { call, panic: true, doing: Doing::Load, region };
        explain(root, &attempt, &io::Error::from_raw_os_error(number)).to_string()
    }

    fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn eperm_names_the_cause_that_holds() {
        let disabled = root_with(&[("proc/sys/kernel/kexec_load_disabled", "1\n")]);
        assert!(said(disabled.path(), Call::Segments, libc::EPERM).contains("kexec_load_disabled"));
        let spent = root_with(&[("proc/sys/kernel/kexec_load_limit_panic", "0\n")]);
        assert!(said(spent.path(), Call::Segments, libc::EPERM).contains("kexec_load_limit_panic"));
        let locked = root_with(&[("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")]);
        assert!(said(locked.path(), Call::Segments, libc::EPERM).contains("--method file"));
        let nobody = root_with(&[("proc/self/status", "CapEff:\t0000000000000000\n")]);
        assert!(said(nobody.path(), Call::File, libc::EPERM).contains("run this as root"));
        let root = root_with(&[("proc/self/status", "CapEff:\t000001ffffffffff\n")]);
        assert!(said(root.path(), Call::File, libc::EPERM).contains("security module"));
    }

    #[test]
    fn every_number_says_what_to_do() {
        let root = root_with(&[]);
        for call in [Call::Segments, Call::File] {
            for number in 1..134 {
                let text = said(root.path(), call, number);
                assert!(text.contains("; "), "{text}");
            }
        }
        assert!(said(root.path(), Call::File, libc::EADDRNOTAVAIL).contains("256.0 MiB"));
        assert!(said(root.path(), Call::Segments, libc::EACCES).contains("for unloading too"));
    }

    #[test]
    fn only_a_call_that_did_not_understand_is_worth_another() {
        let worth = |number| worth_another_way(&io::Error::from_raw_os_error(number));
        assert!([libc::ENOSYS, libc::EINVAL, libc::ENOEXEC, libc::ENOTSUP].into_iter().all(worth));
        assert!(![libc::EPERM, libc::EADDRNOTAVAIL, libc::ENOKEY, libc::EBUSY, libc::ENOMEM].into_iter().any(worth));
    }
}
