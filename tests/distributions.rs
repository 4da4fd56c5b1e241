//! What the distributions' capture scripts do with makedumpfile and vmcore-dmesg: the same command lines in the same pipes,
//! with vdump under those names, and with the originals beside it where they are installed.
//!
//! The scripts here are our own; each says which one it stands for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dmesg::talkative;
use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::judges::installed;
use crate::read::kdump::Kdump;
use crate::synth::Fixture;
use crate::synth::kernels::era;

const NAMES: [&str; 2] = ["makedumpfile", "vmcore-dmesg"];

/// A folder with vdump under the names that scripts call.
fn tools(dir: &Path) -> PathBuf {
    let folder = dir.join("bin");
    fs::create_dir(&folder).unwrap();
    let program = fs::canonicalize(vdump().get_program()).unwrap();
    NAMES.iter().for_each(|name| symlink(&program, folder.join(name)).unwrap());
    folder
}

/// Runs a script in bash, in an empty folder; `first` comes before PATH, and `$V` is the dump.
fn bash(script: &str, fixture: &Fixture, first: &Path, dir: &Path) -> Run {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:/usr/sbin:/sbin:{path}", first.display());
    let mut command = Command::new("bash");
    let script = format!("set -o pipefail\n{script}");
    run(command.args(["-c", &script]).current_dir(dir).env("PATH", path).env("V", &fixture.path))
}

/// Runs `script` with vdump, and with the originals if all are there; `check` gets the folder of each.
fn beside_the_originals(script: &str, fixture: &Fixture, dir: &Path, check: impl Fn(&Path)) {
    let folder = |name: &str| {
        let folder = dir.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let (mine, theirs) = (folder("mine"), folder("theirs"));
    bash(script, fixture, &tools(dir), &mine).ok();
    check(&mine);
    if NAMES.into_iter().all(installed) {
        bash(script, fixture, Path::new("/nowhere"), &theirs).ok();
        check(&theirs);
    }
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// openSUSE's kdump, dracut/kdump-save: the log through a FIFO, the kernel's release and the time of the crash from what is said
/// at message level 8, and the dump flattened, in each of KDUMP_DUMPFORMAT's forms.
const SUSE: &str = r#"
mkfifo fifo
makedumpfile -F --message-level 8 --dump-dmesg "$V" > fifo 2> said &
cat fifo > dmesg && wait $! || exit 1
IFS=" ="
while read KEY VALUE; do
    [[ CRASHTIME == "$KEY" ]] && echo "$VALUE" > crashtime
    [[ OSRELEASE == "$KEY" ]] && echo "$VALUE" > osrelease
done < said
unset IFS
for format in -E -c -l; do
    threads="--num-threads 2"
    [[ $format == -E ]] && threads=
    makedumpfile -F $format $threads --message-level 6 -d 31 "$V" > fifo &
    cat fifo > "vmcore$format" && wait $! || exit 1
    makedumpfile -R "whole$format" < "vmcore$format" || exit 1
done
"#;

#[test]
fn suse_saves_its_log_and_its_dump() {
    let dir = temp_dir();
    let fixture = talkative(era("6.1"), dir.path());
    beside_the_originals(SUSE, &fixture, dir.path(), |folder| {
        assert_eq!(read(folder, "osrelease"), "6.1.0-32-amd64\n");
        assert_eq!(read(folder, "crashtime"), format!("{}\n", crate::synth::CRASH_TIME));
        assert!(read(folder, "dmesg").contains("Linux version of a machine that crashed"));
        assert_eq!(&fs::read(folder.join("vmcore-E")).unwrap()[..12], b"makedumpfile");
        assert_eq!(&fs::read(folder.join("whole-E")).unwrap()[..4], b"\x7fELF");
        for name in ["whole-c", "whole-l"] {
            assert!(!Kdump::open(&folder.join(name)).kept().is_empty());
        }
    });
}

/// An ELF dump in records is, put in order by makedumpfile or by us, the very file that is written without them.
#[test]
fn flattened_elf_is_the_elf() {
    let dir = temp_dir();
    let fixture = talkative(era("6.1"), dir.path());
    let plain = dir.path().join("plain.elf");
    filter(&["-d", "31"], &fixture.path, &plain).ok();
    let tools = tools(dir.path());
    bash(r#"makedumpfile -F -E -d 31 "$V" > flat"#, &fixture, &tools, dir.path()).ok();
    for first in [tools.as_path(), Path::new("/nowhere")] {
        if first == tools || installed("makedumpfile") {
            bash("rm -f whole; makedumpfile -R whole < flat", &fixture, first, dir.path()).ok();
            assert!(fs::read(dir.path().join("whole")).unwrap() == fs::read(&plain).unwrap(), "{}", first.display());
        }
    }
    let flat = dir.path().join("flat");
    run(vdump().arg("check").arg(&flat)).ok();
    let again = dir.path().join("again.elf");
    run(vdump().args(["convert"]).args([&flat, &again])).ok();
    let kept = |path: &Path| {
        let out = path.with_extension("kdump");
        run(vdump().args(["convert", "-f", "kdump"]).args([path, &out])).ok();
        Kdump::open(&out).kept()
    };
    assert_eq!(kept(&again), kept(&plain));
}

/// kdump-utils: mkdumprd's verify_core_collector, then kdump.sh's dump_fs and dump_ssh or dump_raw, then kdumpctl's recovery of
/// a raw dump.
const FEDORA: &str = r#"
collector="makedumpfile -l --message-level 7 -d 31"
${collector%% *} --check-params ${collector#* } vmcore dumpfile || exit 1
${collector%% *} --check-params ${collector#* } -F vmcore || exit 1
vmcore-dmesg "$V" > vmcore-dmesg-incomplete.txt && mv vmcore-dmesg-incomplete.txt vmcore-dmesg.txt || exit 1
$collector --num-threads=2 "$V" vmcore-incomplete && mv vmcore-incomplete vmcore || exit 1
$collector -F "$V" | dd bs=512 of=vmcore.flat 2> /dev/null || exit 1
makedumpfile -R again < vmcore.flat || exit 1
"#;

#[test]
fn fedora_checks_saves_and_recovers() {
    let dir = temp_dir();
    let fixture = talkative(era("6.1"), dir.path());
    beside_the_originals(FEDORA, &fixture, dir.path(), |folder| {
        assert!(read(folder, "vmcore-dmesg.txt").contains("Linux version of a machine that crashed"));
        let kept = |name: &str| Kdump::open(&folder.join(name)).kept();
        assert_eq!(kept("vmcore"), kept("again"));
    });
}

/// Debian's kdump-tools, kdump-config: dump_dmesg and kdump_save_core with its default options.
const DEBIAN: &str = r#"
args="-F -c -d 31"
makedumpfile --dump-dmesg "$V" dmesg.202607010000 || exit 1
makedumpfile $args "$V" | cat > dump-incomplete && mv dump-incomplete dump.202607010000 || exit 1
"#;

#[test]
fn debian_saves_its_log_and_its_dump() {
    let dir = temp_dir();
    let fixture = talkative(era("6.1"), dir.path());
    beside_the_originals(DEBIAN, &fixture, dir.path(), |folder| {
        assert!(read(folder, "dmesg.202607010000").contains("Linux version of a machine that crashed"));
        run(vdump().arg("info").arg(folder.join("dump.202607010000"))).ok();
    });
}
