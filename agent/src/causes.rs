//! Errors as one line of text with their causes, and what causes of connections mean.

use std::{error::Error, io};

/// Longest text: what a server repeats back at us may be long.
const MAX: usize = 1024;

/// Writes an error with its causes. A cause whose text the error has already is left out.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    if text.len() > MAX {
        let end = text.floor_char_boundary(MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An error and its causes, outermost first.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next.take()?;
        // An input or output error shows what it holds, not itself, as its source.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
        Some(error)
    })
}

/// Says why there is no connection, or no more, without the words of the layers of a client library: the first cause
/// that has words, by `about_tls` where it is TLS, else the innermost.
pub fn connection(error: &(dyn Error + 'static), about_tls: fn(&rustls::Error) -> String) -> String {
    let words = |error: &(dyn Error + 'static)| {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return of_connection(error).map(str::to_owned);
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(about_tls(error));
        }
        of_socket(error.downcast_ref::<io::Error>()?).map(str::to_owned)
    };
    let innermost = || chain(error).last().map(ToString::to_string).unwrap_or_default();
    chain(error).find_map(words).unwrap_or_else(innermost)
}

const CLOSED: &str = "it closed the connection";

fn of_connection(error: &hyper::Error) -> Option<&'static str> {
    if error.is_timeout() {
        return Some("its connection went silent");
    }
    (error.is_incomplete_message() || error.is_closed() || error.is_canceled()).then_some(CLOSED)
}

fn of_socket(error: &io::Error) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    // What it holds says more.
    if error.get_ref().is_some_and(|held| held.is::<rustls::Error>()) {
        return None;
    }
    match error.kind() {
        Kind::ConnectionRefused => Some("it refuses connections"),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
            Some(CLOSED)
        }
        Kind::TimedOut => Some("no connection in time"),
        Kind::HostUnreachable | Kind::NetworkUnreachable => Some("no route leads to it"),
        _ if error.to_string().contains("failed to lookup address") => Some("its name does not resolve"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: String,
        #[source]
        source: Option<Box<Layer>>,
    }

    fn layer(text: &str, source: Option<Layer>) -> Layer {
        Layer {
            text: text.into(),
            source: source.map(Box::new),
        }
    }

    #[test]
    fn causes_follow_the_error_and_no_text_stands_twice() {
        let error = layer(
            "cannot connect: refused",
            Some(layer("refused", Some(layer("os error 111", None)))),
        );
        assert_eq!(with_causes(&error), "cannot connect: refused: os error 111");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = with_causes(&layer(&"é".repeat(MAX), None));
        assert!(text.len() <= MAX + '…'.len_utf8() && text.ends_with('…'));
    }
}
