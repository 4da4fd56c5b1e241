//! `vdump load`, `status` and the rest as a user meets them: plans for recorded machines, and errors that say what to do.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vdump_loader::host::Host;
use vdump_loader::image::Image;
use vdump_loader::plan::{Options, Plan, Request};

use crate::harness::{Run, run, temp_dir, vdump, vdump_with};

#[path = "../loader/tests/plans/images.rs"]
#[allow(dead_code)]
pub mod images;
#[path = "../loader/tests/plans/tree.rs"]
pub mod tree;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = temp_dir();
        fs::write(dir.path().join("vmlinuz"), images::BzImage::default().bytes()).unwrap();
        fs::write(dir.path().join("initrd"), vec![7; 3 << 20]).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Plans a capture kernel for a recorded machine.
    fn plan(&self, root: &Path, options: &[&str]) -> Run {
        let mut command = vdump();
        command.args(["load", "--panic", "--dry-run", "--append", "quiet", "--initrd"]).arg(self.path("initrd"));
        run(command.arg("--root").arg(root).args(options).arg(self.path("vmlinuz")))
    }
}

#[track_caller]
fn one_error(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code(), Some(code), "{run:?}");
    assert!(run.stdout.is_empty(), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "no '{word}': {}", run.stderr);
    }
}

