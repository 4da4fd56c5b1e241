//! SHA-256 blocks with the processor's own instructions: several times as fast.
//!
//! Knows registers. Runs only if the loader saw that the processor has them, and after the entry allowed SSE. The
//! only code here that uses SSE registers: the kernel keeps nothing in them across a crash.

use core::arch::{asm, global_asm};

/// Takes `count` blocks at `data` into `state`; `k` is the 64 round constants.
///
/// # Safety
/// The blocks are memory, and the processor has the SHA extensions and SSE 4.1.
pub unsafe fn blocks(state: &mut [u32; 8], data: u64, count: u64, k: &[u32; 64]) {
    // SAFETY: the caller's; the code below keeps to the ABI, and changes nothing but the state. It is no declared
    // function, because those are called through a table of addresses, which a blob does not have.
    unsafe {
        asm!(
            "call purgatory_blocks",
            in("rdi") state.as_mut_ptr(),
            inout("rsi") data => _,
            inout("rdx") count => _,
            in("rcx") k.as_ptr(),
            clobber_abi("sysv64"),
        );
    }
}

// sha256rnds2 does two rounds; it wants the state as (f e b a) and (h g d c) from the lowest lane up, and its two words
// plus constants in xmm0. sha256msg1 and msg2 are the two halves of the schedule (Intel SDM, volume 2).
// xmm1, xmm2: state. xmm3 to xmm6: the last sixteen words. xmm8, xmm9: the state before the block. xmm10: byte order.
global_asm!(
    ".section .text.sha_extensions, \"ax\", @progbits",
    ".macro purgatory_four words",
    "movdqu xmm0, [rax]",
    "paddd xmm0, \\words",
    "add rax, 16",
    "sha256rnds2 xmm2, xmm1, xmm0",
    "pshufd xmm0, xmm0, 0x0e",
    "sha256rnds2 xmm1, xmm2, xmm0",
    ".endm",
    // Four rounds with w0, which becomes the four words behind w3.
    ".macro purgatory_four_and_next w0 w1 w2 w3",
    "purgatory_four \\w0",
    "sha256msg1 \\w0, \\w1",
    "movdqa xmm7, \\w3",
    "palignr xmm7, \\w2, 4",
    "paddd \\w0, xmm7",
    "sha256msg2 \\w0, \\w3",
    ".endm",
    ".macro purgatory_words xmm at",
    "movdqu \\xmm, [rsi + \\at]",
    "pshufb \\xmm, xmm10",
    ".endm",
    ".balign 16",
    "purgatory_blocks:",
    "test rdx, rdx",
    "jz 4f",
    "movabs rax, 0x0405060700010203",
    "movq xmm10, rax",
    "movabs rax, 0x0c0d0e0f08090a0b",
    "movq xmm0, rax",
    "punpcklqdq xmm10, xmm0",
    // (a b c d), (e f g h) to (f e b a), (h g d c).
    "movdqu xmm1, [rdi]",
    "movdqu xmm2, [rdi + 16]",
    "pshufd xmm1, xmm1, 0xb1",
    "pshufd xmm2, xmm2, 0x1b",
    "movdqa xmm0, xmm1",
    "palignr xmm1, xmm2, 8",
    "pblendw xmm2, xmm0, 0xf0",
    "2: mov rax, rcx",
    "movdqa xmm8, xmm1",
    "movdqa xmm9, xmm2",
    "purgatory_words xmm3 0",
    "purgatory_words xmm4 16",
    "purgatory_words xmm5 32",
    "purgatory_words xmm6 48",
    "mov r8d, 3",
    "3: purgatory_four_and_next xmm3 xmm4 xmm5 xmm6",
    "purgatory_four_and_next xmm4 xmm5 xmm6 xmm3",
    "purgatory_four_and_next xmm5 xmm6 xmm3 xmm4",
    "purgatory_four_and_next xmm6 xmm3 xmm4 xmm5",
    "dec r8d",
    "jnz 3b",
    "purgatory_four xmm3",
    "purgatory_four xmm4",
    "purgatory_four xmm5",
    "purgatory_four xmm6",
    "paddd xmm1, xmm8",
    "paddd xmm2, xmm9",
    "add rsi, 64",
    "dec rdx",
    "jnz 2b",
    // And back.
    "pshufd xmm1, xmm1, 0x1b",
    "pshufd xmm2, xmm2, 0xb1",
    "movdqa xmm0, xmm1",
    "pblendw xmm1, xmm2, 0xf0",
    "palignr xmm2, xmm0, 8",
    "movdqu [rdi], xmm1",
    "movdqu [rdi + 16], xmm2",
    "4: ret",
    ".text",
);
