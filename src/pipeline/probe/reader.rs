//! Reads of a few bytes at known places, each bounded by the length of the input.

use std::io::{self, Read, Seek, SeekFrom};

/// The order of bytes in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

/// An input with its length.
#[derive(Debug)]
pub(super) struct Reader<'a, R> {
    input: &'a mut R,
    length: u64,
}

impl<'a, R: Read + Seek> Reader<'a, R> {
    /// Measures the input and goes to its start.
    pub(super) fn new(input: &'a mut R) -> io::Result<Self> {
        let length = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        Ok(Self { input, length })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn go_to(&mut self, offset: u64) -> io::Result<()> {
        self.input.seek(SeekFrom::Start(offset)).map(|_| ())
    }

    /// As many of the first `bytes` as there are; then back to the start.
    pub(super) fn peek(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::with_capacity(bytes);
        self.go_to(0)?;
        (&mut *self.input).take(bytes as u64).read_to_end(&mut head)?;
        self.go_to(0)?;
        Ok(head)
    }

    pub(super) fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take::<1>()?[0])
    }

    pub(super) fn u16(&mut self, order: Order) -> io::Result<u16> {
        let bytes = self.take()?;
        Ok(match order {
            Order::Big => u16::from_be_bytes(bytes),
            Order::Little => u16::from_le_bytes(bytes),
        })
    }

    pub(super) fn u32(&mut self, order: Order) -> io::Result<u32> {
        let bytes = self.take()?;
        Ok(match order {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        })
    }

    pub(super) fn u64(&mut self, order: Order) -> io::Result<u64> {
        let bytes = self.take()?;
        Ok(match order {
            Order::Big => u64::from_be_bytes(bytes),
            Order::Little => u64::from_le_bytes(bytes),
        })
    }
}
