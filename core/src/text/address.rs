//! Addresses that somebody wrote, as messages show them.

/// Returns an address with its scheme, host and path. Userinfo, query and fragment are left out: they carry secrets.
/// Of an address in which it is not plain where these end, only the scheme is told; of a path that holds an `@`, what
/// is above it.
///
/// Takes what `git clone` takes too: `git@host:path`, `git::https://host/path`, `host/path`.
pub fn shown_address(address: &str) -> String {
    let (forced, rest) = match address.strip_prefix("git::") {
        Some(rest) => ("git::", rest),
        None => ("", address),
    };
    let is_scheme = |at: &usize| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        rest[..*at].bytes().all(is_known)
    };
    let (scheme, rest) = match rest.find("://").filter(is_scheme) {
        Some(at) => rest.split_at(at + 3),
        None => ("", rest),
    };
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    // A password that is not escaped may hold any of the signs by which an address is cut. It stands behind a colon:
    // none begins where all of the authority is a name with dots.
    let is_plain = authority.contains('.') && !authority.contains([':', '@']);
    if (behind.contains('@') && !is_plain) || !is_host(host, !scheme.is_empty()) {
        return format!("{forced}{scheme}…");
    }
    let path = behind.split(['?', '#']).next().unwrap_or_default();
    match path.find('@') {
        None => format!("{forced}{scheme}{host}{path}"),
        Some(at) => format!("{forced}{scheme}{host}{}…", above(&path[..at])),
    }
}

/// Returns the folders of the beginning of a path. An address within it is left out, which may hold secrets too.
fn above(path: &str) -> &str {
    let plain = path.split(':').next().unwrap_or_default();
    &plain[..plain.rfind('/').map_or(0, |slash| slash + 1)]
}

/// Tells whether a text is a host, perhaps with a port, or else with the path that follows it without a slash.
fn is_host(text: &str, has_port: bool) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':' | '%');
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    host.chars().all(is_name) && (!has_port || is_port(port.strip_prefix(':').unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    use super::shown_address;

    #[test]
    fn userinfo_query_and_fragment_are_left_out() {
        for (address, shown) in [
            ("https://user:hunter2@x.example/y.git", "https://x.example/y.git"),
            (
                "https://hunter2@x.example:8443/y.git?ref=main",
                "https://x.example:8443/y.git",
            ),
            ("https://x.example/y?token=hunter2", "https://x.example/y"),
            ("https://x.example?token=hunter2", "https://x.example"),
            ("https://x.example/y#hunter2", "https://x.example/y"),
            (
                "git::https://u:hunter2@x.example/y//z?ref=a",
                "git::https://x.example/y//z",
            ),
            ("git::u:hunter2@x.example/y", "git::x.example/y"),
            ("git@github.com:a/b.git", "github.com:a/b.git"),
            ("github.com/a/b?ref=v1", "github.com/a/b"),
            ("github.com/a/b@v1", "github.com/a/…"),
            ("https://x.example/y?of=a@b.example", "https://x.example/y"),
            (
                "https://cdn.jsdelivr.net/npm/crds@1.2.3/all.yaml",
                "https://cdn.jsdelivr.net/npm/…",
            ),
            (
                "https://x.example/https://u:hunter2@y.example/z",
                "https://x.example/…",
            ),
            ("https://x.example/hunter2@y.example/z", "https://x.example/…"),
            ("ssh://git@[::1]:22/a", "ssh://[::1]:22/a"),
            ("", ""),
        ] {
            assert_eq!(shown_address(address), shown, "{address}");
        }
    }

    #[test]
    fn a_password_that_is_not_escaped_is_not_shown_in_part() {
        for sign in ["/", "?", "#", "@", ":", "://", "[", "]"] {
            for address in [
                format!("https://user:hun{sign}ter2@x.example/y"),
                format!("https://user:1{sign}ter2@x.example/y"),
                format!("https://x.example/y?token=hun{sign}ter2@a"),
                format!("git::user:hun{sign}ter2@x.example/y"),
            ] {
                let shown = shown_address(&address);
                assert!(
                    !shown.contains("ter2") && !shown.contains("hun") && !shown.contains("user:1"),
                    "{address}: {shown}"
                );
            }
        }
    }
}
