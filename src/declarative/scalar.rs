//! What a YAML scalar means to Kong, whose reader (lyaml) follows YAML 1.1 in its own way: `yes` is
//! true, `010` is eight, `1:30` is ninety, and `0o17` and `2020-01-01` are texts.

use super::unreadable::Flaw;
use super::value::{Text, Value};

/// What lyaml makes of numbers in other bases is summed up in floats, as Lua has no other numbers.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// Of a scalar without quotes and tag.
pub(super) fn plain(text: Text) -> Result<Value, Flaw> {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
        | ".nan" | ".NaN" | ".NAN" => return Err(Flaw::NotFinite),
        _ => {}
    }
    if let Some(truth) = truth(&text) {
        return Ok(Value::Bool(truth));
    }
    let number = octal(&text)
        .or_else(|| decimal(&text))
        .or_else(|| float(&text))
        .or_else(|| hexadecimal(&text))
        .or_else(|| binary(&text))
        .or_else(|| sexagesimal(&text));
    number.unwrap_or_else(|| Ok(Value::Text(text)))
}

/// Of a scalar with one of YAML's own tags, in quotes or not.
pub(super) fn tagged(tag: &str, text: Text) -> Result<Value, Flaw> {
    let value = match tag {
        "str" => Some(Ok(Value::Text(text))),
        "null" => Some(Ok(Value::Null)),
        "bool" => match text.as_str() {
            "y" | "Y" => Some(Ok(Value::Bool(true))),
            "n" | "N" => Some(Ok(Value::Bool(false))),
            other => truth(other).map(|truth| Ok(Value::Bool(truth))),
        },
        "int" | "float" => match plain(text) {
            Ok(Value::Number(number)) => Some(Ok(Value::Number(number))),
            Ok(_) => None,
            Err(flaw) => Some(Err(flaw)),
        },
        _ => return Err(Flaw::Tag),
    };
    value.unwrap_or(Err(Flaw::TagValue))
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A number, if it is one; lyaml fails over some.
type Number = Option<Result<Value, Flaw>>;

fn octal(text: &str) -> Number {
    let (sign, digits) = signed(text);
    let digits = digits.strip_prefix('0')?.trim_start_matches('_');
    summed(sign, digits, 8, |byte| matches!(byte, b'0'..=b'7'))
}

fn binary(text: &str) -> Number {
    let (sign, digits) = signed(text);
    let digits = digits.strip_prefix("0b")?.trim_start_matches('_');
    // lyaml takes a single digit for text.
    (digits.len() > 1).then_some(())?;
    summed(sign, digits, 2, |byte| matches!(byte, b'0' | b'1'))
}

fn summed(sign: &str, digits: &str, base: u8, is_digit: impl Fn(u8) -> bool) -> Number {
    let is_number = digits.bytes().next().is_some_and(&is_digit)
        && digits.bytes().all(|byte| is_digit(byte) || byte == b'_');
    if !is_number {
        return None;
    }
    if digits.ends_with('_') {
        return Some(Err(Flaw::Number));
    }
    let add = |sum: f64, byte| sum * f64::from(base) + f64::from(byte - b'0');
    let sum = digits.bytes().filter(|byte| *byte != b'_').fold(0.0, add);
    Some(written(sign, sum))
}

/// Its digits stay: Kong rounds them as it reads them.
fn decimal(text: &str) -> Number {
    let (sign, digits) = signed(text);
    let digits = digits.trim_start_matches('_');
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    is_number.then(|| {
        let digits = Text::new(digits.replace('_', ""));
        let significant = digits.trim_start_matches('0');
        let significant = if significant.is_empty() { "0" } else { significant };
        Ok(number(sign, significant))
    })
}

/// What Lua's `tonumber` takes, if there is a dot or an exponent in it.
fn float(text: &str) -> Number {
    if !text.contains(['.', 'e', 'E']) {
        return None;
    }
    let text = Text::new(text.replace('_', ""));
    let (sign, digits) = signed(&text);
    if let Some(digits) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return in_hexadecimal(sign, digits);
    }
    // Rust would take names for infinity, too, and those never begin so.
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    Some(written(sign, value))
}

fn hexadecimal(text: &str) -> Number {
    let (sign, digits) = signed(text);
    let digits = Text::new(digits.strip_prefix("0x")?.replace('_', ""));
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| in_hexadecimal(sign, &digits))?
}

