//! A licence of [Kong Enterprise](https://developer.konghq.com/gateway/entities/license/): JSON
//! that is signed in part. Whether the signature holds is for Kong to say.

use std::fmt::{self, Write as _};
use std::path::Path;

use serde_json::Value;
use time::{Date, Month};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Facts, Invalid, Source, Unservable, Validity};
use crate::clock::Timestamp;

/// A licence with a readable end. All of it but the dates is treated as a secret.
pub struct License {
    payload: Zeroizing<String>,
    facts: Facts,
}

impl License {
    /// Parses the file. It is valid from 00:00 of its creation date to 00:00 of its expiration
    /// date. Kong takes both in its own time zone, here they are in UTC; that some features go on
    /// for a while after it is not counted on.
    ///
    /// Never panics, and no error holds a part of the file.
    pub fn parse(source: Source<'_>) -> Result<Self, Invalid> {
        let Source { path, bytes } = source;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|flaw| {
            let (line, column) = position_after(&bytes[..flaw.valid_up_to()]);
            Invalid::not_json(path, line, column)
        })?;
        let facts = facts(path, text)?;
        Ok(Self { payload: Zeroizing::new(text.trim().to_owned()), facts })
    }

    /// What Kong is sent: the file's own text without the white space around it, as what exactly
    /// was signed is known to Kong alone. Who copies it has to wipe the copy.
    #[must_use]
    pub fn payload(&self) -> &Zeroizing<String> {
        &self.payload
    }

    /// What is known about it; nothing of it is secret.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// [`Invalid::LicenseExpired`] if it is past its life; `path` is for the message.
    pub fn check_expired(&self, path: &Path, now: Timestamp) -> Result<(), Invalid> {
        if self.facts.expired_at(now) {
            return Err(Invalid::license_expired(path, self.facts.validity.not_after));
        }
        Ok(())
    }
}

/// Prints facts only.
impl fmt::Debug for License {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("License").field(&self.facts).finish()
    }
}

/// What the licence that Kong holds amounts to.
pub fn held_license(payload: &str) -> Result<Facts, Unservable> {
    facts(Path::new("Kong's payload"), payload)
}

fn facts(path: &Path, text: &str) -> Result<Facts, Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::empty(path, "the licence"));
    }
    let parsed = serde_json::from_str(text).map(Wiped);
    let parsed = parsed.map_err(|error| Invalid::not_json(path, error.line(), error.column()))?;
    let validity = validity(&parsed.0).map_err(|field| Invalid::not_a_license(path, field))?;
    Ok(Facts::of_license(canonical(&parsed.0, text.len()).as_bytes(), validity))
}

/// Errs with the field that is missing or of another kind.
fn validity(parsed: &Value) -> Result<Validity, &'static str> {
    let license = parsed.get("license").filter(|license| license.is_object()).ok_or("license")?;
    let payload = &license["payload"];
    if !payload.is_object() {
        return Err("license.payload");
    }
    if license["signature"].as_str().is_none_or(str::is_empty) {
        return Err("license.signature");
    }
    let date = |field: &str| payload[field].as_str().and_then(midnight);
    let not_after = date("license_expiration_date");
    Ok(Validity {
        not_before: date("license_creation_date").unwrap_or(Timestamp(0)),
        not_after: not_after.ok_or("license.payload.license_expiration_date (YYYY-MM-DD)")?,
    })
}

/// The first second (UTC) of a day such as `2030-01-31`.
fn midnight(date: &str) -> Option<Timestamp> {
    let number = |text: Option<&str>, digits: usize| {
        let text = text.filter(|text| text.len() == digits)?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?
    };
    let mut parts = date.splitn(3, '-');
    let year = number(parts.next(), 4)?;
    let month = u8::try_from(number(parts.next(), 2)?).ok()?;
    let day = u8::try_from(number(parts.next(), 2)?).ok()?;
    let date = Date::from_calendar_date(year.into(), Month::try_from(month).ok()?, day).ok()?;
    Some(Timestamp(date.midnight().assume_utc().unix_timestamp()))
}

/// Keys sorted (as `serde_json` keeps them), no white space. `room` is the text's own length:
/// growing would leave copies behind.
fn canonical(parsed: &Value, room: usize) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(room));
    let _ = write!(text, "{parsed}");
    text
}

