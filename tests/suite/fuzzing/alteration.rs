//! How bytes are altered: some flips, numbers that programs stumble over, and pieces that are lost, doubled or moved.

use storage::SplitMix;

const NUMBERS: [u64; 12] =
    [0, 1, 2, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX];
/// What stands in texts where something else should.
const WORDS: [&str; 16] = [
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "9223372036854775807",
    "NaN",
    "null",
    "\"\"",
    "[]",
    "{}",
    "[[",
    "'''",
    "\0",
    "\u{feff}",
    "9999-12-31T23:59:59.999999Z",
    "ß🜁",
];

/// A text or bytes out of a corpus, altered in one to eight places.
pub fn altered(corpus: &[Vec<u8>], chance: &mut SplitMix) -> Vec<u8> {
    let mut bytes = corpus[chance.below(corpus.len() as u64) as usize].clone();
    for _ in 0..=chance.below(8) {
        alter(&mut bytes, corpus, chance);
    }
    bytes
}

/// A place in the bytes, the end included.
fn place(bytes: &[u8], chance: &mut SplitMix) -> usize {
    // Headers and footers decide most.
    let length = bytes.len() as u64;
    let near = chance.below(length.min(64) + 1) as usize;
    match chance.below(4) {
        0 => near,
        1 => bytes.len() - near,
        _ => chance.below(length + 1) as usize,
    }
}

fn stretch(bytes: &[u8], chance: &mut SplitMix) -> std::ops::Range<usize> {
    let from = place(bytes, chance);
    let longest = if chance.below(4) == 0 { bytes.len() } else { 32 };
    from..bytes.len().min(from + chance.below(longest as u64 + 1) as usize)
}

fn alter(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut SplitMix) {
    let at = place(bytes, chance);
    match chance.below(9) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        2 => {
            let number = NUMBERS[chance.below(NUMBERS.len() as u64) as usize].to_le_bytes();
            let width = [1, 2, 4, 8][chance.below(4) as usize].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        3 => {
            let word = WORDS[chance.below(WORDS.len() as u64) as usize];
            bytes.splice(at..at, word.bytes());
        }
        4 => {
            bytes.drain(stretch(bytes, chance));
        }
        5 => {
            let piece = bytes[stretch(bytes, chance)].to_vec();
            bytes.splice(at..at, piece);
        }
        6 => {
            let other = &corpus[chance.below(corpus.len() as u64) as usize];
            let piece = other[stretch(other, chance)].to_vec();
            bytes.splice(at..at, piece);
        }
        7 => bytes.truncate(at),
        _ => token(bytes, at, chance),
    }
}

/// Puts another word in the place of the number or name that stands somewhere.
fn token(bytes: &mut Vec<u8>, at: usize, chance: &mut SplitMix) {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    let Some(from) = bytes[at..].iter().position(part).map(|place| place + at) else { return };
    let length = bytes[from..].iter().take_while(|byte| part(byte)).count();
    let word = WORDS[chance.below(WORDS.len() as u64) as usize];
    bytes.splice(from..from + length, word.bytes());
}
