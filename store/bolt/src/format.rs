//! The bytes of a page: headers, elements, meta pages.

/// The size of a page that is written, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// The bytes before a page's elements.
pub(crate) const HEADER_BYTES: usize = 16;
/// The bytes of a branch's or a leaf's element.
pub(crate) const ELEMENT_BYTES: usize = 16;
/// The value of a bucket's element: its root page and its sequence.
pub(crate) const BUCKET_BYTES: usize = 16;
/// The header, and the fields of a meta page.
pub(crate) const META_BYTES: usize = HEADER_BYTES + 64;

/// The flag of a branch page.
pub(crate) const BRANCH: u16 = 1;
/// The flag of a leaf page.
pub(crate) const LEAF: u16 = 2;
/// The flag of a meta page.
pub(crate) const META: u16 = 4;
/// The flag of a leaf's element that is a bucket.
pub(crate) const IS_BUCKET: u32 = 1;
/// The longest key, in bytes.
pub(crate) const KEY_MAX: usize = 32 << 10;
/// The longest value, in bytes.
pub(crate) const VALUE_MAX: usize = (1 << 31) - 2;
/// In place of the freelist's page: the file has none, as etcd writes it. bbolt finds the free
/// pages by a scan.
const NO_FREELIST: u64 = u64::MAX;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// The fields of a meta page that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    /// The root page of the root bucket.
    pub(crate) root: u64,
    /// The number of pages of the file.
    pub(crate) pages: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    /// The meta page of that number.
    pub(crate) fn encode(&self, number: u64) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        page[..HEADER_BYTES].copy_from_slice(&header(number, META, 0, 0));
        let mut fields = Vec::with_capacity(64);
        for word in [MAGIC, VERSION, self.page_bytes, 0] {
            fields.extend(word.to_le_bytes());
        }
        for word in [self.root, 0, NO_FREELIST, self.pages, self.transaction] {
            fields.extend(word.to_le_bytes());
        }
        fields.extend(fnv1a(&fields).to_le_bytes());
        page[HEADER_BYTES..META_BYTES].copy_from_slice(&fields);
        page
    }

    /// Reads a meta page's first [`META_BYTES`]; `None` if they are not one.
    pub(crate) fn decode(page: &[u8]) -> Option<Meta> {
        let fields = page.get(HEADER_BYTES..META_BYTES)?;
        let is_meta = u32_at(fields, 0)? == MAGIC && u32_at(fields, 4)? == VERSION;
        let is_whole = u64_at(fields, 56)? == fnv1a(&fields[..56]);
        (is_meta && is_whole).then_some(())?;
        Some(Meta {
            page_bytes: u32_at(fields, 8)?,
            root: u64_at(fields, 16)?,
            pages: u64_at(fields, 40)?,
            transaction: u64_at(fields, 48)?,
        })
    }
}

/// The header of a page that goes on for `overflow` more pages.
pub(crate) fn header(number: u64, flags: u16, count: u16, overflow: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&number.to_le_bytes());
    header[8..10].copy_from_slice(&flags.to_le_bytes());
    header[10..12].copy_from_slice(&count.to_le_bytes());
    header[12..].copy_from_slice(&overflow.to_le_bytes());
    header
}

/// FNV-1a of 64 bits, the checksum of a meta page.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// The little-endian number at that place, if it is within the bytes.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

/// As [`u16_at`], of 32 bits.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// As [`u16_at`], of 64 bits.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}
