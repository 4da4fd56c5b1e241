//! First and last instructions: the machine's state as the dead kernel leaves it, and as the next kernel wants it.
//!
//! Knows registers and descriptors. Must not know what is checked. Calls `purgatory_main`; then jumps or stops.
//!
//! On entry (relocate_kernel_64.S, machine_kexec_64.c of Linux): 64-bit mode, paging on with all of RAM mapped at its
//! physical address, interrupts off, CR4 nothing but PAE and LA57 (so an SSE instruction is an invalid opcode), GDT and
//! IDT gone, general registers zero. On exit (Documentation/arch/x86/boot.rst, 64-bit boot protocol): CS 0x10 and DS, ES,
//! SS 0x18 from a GDT that has them, rsi = boot_params, interrupts off, paging as it was.

use core::arch::global_asm;
use core::mem::{offset_of, size_of};

use crate::abi::Params;

/// Bytes of stack. The deepest call needs less than 1 KiB.
const STACK: usize = 8192;

global_asm!(
    // Section .head comes first in the blob: its symbol is the blob's address.
    ".section .head, \"ax\", @progbits",
    ".globl purgatory_entry",
    "purgatory_entry:",
    "cli",
    "cld",
    "lea rsp, [rip + purgatory_stack_end]",
    // The table's address is known only now, so its descriptor is made on the stack.
    "lea rax, [rip + purgatory_gdt]",
    "push rax",
    "sub rsp, 8",
    "mov word ptr [rsp + 6], 31",
    "lgdt [rsp + 6]",
    "add rsp, 16",
    "mov eax, 0x18",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "mov fs, eax",
    "mov gs, eax",
    "lea rax, [rip + 2f]",
    "push 0x10",
    "push rax",
    "retfq",
    "2:",
    // The SHA extensions work on SSE registers; and should a compiler slip an SSE instruction in, it works as well:
    // CR0.EM and TS off, MP on; CR4.OSFXSR and OSXMMEXCPT on. Both are put back below.
    "mov rbx, cr0",
    "mov rbp, cr4",
    "mov rax, rbx",
    "and rax, ~0xc",
    "or rax, 0x2",
    "mov cr0, rax",
    "mov rax, rbp",
    "or rax, 0x600",
    "mov cr4, rax",
    "lea rdi, [rip + purgatory_entry]",
    "lea rsi, [rip + purgatory_params]",
    "call purgatory_main",
    "mov cr4, rbp",
    "mov cr0, rbx",
    "test eax, eax",
    "jnz 3f",
    "lea rsp, [rip + purgatory_stack_end]",
    "xor eax, eax",
    "xor ebx, ebx",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor edi, edi",
    "xor ebp, ebp",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "xor r11d, r11d",
    "xor r12d, r12d",
    "xor r13d, r13d",
    "xor r14d, r14d",
    "xor r15d, r15d",
    "mov rsi, [rip + purgatory_params + {boot_params}]",
    "jmp qword ptr [rip + purgatory_params + {kernel_entry}]",
    "3:",
    "lea rdi, [rip + purgatory_params]",
    "call purgatory_stop",
    "ud2",
    // Flat descriptors, marked as accessed, so that the processor has nothing to write here.
    ".balign 16",
    "purgatory_gdt:",
    ".quad 0",
    ".quad 0",
    ".quad 0x00af9b000000ffff", // 0x10: 64-bit code, execute and read
    ".quad 0x00cf93000000ffff", // 0x18: data, read and write
    // The loader's table is the last thing in the file.
    ".section .params, \"a\", @progbits",
    ".balign 16",
    ".globl purgatory_params",
    "purgatory_params:",
    ".zero {params}",
    // Behind the file: the kernel's loader fills it with zeros.
    ".section .bss.stack, \"aw\", @nobits",
    ".balign 16",
    ".zero {stack}",
    "purgatory_stack_end:",
    ".text",
    boot_params = const offset_of!(Params, boot_params),
    kernel_entry = const offset_of!(Params, kernel_entry),
    params = const size_of::<Params>(),
    stack = const STACK,
);
