//! A ZIP as it is written to a stream: members are stored as they are, with their sums behind them, since a sum is known
//! only after the last byte. Without ZIP64, so what is written must stay below 4 GB (APPNOTE.TXT 6.3.10, sections 4.3 and
//! 4.4). A library would do more than this and bring a dozen crates.

use std::io;

use crc32fast::Hasher;
use tokio::io::{AsyncWrite, AsyncWriteExt};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// 2.0: what folders and descriptors need.
const VERSION_NEEDED: u16 = 20;
/// Bit 3: the sum comes behind the bytes. Bit 11: names are UTF-8.
const FLAGS: u16 = 1 << 3 | 1 << 11;
const STORED: u16 = 0;

/// A member that is written.
struct Entry {
    name: String,
    crc32: u32,
    size_bytes: u32,
    offset: u32,
    dos: (u16, u16),
}

/// Writes one archive.
pub struct Writer<W> {
    sink: W,
    /// Bytes so far.
    at: u64,
    entries: Vec<Entry>,
    /// The member that is being written.
    open: Option<Open>,
}

/// A member that is being written.
struct Open {
    name: String,
    sum: Hasher,
    size_bytes: u64,
    offset: u64,
    dos: (u16, u16),
}

/// Little-endian fields, one after the other.
struct Fields(Vec<u8>);

impl Fields {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn name(mut self, name: &str) -> Self {
        self.0.extend(name.as_bytes());
        self
    }
}

fn fields() -> Fields {
    Fields(Vec::with_capacity(64))
}

fn too_long<T>(_: T) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "an archive would need ZIP64")
}

/// Date and time as MS-DOS has them: in local time, which is nobody's here, so in UTC; from 1980 to 2107.
pub fn dos_time(at_ms: i64) -> (u16, u16) {
    let at = time::OffsetDateTime::from_unix_timestamp(at_ms / 1000).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let year = u16::try_from(at.year().clamp(1980, 2107) - 1980).unwrap_or_default();
    let date = year << 9 | u16::from(u8::from(at.month())) << 5 | u16::from(at.day());
    (date, u16::from(at.hour()) << 11 | u16::from(at.minute()) << 5 | (u16::from(at.second()) / 2))
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// An empty archive.
    pub fn new(sink: W) -> Self {
        Self { sink, at: 0, entries: Vec::new(), open: None }
    }

    /// Begins a member.
    pub async fn begin(&mut self, name: String, dos: (u16, u16)) -> io::Result<()> {
        let offset = self.at;
        let head = fields().u32(LOCAL).u16(VERSION_NEEDED).u16(FLAGS).u16(STORED).u16(dos.1).u16(dos.0);
        // Sum and both lengths: see the descriptor.
        let head = head.u32(0).u32(0).u32(0).u16(u16::try_from(name.len()).map_err(too_long)?).u16(0).name(&name);
        self.put(&head.0).await?;
        self.open = Some(Open { name, sum: Hasher::new(), size_bytes: 0, offset, dos });
        Ok(())
    }

    /// The next bytes of the member.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.sum.update(bytes);
            open.size_bytes += bytes.len() as u64;
        }
        self.put(bytes).await
    }

    /// Ends the member.
    pub async fn end(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let size_bytes = u32::try_from(open.size_bytes).map_err(too_long)?;
        let offset = u32::try_from(open.offset).map_err(too_long)?;
        let entry = Entry { name: open.name, crc32: open.sum.finalize(), size_bytes, offset, dos: open.dos };
        self.put(&fields().u32(DESCRIPTOR).u32(entry.crc32).u32(size_bytes).u32(size_bytes).0).await?;
        self.entries.push(entry);
        Ok(())
    }

    /// Writes the directory: without it there is no archive.
    pub async fn finish(mut self) -> io::Result<()> {
        let start = u32::try_from(self.at).map_err(too_long)?;
        let count = u16::try_from(self.entries.len()).map_err(too_long)?;
        for entry in std::mem::take(&mut self.entries) {
            let (date, time) = entry.dos;
            let row = fields().u32(CENTRAL).u16(VERSION_NEEDED).u16(VERSION_NEEDED).u16(FLAGS).u16(STORED).u16(time);
            let row = row.u16(date).u32(entry.crc32).u32(entry.size_bytes).u32(entry.size_bytes);
            let name_bytes = u16::try_from(entry.name.len()).map_err(too_long)?;
            // Extra field, comment, disk, attributes inside and outside.
            let row = row.u16(name_bytes).u16(0).u16(0).u16(0).u16(0).u32(0).u32(entry.offset).name(&entry.name);
            self.put(&row.0).await?;
        }
        let length = u32::try_from(self.at).map_err(too_long)? - start;
        self.put(&fields().u32(END).u16(0).u16(0).u16(count).u16(count).u32(length).u32(start).u16(0).0).await?;
        self.sink.shutdown().await
    }

    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.sink.write_all(bytes).await
    }
}
