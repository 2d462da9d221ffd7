//! Decodes HPACK's Huffman code (RFC 7541 appendix B): one table look-up for the codes of common
//! characters, a short search for the rest, so that the tables stay small enough to be in cache
//! when a call needs them.

use super::decoder::DecodeError;

/// The number of bits of each symbol's code; the last symbol is EOS.
///
/// The code is canonical, so the lengths determine it: codes ascend with the length, then with the
/// symbol.
const WIDTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The longest code.
const WIDTH_MAX: u8 = 30;

/// Codes up to this length are found by one look-up.
const SHORT_WIDTH_MAX: u8 = 9;

static CODES: Codes = Codes::new();

/// A symbol and the number of bits of its code; no bits means that the code is not a short one.
#[derive(Clone, Copy)]
struct Code {
    symbol: u16,
    width: u8,
}

/// The codes of one length, which are consecutive.
#[derive(Clone, Copy)]
struct Group {
    /// The number after the last code, moved to the top of 32 bits: what is below is at most this
    /// long.
    end: u64,
    /// The first code.
    first: u32,
    /// Where the symbol of the first code is in `Codes::symbols`.
    position: u16,
}

struct Codes {
    /// By the next nine bits.
    short: [Code; 1 << SHORT_WIDTH_MAX],
    /// By length.
    groups: [Group; WIDTH_MAX as usize + 1],
    /// All symbols in the order of their codes.
    symbols: [u16; WIDTHS.len()],
}

impl Codes {
    const fn new() -> Codes {
        let (no_code, no_group) = (
            Code {
                symbol: 0,
                width: 0,
            },
            Group {
                end: 0,
                first: 0,
                position: 0,
            },
        );
        let mut codes = Codes {
            short: [no_code; 1 << SHORT_WIDTH_MAX],
            groups: [no_group; WIDTH_MAX as usize + 1],
            symbols: [0; WIDTHS.len()],
        };
        let (mut next, mut position, mut width) = (0, 0, 1);
        while width <= WIDTH_MAX {
            next <<= 1;
            let start = position;
            position = codes.add_group(width, next, start);
            next += (position - start) as u32;
            codes.groups[width as usize].end = (next as u64) << (32 - width);
            width += 1;
        }
        codes
    }

    /// Enters all codes of one length, `first` being the lowest; gives the position after their
    /// symbols.
    const fn add_group(&mut self, width: u8, first: u32, mut position: u16) -> u16 {
        self.groups[width as usize].first = first;
        self.groups[width as usize].position = position;
        let mut next = first as usize;
        let mut symbol = 0;
        while (symbol as usize) < WIDTHS.len() {
            if WIDTHS[symbol as usize] == width {
                self.symbols[position as usize] = symbol;
                self.add_short(Code { symbol, width }, next);
                position += 1;
                next += 1;
            }
            symbol += 1;
        }
        position
    }

    /// Enters a code that is short at every nine bits that begin with it.
    const fn add_short(&mut self, code: Code, bits: usize) {
        if code.width > SHORT_WIDTH_MAX {
            return;
        }
        let free = SHORT_WIDTH_MAX - code.width;
        let mut at = bits << free;
        while at < (bits + 1) << free {
            self.short[at] = code;
            at += 1;
        }
    }

    /// The code that `window` begins with, from its highest bit on.
    #[inline]
    fn first_in(&self, window: u64) -> Code {
        // The shift leaves nine bits, so the cast loses nothing.
        let code = self.short[(window >> (u64::BITS - u32::from(SHORT_WIDTH_MAX))) as usize];
        match code.width {
            0 => self.long_in(window),
            _ => code,
        }
    }

    /// `first_in` for a code that is not short.
    fn long_in(&self, window: u64) -> Code {
        let top = window >> 32;
        let mut width = SHORT_WIDTH_MAX + 1;
        // The code is complete: the end of the longest codes is 1 << 32, which is above any `top`.
        while top >= self.groups[usize::from(width)].end {
            width += 1;
        }
        let group = self.groups[usize::from(width)];
        // At most 30 bits, and then a number below 257: neither cast loses anything.
        let rank = (window >> (u64::BITS - u32::from(width))) as u32 - group.first;
        Code {
            symbol: self.symbols[usize::from(group.position) + rank as usize],
            width,
        }
    }
}

/// The bits not decoded yet: `held` of them at the top of `window`, the others in `rest`.
struct Bits<'a> {
    rest: &'a [u8],
    /// Below the held bits are zeros, or the bits that `rest` begins with.
    window: u64,
    held: u8,
}