#[test]
fn a_plan_is_for_people_and_for_programs() {
    let (files, root) = (Files::new(), tree::tree("debian-6.12-kaslr"));
    let text = files.plan(root.path(), &[]).ok().stdout;
    for word in ["bzImage 9.9.9-test", "kernel", "initrd", "purgatory", "elfcorehdr", "256.0 MiB", "elfcorehdr=0x"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let json: Value = serde_json::from_str(&files.plan(root.path(), &["--json"]).ok().stdout).unwrap();
    let segments = json["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 5);
    let initrd = segments.iter().find(|segment| segment["name"] == "initrd").unwrap();
    assert_eq!(initrd["data"], 3 << 20);
    assert_eq!(initrd["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(json["core_headers"]["notes"].as_array().unwrap().len(), 3);
    let stable =
        |text: &str| text.lines().filter(|line| !line.contains("params")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(stable(&files.plan(root.path(), &[]).ok().stdout), stable(&text), "two runs give one plan");
}

#[test]
fn the_running_kernels_command_line_is_reused_without_what_is_only_its_own() {
    let (files, root) = (Files::new(), tree::tree("efi"));
    let json: Value =
        serde_json::from_str(&files.plan(root.path(), &["--json", "--reuse-cmdline"]).ok().stdout).unwrap();
    let line = json["command_line"].as_str().unwrap();
    assert!(line.starts_with("elfcorehdr=0x") && line.contains(" acpi_no_memhotplug console=ttyS0 "), "{line}");
    assert!(line.ends_with("rdinit=/init panic=-1 initrd=initrd quiet") && !line.contains("crashkernel"), "{line}");
}

#[test]
fn what_a_new_user_does_wrong_is_told_in_one_line() {
    let files = Files::new();
    let good = tree::tree("debian-6.12-kaslr");
    one_error(&files.plan(tree::tree("no-crashkernel").path(), &[]), 1, &["no memory is reserved", "crashkernel=256M"]);
    one_error(&files.plan(tree::tree("not-root").path(), &[]), 1, &["as root"]);
    one_error(&files.plan(tree::tree("too-small").path(), &[]), 1, &["does not fit", "at least 16 MiB larger"]);
    one_error(
        &files.plan(good.path(), &["--method", "file", "--backup", "always"]),
        2,
        &["--backup", "--method segments"],
    );
    fs::write(files.path("vmlinuz"), "a text file\n").unwrap();
    one_error(&files.plan(good.path(), &[]), 1, &["vmlinuz", "text file", "give a kernel"]);
    fs::remove_file(files.path("vmlinuz")).unwrap();
    one_error(&files.plan(good.path(), &[]), 1, &["vmlinuz", "No such file"]);
    let files = Files::new();
    fs::remove_file(files.path("initrd")).unwrap();
    one_error(&files.plan(good.path(), &[]), 1, &["initrd", "No such file"]);
    fs::create_dir(files.path("initrd")).unwrap();
    one_error(&files.plan(good.path(), &[]), 1, &["initrd", "folder"]);
}

/// Plans in a process that may have no more than 200 MiB of addresses.
fn plan_in_little_memory(root: &Path, kernel: &Path, initrd: &Path) -> Run {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 204800; exec \"$@\"", "sh"]).arg(vdump().get_program());
    shell.args(["load", "--panic", "--dry-run", "--append", "quiet", "--root"]).arg(root).arg("--initrd").arg(initrd);
    run(shell.arg(kernel))
}

#[test]
fn files_are_not_read_beyond_what_fits() {
    let (files, root) = (Files::new(), tree::tree("too-small"));
    let (kernel, initrd) = (files.path("vmlinuz"), files.path("initrd"));
    fs::write(&kernel, images::BzImage { init_size: 8 << 20, ..images::BzImage::default() }.bytes()).unwrap();
    plan_in_little_memory(root.path(), &kernel, &initrd).ok();
    // A small file with 2 GiB in it: whole members, one after the other.
    let packed = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let zeros = packed(&[0; 1 << 20]);
    let mut bomb = packed(&fs::read(&kernel).unwrap());
    (0..2048).for_each(|_| bomb.extend(&zeros));
    let large = files.path("bomb");
    fs::write(&large, &bomb).unwrap();
    one_error(
        &plan_in_little_memory(root.path(), &large, &initrd),
        1,
        &["more than 64.0 MiB", "48.0 MiB are reserved"],
    );
    // One that is no kernel is refused by its beginning.
    fs::write(&large, zeros.repeat(2048)).unwrap();
    one_error(&plan_in_little_memory(root.path(), &large, &initrd), 1, &["it is not a bzImage"]);
    // Debug information is read past, plain or packed.
    let vmlinux = images::vmlinux(16 << 20, 3 << 20, 8 << 20);
    fs::write(&large, [packed(&vmlinux), zeros.repeat(400)].concat()).unwrap();
    plan_in_little_memory(root.path(), &large, &initrd).ok();
    fs::write(&large, vmlinux).unwrap();
    File::options().write(true).open(&large).unwrap().set_len(500 << 20).unwrap();
    plan_in_little_memory(root.path(), &large, &initrd).ok();
    // An initrd is judged by its size, and what would do is said.
    File::create(files.path("huge")).unwrap().set_len(3 << 30).unwrap();
    let text = plan_in_little_memory(root.path(), &kernel, &files.path("huge"));
    one_error(&text, 1, &["does not fit", "initrd 3072.0 MiB", "larger"]);
    let nothing = tree::tree("no-crashkernel");
    let text = plan_in_little_memory(nothing.path(), &kernel, &files.path("huge"));
    one_error(&text, 1, &["no memory is reserved", "add crashkernel=12368M"]);
}

#[test]
fn what_follows_a_compressed_kernel_is_left_alone() {
    let (files, root) = (Files::new(), tree::tree("debian-6.12-kaslr"));
    let kernel = fs::read(files.path("vmlinuz")).unwrap();
    let kernel_of = |json: &str| {
        let plan: Value = serde_json::from_str(json).unwrap();
        plan["segments"].as_array().unwrap().iter().find(|segment| segment["name"] == "kernel").unwrap().clone()
    };
    let plain = files.plan(root.path(), &["--json"]).ok().stdout;
    let tool = |program: &str| {
        let mut packer = Command::new(program);
        let output = packer.arg("-c").arg(files.path("plain")).output().unwrap();
        assert!(output.status.success(), "{program}");
        output.stdout
    };
    fs::write(files.path("plain"), &kernel).unwrap();
    for packed in ["gzip", "zstd", "xz"].map(tool) {
        for tail in [&b"x\n"[..], &[0; 4096]] {
            fs::write(files.path("vmlinuz"), [&packed, tail].concat()).unwrap();
            let planned = files.plan(root.path(), &["--json"]).ok().stdout;
            assert_eq!(kernel_of(&planned), kernel_of(&plain));
        }
        fs::write(files.path("vmlinuz"), &packed[..packed.len() - 3]).unwrap();
        one_error(&files.plan(root.path(), &[]), 1, &["cannot decompress", "the file is damaged"]);
    }
}

#[test]
fn another_root_is_for_plans_only() {
    let files = Files::new();
    let kernel = files.path("vmlinuz").display().to_string();
    for line in [&["load", "--panic", "--root", "/tmp", &kernel][..], &["load", "--json", &kernel], &["load"]] {
        assert_eq!(vdump_with(line).code(), Some(2), "{line:?}");
    }
}

#[test]
fn status_of_recorded_machines() {
    let show = |name: &str, options: &[&str]| {
        let root = tree::tree(name);
        run(vdump().args(["status", "--root"]).arg(root.path()).args(options))
    };
    // Nothing is loaded on any of them: that is told by the exit code too, and by no error.
    let not_ready = |name: &str, options: &[&str]| {
        let status = show(name, options);
        assert_eq!((status.code(), status.stderr.as_str()), (Some(1), ""), "{name}");
        status.stdout
    };
    let text = not_ready("debian-6.12-kaslr", &[]);
    assert!(text.contains("256.0 MiB") && text.contains("capture kernel  not loaded"), "{text}");
    let text = not_ready("no-crashkernel", &[]);
    assert!(text.contains("none") && text.contains("crashkernel=") && text.contains("ready to dump   no"), "{text}");
    let json: Value = serde_json::from_str(&not_ready("cma", &["--json"])).unwrap();
    assert_eq!((&json["reserved_bytes"], &json["capture"]["loaded"]), (&Value::from(128 << 20), &Value::Bool(false)));
    assert_eq!((&json["reserved_cma"][0]["start"], &json["ready"]), (&Value::from(0x5000_0000), &Value::Bool(false)));
    one_error(&show("not-root", &[]), 1, &["as root"]);
}

#[test]
fn status_is_zero_when_a_capture_kernel_is_loaded() {
    let root = tree::tree("debian-6.12-kaslr");
    tree::write(root.path(), "sys/kernel/kexec_crash_loaded", b"1\n");
    let status = || run(vdump().args(["status", "--root"]).arg(root.path()));
    let text = status().ok().stdout;
    assert!(text.contains("by another program") && text.contains("ready to dump   yes"), "{text}");
    // A kernel without kexec does not say: no capture kernel is known to be ready.
    for file in ["kexec_crash_loaded", "kexec_loaded"] {
        fs::remove_file(root.path().join("sys/kernel").join(file)).unwrap();
    }
    assert_eq!(status().code(), Some(1));
}

#[test]
fn called_as_kexec_it_answers_as_kexec() {
    let dir = temp_dir();
    let link = dir.path().join("kexec");
    let program = fs::canonicalize(vdump().get_program()).unwrap();
    symlink(program, &link).unwrap();
    let kexec = |words: &[&str]| run(Command::new(&link).args(words));
    assert!(kexec(&["--version"]).ok().stdout.starts_with("kexec-tools 2"));
    assert!(kexec(&["-h"]).ok().stdout.contains("kexec -p KERNEL"));
    one_error(&kexec(&["--no-such-option"]), 1, &["unknown option"]);
    one_error(&kexec(&["-p", "--mem-max=0x1000", "k"]), 1, &["--mem-max cannot be honoured"]);
    one_error(&kexec(&["-p", "/no/such/kernel"]), 1, &["/no/such/kernel"]);
}

/// What the capture kernel makes of the headers: the same, with everything behind them in one file.
fn as_vmcore(plan: &Plan<'_>, path: &Path) -> (usize, u64) {
    let mut headers = plan.segment("elfcorehdr").unwrap().data.to_vec();
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let count = usize::from(u16::from_le_bytes([headers[56], headers[57]]));
    let file = File::create(path).unwrap();
    let (mut at, mut loads, mut ram) = (1 << 20, 0, 0);
    for index in 0..count {
        let header = 64 + index * 56;
        headers[header + 8..header + 16].copy_from_slice(&u64::to_le_bytes(at));
        let (vaddr, size) = (number(&headers, header + 16), number(&headers, header + 40));
        if headers[header] == 1 {
            loads += 1;
            ram += if vaddr < 0xffff_ffff_8000_0000 { size } else { 0 };
        }
        at += size.next_multiple_of(4096);
    }
    file.set_len(at).unwrap();
    file.write_all_at(&headers, 0).unwrap();
    (loads, ram)
}

#[test]
fn our_own_reader_understands_the_core_headers() {
    let dir = temp_dir();
    for name in ["debian-6.12-kaslr", "debian-6.1-la57", "high-and-low", "efi"] {
        let root = tree::tree(name);
        let image = Image::parse("k", images::BzImage::default().bytes()).unwrap();
        let options = Options { panic: true, ..Options::default() };
        let request = Request { image: &image, initrd: None, command_line: "", options: &options, seed: None };
        let plan = Plan::make(&Host::read(root.path()).unwrap(), &request).unwrap();
        let path = dir.path().join(name);
        let (loads, ram) = as_vmcore(&plan, &path);
        let info: Value =
            serde_json::from_str(&vdump_with(["info", "--json", path.to_str().unwrap()]).ok().stdout).unwrap();
        assert_eq!(
            (&info["architecture"], &info["format"]),
            (&Value::from("x86_64"), &Value::from("ELF core")),
            "{name}"
        );
        assert_eq!((info["segments"].as_u64(), info["ram_bytes"].as_u64()), (Some(loads as u64), Some(ram)), "{name}");
    }
}