/// Line and column, counted from 1, of what follows `text`.
fn position_after(text: &[u8]) -> (usize, usize) {
    let line = text.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    (text.split(|&byte| byte == b'\n').count(), line.len() + 1)
}

/// Its texts are overwritten when it is dropped.
struct Wiped(Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::Reason;
    use super::*;

    const FILE: &str = "/licenses/kong.json";
    const DAY: i64 = 86_400;
    /// 2030-01-31.
    const END: i64 = 1_896_048_000;
    const SECRETS: [&str; 3] = [
        "Customer Of Ours, Incorporated",
        "ASDASDASDASDASDASDASDASDASD",
        "6985968131533a967fcc721244",
    ];

    fn parse(text: impl AsRef<[u8]>) -> Result<License, Invalid> {
        let (path, bytes) = (Path::new(FILE), text.as_ref());
        License::parse(Source { path, bytes })
    }

    fn license() -> Value {
        json!({
            "license": {
                "version": "1",
                "payload": {
                    "customer": SECRETS[0],
                    "license_creation_date": "2029-01-31",
                    "license_expiration_date": "2030-01-31",
                    "product_subscription": "Kong Enterprise Edition",
                    "support_plan": "None",
                    "admin_seats": "5",
                    "dataplanes": "5",
                    "license_key": SECRETS[1],
                },
                "signature": SECRETS[2],
            },
        })
    }

    /// The licence with another value in this place.
    fn with(pointer: &str, value: Value) -> String {
        let mut license = license();
        *license.pointer_mut(pointer).unwrap() = value;
        license.to_string()
    }

    #[test]
    fn a_licence_lives_from_its_creation_to_the_beginning_of_its_last_day() {
        let license = parse(license().to_string()).unwrap();
        let facts = license.facts();
        let (not_before, not_after) = (Timestamp(END - 365 * DAY), Timestamp(END));
        assert_eq!(facts.validity, Validity { not_before, not_after });
        assert_eq!(facts.validity.not_after.to_string(), "2030-01-31T00:00:00Z");
        assert!(license.check_expired(Path::new(FILE), not_after).is_ok());
        let error = license.check_expired(Path::new(FILE), Timestamp(END + 1)).unwrap_err();
        assert_eq!(error.reason(), Reason::Expired);
        assert!(error.to_string().contains("licence in /licenses/kong.json expired"), "{error}");
        assert!(facts.chains.is_empty() && facts.leaves.is_empty() && facts.names.is_empty());
        assert_eq!(facts.warnings_at(Timestamp(END + 1)), []);
    }

    #[test]
    fn only_the_end_of_its_life_must_be_told() {
        for creation in [json!(null), json!("soon")] {
            let license = parse(with("/license/payload/license_creation_date", creation)).unwrap();
            assert_eq!(license.facts().validity.not_before, Timestamp(0));
        }
    }

    #[test]
    fn what_is_sent_is_the_files_text() {
        let text = serde_json::to_string_pretty(&license()).unwrap();
        let license = parse(format!("\u{feff}\r\n {text}\n\n")).unwrap();
        assert_eq!(**license.payload(), text);
        assert_eq!(held_license(license.payload()).as_ref(), Ok(license.facts()));
    }

    #[test]
    fn the_order_of_fields_is_no_part_of_the_identity() {
        let one = r#"{"license":{"signature":"s","payload":{"license_expiration_date":"2030-01-31","customer":"a"}}}"#;
        let other = r#"{"license":{"payload":{"customer":"\u0061","license_expiration_date":"2030-01-31"},"signature":"s"}}"#;
        assert_eq!(held_license(one).unwrap(), held_license(other).unwrap());
        let canonical = br#"{"license":{"payload":{"customer":"a","license_expiration_date":"2030-01-31"},"signature":"s"}}"#;
        let expected = super::super::Fingerprint::of_text(canonical);
        assert_eq!(held_license(one).unwrap().fingerprint, expected);
    }

    #[test]
    fn whatever_is_said_in_it_is_part_of_the_identity() {
        let fingerprint = |text: &str| held_license(text).unwrap().fingerprint;
        let before = fingerprint(&license().to_string());
        for field in ["version", "signature", "payload/customer", "payload/license_key"] {
            let changed = with(&format!("/license/{field}"), json!("x"));
            assert_ne!(fingerprint(&changed), before, "{field}");
        }
        let mut longer = license();
        longer["license"]["more"] = json!({ "unknown": 1 });
        assert_ne!(fingerprint(&longer.to_string()), before);
    }

    /// What a user may do wrong: the file, the reason, and a part of the message.
    fn mistakes() -> Vec<(Vec<u8>, Reason, &'static str)> {
        let whole = license().to_string();
        let text = |text: &str| text.as_bytes().to_vec();
        let mut latin1 = text("{\n \"customer\": \"");
        latin1.extend([0xe4, b'"', b'}']);
        let mut mistakes = vec![
            (text(" \r\n"), Reason::Empty, "put the licence into it"),
            (text(&whole[..whole.len() / 2]), Reason::NotJson, "as Kong handed it out"),
            (text(&format!("{whole}\n{whole}")), Reason::NotJson, "line 2, column 1 "),
            (latin1, Reason::NotJson, "line 2, column 15 "),
            (text(SECRETS[1]), Reason::NotJson, "line 1, column 1 "),
            (text(&"[".repeat(100_000)), Reason::NotJson, "as Kong handed it out"),
        ];
        for (text, field) in [
            (json!(SECRETS[1]).to_string(), "license"),
            (license()["license"].to_string(), "license"),
            (json!({ "license": license().to_string() }).to_string(), "license"),
            (json!({ "license": license()["license"]["payload"] }).to_string(), "license.payload"),
            (with("/license/payload", json!(SECRETS[1])), "license.payload"),
            (with("/license/signature", json!("")), "license.signature"),
        ] {
            let words = format!("as {field} is missing or cannot be read").leak();
            mistakes.push((text.into_bytes(), Reason::NotALicense, words));
        }
        for date in ["", "soon", "2030-02-30", "2030-1-31", "2030-01-31T00:00:00Z", "+030-01-31"] {
            let text = with("/license/payload/license_expiration_date", json!(date));
            mistakes.push((text.into_bytes(), Reason::NotALicense, "license_expiration_date (Y"));
        }
        mistakes
    }

    #[test]
    fn each_mistake_is_told_with_the_file_and_the_mend() {
        for (text, reason, words) in mistakes() {
            let error = parse(text).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.reason(), reason, "{text}");
            assert!(text.contains(words) && text.contains(FILE), "{text}: {words}");
            assert!(text.contains("put the licence into it"), "{text}");
            assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn only_a_half_written_licence_is_looked_at_again() {
        for (text, reason, _) in mistakes() {
            let is_torn = parse(text).unwrap_err().is_torn();
            assert_eq!(is_torn, [Reason::Empty, Reason::NotJson].contains(&reason), "{reason:?}");
        }
    }

    #[test]
    fn nothing_of_a_licence_is_shown_but_its_dates() {
        let license = parse(license().to_string()).unwrap();
        let mut shown = vec![format!("{license:?} {:?}", license.facts())];
        assert!(shown[0].contains("1896048000"), "{shown:?}");
        for (text, ..) in mistakes() {
            let error = parse(text).unwrap_err();
            shown.push(format!("{error} {error:?}"));
        }
        for text in shown {
            for secret in SECRETS {
                assert!(!text.contains(&secret[..8]), "{text}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            date in ".{0,12}",
        ) {
            prop_assert!(parse(&bytes).is_err());
            let text = with("/license/payload/license_expiration_date", json!(date));
            prop_assert!(parse(text).is_err());
        }

        #[test]
        fn white_space_is_no_part_of_the_identity(
            space in prop::sample::select(vec![" ", "\t", "\n", "\r\n", "\n\n  "]),
        ) {
            let text = license().to_string();
            let spaced = text.replace("\":", &format!("\"{space}:{space}")).replace(',', &format!("{space},"));
            // The customer's comma is no separator.
            let spaced = spaced.replace(&format!("Ours{space},"), "Ours,");
            prop_assert_eq!(held_license(&spaced).unwrap(), held_license(&text).unwrap());
        }
    }
}
