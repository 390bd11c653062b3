//! Random text, drawn from the caller's seed; that it was asked for is recorded.

use super::{Function, int, reading, text};
use crate::helm::context::Random;
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    reading("randAlphaNum", "i", |interp, args| {
        characters(interp, args, |byte| byte.is_ascii_alphanumeric())
    }),
    reading("randAlpha", "i", |interp, args| {
        characters(interp, args, |byte| byte.is_ascii_alphabetic())
    }),
    reading("randNumeric", "i", |interp, args| {
        characters(interp, args, |byte| byte.is_ascii_digit())
    }),
    reading("randAscii", "i", |interp, args| {
        characters(interp, args, |byte| (b' '..=b'~').contains(&byte))
    }),
    reading("randBytes", "i", bytes),
    reading("randInt", "ii", integer),
    reading("uuidv4", "", uuid),
    reading("shuffle", "s", shuffle),
];

/// No function makes more at once.
const MAX_RANDOM: i64 = 1 << 20;

/// Fills bytes from the seed, and records it.
pub(super) fn draw(interp: &mut Interp<'_>, bytes: &mut [u8]) {
    interp.reads.random = true;
    let random: &Random = &interp.random;
    random.fill(&interp.context.seed, bytes);
}

fn count(args: &[Val]) -> Result<usize, Box<ExecError>> {
    let count = int(args, 0);
    if count > MAX_RANDOM {
        return Err(ExecError::plain(format!(
            "more than {MAX_RANDOM} random characters"
        )));
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

fn characters(interp: &mut Interp<'_>, args: &[Val], wanted: fn(u8) -> bool) -> Result<Val, Box<ExecError>> {
    let count = count(args)?;
    let alphabet: Vec<char> = (0..128u8).filter(|byte| wanted(*byte)).map(char::from).collect();
    let mut drawn = vec![0; count * 8];
    draw(interp, &mut drawn);
    let pick = |chunk: &[u8]| alphabet[(number(chunk) % alphabet.len() as u64) as usize];
    Ok(drawn.chunks(8).map(pick).collect::<String>().into())
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn bytes(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let mut drawn = vec![0; count(args)?];
    draw(interp, &mut drawn);
    Ok(super::encode::base64(&drawn).into())
}

fn integer(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let (least, above) = (int(args, 0), int(args, 1));
    let Some(span) = above.checked_sub(least).filter(|span| *span > 0) else {
        return Err(ExecError::plain("invalid argument to Intn".to_owned()));
    };
    let mut drawn = [0; 8];
    draw(interp, &mut drawn);
    Ok(Val::Int(least + (number(&drawn) % span as u64) as i64))
}

fn uuid(interp: &mut Interp<'_>, _: &[Val]) -> Result<Val, Box<ExecError>> {
    let mut drawn = [0; 16];
    draw(interp, &mut drawn);
    drawn[6] = drawn[6] & 0x0f | 0x40;
    drawn[8] = drawn[8] & 0x3f | 0x80;
    let digits = super::encode::hex(&drawn);
    let groups = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    Ok(groups.join("-").into())
}

fn shuffle(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let mut characters: Vec<char> = text(args, 0).chars().collect();
    let mut drawn = vec![0; characters.len() * 8];
    draw(interp, &mut drawn);
    for (at, chunk) in drawn.chunks(8).enumerate().skip(1) {
        characters.swap(at, (number(chunk) % (at as u64 + 1)) as usize);
    }
    Ok(characters.into_iter().collect::<String>().into())
}
