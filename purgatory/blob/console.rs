//! What the purgatory says: to a 16550 UART, and to QEMU's debug port.
//!
//! Knows ports and plain text. Must not know what it means. Never waits for long: a dead UART is given up at once.

use crate::abi::Params;
use crate::machine::{in8, out8};

/// Reads of the line status before a UART counts as dead: 0.2 s and more, a dozen characters at 1200 baud.
const PATIENCE: u32 = 200_000;
/// Line status: the UART takes a character.
const TAKES: u8 = 0x20;
/// Line status: everything has left the wire.
const IDLE: u8 = 0x40;

/// Where messages go.
pub struct Console {
    /// First port of the UART; 0: none, or it died.
    uart: u16,
    debug_port: bool,
}

impl Console {
    /// Sets the UART up as the table says: 8 bits, no parity, one stop bit, no interrupts.
    pub fn open(params: &Params) -> Self {
        let uart = params.serial_port;
        let mut console = Self { uart, debug_port: params.debug_port != 0 };
        if uart == 0 {
            return console;
        }
        if in8(uart.wrapping_add(5)) == 0xff {
            console.uart = 0;
            return console;
        }
        if params.serial_divisor != 0 {
            // What the dead kernel said last leaves first.
            console.wait(IDLE);
            if console.uart == 0 {
                return console;
            }
            let [low, high] = params.serial_divisor.to_le_bytes();
            out8(uart.wrapping_add(3), 0x80);
            out8(uart, low);
            out8(uart.wrapping_add(1), high);
            out8(uart.wrapping_add(3), 0x03);
            out8(uart.wrapping_add(1), 0x00);
            out8(uart.wrapping_add(2), 0x01);
            out8(uart.wrapping_add(4), 0x03);
        }
        console
    }

    /// Waits for a bit of the line status; gives the UART up if it does not come.
    fn wait(&mut self, bit: u8) {
        let mut tries = 0;
        while self.uart != 0 {
            let status = in8(self.uart.wrapping_add(5));
            if status & bit != 0 && status != 0xff {
                return;
            }
            tries += 1;
            if tries == PATIENCE {
                self.uart = 0;
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.debug_port {
            out8(0xe9, byte);
        }
        self.wait(TAKES);
        if self.uart != 0 {
            out8(self.uart, byte);
        }
    }

    /// Text; `\n` ends a line.
    pub fn text(&mut self, text: &[u8]) {
        for byte in text {
            if *byte == b'\n' {
                self.byte(b'\r');
            }
            self.byte(*byte);
        }
    }

    /// A name that ends early at a zero; what is not printable becomes `?`.
    pub fn name(&mut self, name: &[u8]) {
        for byte in name {
            match *byte {
                0 => return,
                b' '..=b'~' => self.byte(*byte),
                _ => self.byte(b'?'),
            }
        }
    }

    /// Hexadecimal, `digits` wide.
    pub fn hex(&mut self, value: u64, digits: u32) {
        let mut left = digits;
        while left > 0 {
            left -= 1;
            let digit = (value >> (4 * (left & 15))) as u8 & 15;
            self.byte(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
        }
    }

    /// A physical address, without leading zeros.
    pub fn address(&mut self, value: u64) {
        self.text(b"0x");
        let mut digits = 1;
        while digits < 16 && value >> (4 * digits) != 0 {
            digits += 1;
        }
        self.hex(value, digits);
    }

    /// A number below 100.
    pub fn small(&mut self, value: u32) {
        if value >= 10 {
            self.byte(b'0' + (value / 10 % 10) as u8);
        }
        self.byte(b'0' + (value % 10) as u8);
    }

    /// Waits until the last character has left: the next kernel sets the UART up anew.
    pub fn flush(&mut self) {
        self.wait(IDLE);
    }
}
