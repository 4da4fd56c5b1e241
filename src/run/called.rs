//! One program, four command lines: which one is meant says the name by which it was called. Each has its own exit codes.

use std::ffi::OsString;

use super::{complain, load, note, print, run};
use crate::{
    cli::{
        CalledAs, Cli, Command,
        compat::{self, Request},
        usage::{self, Refusal},
        vmcore_dmesg,
    },
    error::{Kind, Result},
};

/// Does what the command line asks for. `words` begins with the program's name. Returns the exit code.
pub fn called(words: impl IntoIterator<Item = OsString>) -> u8 {
    let words: Vec<OsString> = words.into_iter().collect();
    let program = words.first().cloned().unwrap_or_default();
    let theirs = words.iter().skip(1).cloned();
    match CalledAs::of(program.as_ref()) {
        CalledAs::Vdump => as_vdump(&words),
        CalledAs::Makedumpfile => as_makedumpfile(theirs),
        CalledAs::Kexec => load::as_kexec(theirs),
        CalledAs::VmcoreDmesg => as_vmcore_dmesg(theirs),
    }
}

fn as_vdump(words: &[OsString]) -> u8 {
    let done = match usage::parse(words) {
        Ok(cli) => run(&cli),
        Err(Refusal::Error(error)) => Err(error),
        Err(Refusal::Show(help)) => {
            // A reader that has seen enough (`| head`) is no failure.
            let _ = help.print();
            return u8::from(help.use_stderr()) * 2;
        }
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            complain(&error);
            error.exit_code()
        }
    }
}

/// What makedumpfile exits with, whatever went wrong.
const MAKEDUMPFILE_FAILED: u8 = 1;

fn as_makedumpfile(words: impl Iterator<Item = OsString>) -> u8 {
    match compat::parse(words).and_then(makedumpfile_request) {
        Ok(()) => 0,
        Err(error) => {
            complain(&compat::in_their_words(error));
            MAKEDUMPFILE_FAILED
        }
    }
}

fn makedumpfile_request(request: Request) -> Result<()> {
    match request {
        Request::Run(cli, notes) => {
            for text in notes {
                note(&text);
            }
            run(&cli)
        }
        Request::Checked => Ok(()),
        Request::Help => print(|out| out.write_all(compat::HELP.as_bytes())),
        Request::Version => print(|out| out.write_all(compat::VERSION.as_bytes())),
    }
}

/// vmcore-dmesg exits with 1 for a wrong command line, and with others when there is no log; the first of those stands for all.
const DMESG_USAGE: u8 = 1;
const DMESG_FAILED: u8 = 2;

fn as_vmcore_dmesg(words: impl Iterator<Item = OsString>) -> u8 {
    let done = vmcore_dmesg::parse(words).and_then(|request| match request {
        vmcore_dmesg::Request::Print(dmesg) => run(&Cli { command: Command::Dmesg(dmesg) }),
        vmcore_dmesg::Request::Help => print(|out| out.write_all(vmcore_dmesg::HELP.as_bytes())),
        vmcore_dmesg::Request::Version => {
            print(|out| writeln!(out, "vmcore-dmesg: vdump {}", env!("CARGO_PKG_VERSION")))
        }
    });
    match done {
        Ok(()) => 0,
        Err(error) => {
            complain(&error);
            if error.kind() == Kind::Usage { DMESG_USAGE } else { DMESG_FAILED }
        }
    }
}
