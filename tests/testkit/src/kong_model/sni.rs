//! Names of servers: which Kong takes, and in which order it looks for them.

/// Whether Kong takes `name` as an SNI; if not, its words (`validate_wildcard_host`).
pub(super) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("length must be at least 1".to_owned());
    }
    let stars = name.matches('*').count();
    if stars > 0 && !name.starts_with('*') && !name.ends_with('*') {
        return Err("wildcard must be leftmost or rightmost character".to_owned());
    }
    if stars > 1 {
        return Err("only one wildcard must be specified".to_owned());
    }
    check_host(&name.replace('*', "wildcard"))
}

/// The names under which a certificate for `sni` may be kept, the best first. Kong compares bytes:
/// nothing is lower-cased.
pub(super) fn candidates(sni: &str) -> Vec<String> {
    let mut names = vec![sni.to_owned()];
    if let Some((label, parent)) = sni.split_once('.')
        && !label.is_empty()
        && parent.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && !rest.is_empty())
    {
        names.push(format!("*.{parent}"));
    }
    if let Some((stem, last)) = sni.rsplit_once('.')
        && !last.is_empty()
        && !stem.is_empty()
        && !stem.ends_with('.')
    {
        names.push(format!("{stem}.*"));
    }
    names.push("*".to_owned());
    names
}

fn check_host(host: &str) -> Result<(), String> {
    let invalid = || format!("invalid value: {host}");
    if host.matches(':').count() > 1 {
        return Err(if is_ipv6(host) { "must not be an IP".to_owned() } else { invalid() });
    }
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let address = name.parse::<std::net::Ipv4Addr>();
        return Err(if address.is_ok() { "must not be an IP".to_owned() } else { invalid() });
    }
    if !is_hostname(name) || port.is_some_and(|port| !is_number(port)) {
        return Err(invalid());
    }
    match port {
        Some(_) => Err("must not have a port".to_owned()),
        None => Ok(()),
    }
}

fn is_ipv6(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Labels of letters, digits, `-` and `_`, none ending in `-`; one dot may stand at the end.
fn is_hostname(name: &str) -> bool {
    let labels: Vec<_> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let fits =
        |label: &&str| !label.is_empty() && !label.ends_with('-') && label.bytes().all(plain);
    labels.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_and_refused_as_measured() {
        let taken = ["localhost", "a_b", "*", "*.test", "test.*", "UPPER.example.com", "dot.test."];
        for name in taken {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, words) in [
            ("", "length must be at least 1"),
            ("*.ad.*", "only one wildcard must be specified"),
            ("a.*.test", "wildcard must be leftmost or rightmost character"),
            ("bücher.test", "invalid value: bücher.test"),
            ("a..test", "invalid value: a..test"),
            ("a-.test", "invalid value: a-.test"),
            ("a/b", "invalid value: a/b"),
            ("10.0.0.1", "must not be an IP"),
            ("::1", "must not be an IP"),
            ("300.0.0.1", "invalid value: 300.0.0.1"),
            ("a.test:443", "must not have a port"),
        ] {
            assert_eq!(check(name), Err(words.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label_at_either_end() {
        assert_eq!(candidates("www.a.test"), ["www.a.test", "*.a.test", "www.a.*", "*"]);
        assert_eq!(candidates("a.test"), ["a.test", "a.*", "*"]);
        assert_eq!(candidates("localhost"), ["localhost", "*"]);
    }
}