/// Fractions and powers of two in it are nobody's.
fn in_hexadecimal(sign: &str, digits: &str) -> Number {
    if !digits.starts_with('+')
        && let Ok(value) = u64::from_str_radix(digits, 16)
    {
        return Some(Ok(number(sign, &value.to_string())));
    }
    let (mantissa, exponent) = digits.split_once(['p', 'P']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = mantissa.len() > mantissa.matches('.').count()
        && is_hexadecimal(whole)
        && is_hexadecimal(fraction)
        && is_all_digits(signed(exponent).1);
    is_number.then_some(Err(Flaw::Number))
}

/// `1:30` is ninety, `1:30.5` is half more.
fn sexagesimal(text: &str) -> Number {
    let (sign, digits) = signed(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, digits)) if is_all_digits(digits) => {
            (whole, format!(".{digits}").parse().unwrap_or(0.0))
        }
        Some(_) => return None,
        None => (digits, 0.0),
    };
    let (first, rest) = whole.split_once(':')?;
    let is_number = is_all_digits(first)
        && rest.starts_with(|first: char| first.is_ascii_digit())
        && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    if !is_number {
        return None;
    }
    let parts = whole.split(':').filter(|part| !part.is_empty());
    let add = |sum: f64, part: &str| sum * 60.0 + part.parse().unwrap_or(0.0);
    Some(written(sign, parts.fold(0.0, add) + fraction))
}

fn is_all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn signed(text: &str) -> (&str, &str) {
    match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    }
}

fn number(sign: &str, digits: &str) -> Value {
    Value::Number(Text::new(format!("{sign}{digits}")))
}

/// The shortest digits that are read as the same float again.
fn written(sign: &str, value: f64) -> Result<Value, Flaw> {
    if !value.is_finite() {
        return Err(Flaw::NotFinite);
    }
    let is_whole = value.fract() == 0.0 && value < LARGEST_EXACT;
    let digits = if is_whole { format!("{value:.0}") } else { format!("{value:?}") };
    Ok(number(sign, &digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(text: &str) -> String {
        match plain(Text::new(text.to_owned())) {
            Ok(Value::Null) => "null".to_owned(),
            Ok(Value::Bool(truth)) => truth.to_string(),
            Ok(Value::Number(number)) => number.to_string(),
            Ok(Value::Text(kept)) if *kept == text => "text".to_owned(),
            Ok(_) => "something else".to_owned(),
            Err(flaw) => format!("{flaw:?}"),
        }
    }

    /// The patterns of lyaml 6.2.8 (`implicit.lua`), one by one.
    #[test]
    fn plain_scalars_mean_what_they_mean_to_lyaml() {
        let cases = [
            ("", "null"),
            ("~", "null"),
            ("NULL", "null"),
            ("nULL", "text"),
            ("yes", "true"),
            ("Off", "false"),
            ("y", "text"),
            ("tRUE", "text"),
            ("0", "0"),
            ("-0", "-0"),
            ("+7", "7"),
            ("1_000", "1000"),
            ("_5", "5"),
            ("5_", "5"),
            ("9007199254740993", "9007199254740993"),
            ("010", "8"),
            ("-010", "-8"),
            ("0_17", "15"),
            ("08", "8"),
            ("0089", "89"),
            ("010_", "Number"),
            ("0o17", "text"),
            ("0x1F", "31"),
            ("0x_f_f", "255"),
            ("0X1F", "text"),
            ("0X1E", "30"),
            ("0xFFFFFFFFFFFFFFFF", "18446744073709551615"),
            ("0x1FFFFFFFFFFFFFFFFF", "Number"),
            ("0x1.8", "Number"),
            ("0x1p4", "text"),
            ("0xep4", "Number"),
            ("0x", "text"),
            ("0x.", "text"),
            ("0x.e.1", "text"),
            ("0x+e", "text"),
            ("0xeg", "text"),
            ("0b101", "5"),
            ("0b1", "text"),
            ("0b1_", "Number"),
            ("0b12", "text"),
            ("1:30", "90"),
            ("-1:30", "-90"),
            ("1:30:05", "5405"),
            ("00:11:22:33:44:55", "147433495"),
            ("1:30.5", "90.5"),
            ("1::30", "text"),
            ("a:30", "text"),
            ("1.5", "1.5"),
            ("3.0", "3"),
            ("+.5", "0.5"),
            ("5.", "5"),
            ("1e3", "1000"),
            ("1E-7", "1e-7"),
            ("1_0.2_5", "10.25"),
            ("1e999", "NotFinite"),
            ("1e", "text"),
            ("1.2.3", "text"),
            (".", "text"),
            ("e5", "text"),
            ("inf", "text"),
            ("NaN", "text"),
            (".inf", "NotFinite"),
            (".NaN", "NotFinite"),
            ("2020-01-01", "text"),
            ("12h", "text"),
        ];
        for (text, expected) in cases {
            assert_eq!(meant(text), expected, "{text}");
        }
    }

    #[test]
    fn tags_say_what_a_scalar_is() {
        let cases = [
            ("str", "010", Some(Value::text("010"))),
            ("int", "010", Some(number("", "8"))),
            ("float", "3", Some(number("", "3"))),
            ("bool", "y", Some(Value::Bool(true))),
            ("bool", "No", Some(Value::Bool(false))),
            ("null", "x", Some(Value::Null)),
            ("int", "x", None),
            ("bool", "x", None),
            ("binary", "aGk=", None),
            ("timestamp", "2020-01-01", None),
        ];
        for (tag, text, expected) in cases {
            let found = tagged(tag, Text::new(text.to_owned())).ok();
            assert!(found == expected, "{tag} {text}");
        }
    }
}