impl Bits<'_> {
    /// Holds more than any code needs, unless the input ends before.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.rest.first_chunk() {
            self.window |= u64::from_be_bytes(*word) >> self.held;
            let taken = (63 - self.held) / 8;
            self.rest = &self.rest[usize::from(taken)..];
            self.held += taken * 8;
            return;
        }
        while self.held <= 56
            && let Some((&byte, rest)) = self.rest.split_first()
        {
            self.window |= u64::from(byte) << (56 - self.held);
            self.rest = rest;
            self.held += 8;
        }
    }

    #[inline]
    fn skip(&mut self, width: u8) {
        self.window <<= width;
        self.held -= width;
    }

    /// Whether what is left after the last symbol is less than a byte of ones (RFC 7541 5.2).
    fn is_padding(&self) -> bool {
        self.held < 8 && self.window == !(u64::MAX >> self.held)
    }
}

/// Appends to `plain` what `coded` stands for.
pub(super) fn decode(coded: &[u8], plain: &mut Vec<u8>) -> Result<(), DecodeError> {
    // No code is shorter than five bits, so there is no growing on the way.
    plain.reserve(coded.len() * 8 / 5);
    let mut bits = Bits {
        rest: coded,
        window: 0,
        held: 0,
    };
    loop {
        if bits.held < WIDTH_MAX {
            bits.refill();
        }
        let code = CODES.first_in(bits.window);
        if code.width > bits.held {
            return match bits.is_padding() {
                true => Ok(()),
                false => Err(DecodeError::Malformed),
            };
        }
        // The one symbol that is not a byte is EOS, which a string must not contain.
        plain.push(u8::try_from(code.symbol).map_err(|_| DecodeError::Malformed)?);
        bits.skip(code.width);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every symbol's code as characters `0` and `1`, made from the lengths in another way than
    /// `Codes`.
    fn codes() -> Vec<String> {
        let mut order: Vec<usize> = (0..WIDTHS.len()).collect();
        order.sort_by_key(|&symbol| (WIDTHS[symbol], symbol));
        let mut codes = vec![String::new(); WIDTHS.len()];
        let (mut next, mut width) = (0_u32, 0);
        for symbol in order {
            next <<= WIDTHS[symbol] - width;
            width = WIDTHS[symbol];
            codes[symbol] = format!("{next:0width$b}", width = usize::from(width));
            next += 1;
        }
        codes
    }

    fn pack(mut bits: String) -> Vec<u8> {
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| {
                byte.iter()
                    .fold(0, |value, bit| value << 1 | u8::from(*bit == b'1'))
            })
            .collect()
    }

    /// Huffman-encodes bit by bit.
    pub(in super::super) fn encode(plain: &[u8]) -> Vec<u8> {
        let codes = codes();
        pack(
            plain
                .iter()
                .map(|&byte| &codes[usize::from(byte)][..])
                .collect(),
        )
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut plain = Vec::new();
        decode(coded, &mut plain).map(|()| plain)
    }

    #[test]
    fn codes_are_those_of_the_appendix() {
        let codes = codes();
        for (symbol, code) in [
            (usize::from(b'0'), "00000"),
            (usize::from(b'~'), "1111111111101"),
            (0, "1111111111000"),
            (10, "111111111111111111111111111100"),
            (199, "1111111111111111111101100"),
            (255, "11111111111111111111101110"),
            (256, "111111111111111111111111111111"),
        ] {
            assert_eq!(codes[symbol], code, "symbol {symbol}");
        }
    }

    #[test]
    fn every_byte_decodes() {
        for byte in 0..=u8::MAX {
            for plain in [vec![byte], vec![byte; 2], [[byte, b'0']; 9].concat()] {
                assert_eq!(decoded(&encode(&plain)), Ok(plain));
            }
        }
        let all: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
        assert_eq!(decoded(&encode(&all)), Ok(all));
        assert_eq!(decoded(b""), Ok(Vec::new()));
    }

    #[test]
    fn eos_and_wrong_padding_are_malformed() {
        let codes = codes();
        let (zero, eos) = (&codes[usize::from(b'0')], &codes[256]);
        for bits in [
            // EOS alone, first, last, and cut short by the end.
            eos.clone(),
            format!("{eos}{zero}"),
            format!("{zero}{eos}"),
            eos[..24].to_owned(),
            // A whole byte of padding, and padding with a zero in it.
            "1".repeat(8),
            format!("{zero}11111111111"),
            format!("{zero}110"),
            format!("{zero}101"),
            // The beginning of a code longer than what is left.
            "11111110".to_owned(),
        ] {
            assert_eq!(
                decoded(&pack(bits.clone())),
                Err(DecodeError::Malformed),
                "{bits}"
            );
        }
    }

    proptest! {
        #[test]
        fn strings_come_back(plain in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&plain)), Ok(plain));
        }

        #[test]
        fn text_comes_back(plain in prop::collection::vec(b' '..=b'~', 0..200)) {
            prop_assert_eq!(decoded(&encode(&plain)), Ok(plain));
        }

        #[test]
        fn what_decodes_is_what_encodes(coded in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(plain) = decoded(&coded) {
                prop_assert_eq!(encode(&plain), coded);
            }
        }
    }
}
