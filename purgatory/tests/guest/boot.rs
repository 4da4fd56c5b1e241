//! The dead kernel's last act, for tests: brings a bare PC into the state that Linux' relocate_kernel leaves, and jumps.
//!
//! A multiboot image for address 0x100000. The test writes at 0x20 where to jump to, at 0x28 the bits of CR4, at 0x30
//! those of CR0. Must not do what the purgatory has to do: no stack to speak of, no tables, SSE off.

#![no_std]

core::arch::global_asm!(
    ".section .head, \"ax\", @progbits",
    "boot:",
    // Multiboot header: magic, flags (addresses follow), checksum, header, load, end of data, end of zeros, entry.
    ".long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)",
    ".long 0x100000, 0x100000, 0, 0, 0x100080",
    ".org 0x20",
    ".quad 0", // the purgatory's entry
    ".quad 0", // CR4
    ".quad 0", // CR0
    ".org 0x40",
    // As Linux has them: 0x10 code, 0x18 data.
    ".quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    ".org 0x60",
    ".word 0x1f",
    ".long 0x100040",
    ".org 0x68",
    ".quad 0, 0", // no table
    ".org 0x80",
    ".code32",
    "cli",
    // Page tables at 0x10000: level 5, level 4, level 3, four of level 2 with pages of 2 MiB.
    "cld",
    "mov edi, 0x10000",
    "mov ecx, 0x1c00",
    "xor eax, eax",
    "rep stosd",
    "mov dword ptr [0x10000], 0x11003",
    "mov dword ptr [0x11000], 0x12003",
    "mov dword ptr [0x12000], 0x13003",
    "mov dword ptr [0x12008], 0x14003",
    "mov dword ptr [0x12010], 0x15003",
    "mov dword ptr [0x12018], 0x16003",
    "mov edi, 0x13000",
    "mov eax, 0x83",
    "2: mov [edi], eax",
    "add edi, 8",
    "add eax, 0x200000",
    "cmp edi, 0x17000",
    "jne 2b",
    // The dead kernel's low memory, from 0x20000 to 0x60000: the firmware empties what was put there before.
    "mov edi, 0x20000",
    "xor eax, eax",
    "5: imul eax, eax, 1664525",
    "add eax, 1013904223",
    "stosd",
    "cmp edi, 0x60000",
    "jne 5b",
    "mov eax, [0x100028]",
    "mov cr4, eax",
    "mov ebx, 0x11000",
    "test eax, 0x1000",
    "jz 3f",
    "mov ebx, 0x10000",
    "3: mov cr3, ebx",
    // EFER: long mode, no-execute, system calls.
    "mov ecx, 0xc0000080",
    "mov eax, 0x901",
    "xor edx, edx",
    "wrmsr",
    "mov eax, [0x100030]",
    "mov cr0, eax",
    "lgdt [0x100060]",
    "push 0x10",
    "push 0x100180",
    "retf",
    ".org 0x180",
    ".code64",
    "mov eax, 0x18",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "mov fs, eax",
    "mov gs, eax",
    "lgdt [rip + boot + 0x68]",
    "lidt [rip + boot + 0x68]",
    // Less polite than Linux: the direction flag is set, and the stack is in nobody's memory.
    "std",
    "xor eax, eax",
    "xor ebx, ebx",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor edi, edi",
    "mov rsp, -8",
    "jmp [rip + boot + 0x20]",
    ".text",
);
