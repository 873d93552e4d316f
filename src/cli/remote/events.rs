//! Server-sent events, read as they come.

use http_client::{Method, Response, Url};
use serde_json::Value;

use super::{RemoteError, Server};

/// Longest line: a job object with all its regions stays far below.
const LINE_BYTES_MAX: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `job`, `progress`.
    pub kind: String,
    /// Its document.
    pub data: Value,
}

/// An open stream.
#[derive(Debug)]
pub struct Events<'a> {
    server: &'a Server,
    response: Response,
    reader: Reader,
}

impl<'a> Events<'a> {
    /// Opens the stream at `url`; with `after` what happened since that event comes first.
    pub async fn open(server: &'a Server, url: Url, after: Option<&str>) -> Result<Self, RemoteError> {
        let mut request = server.request(Method::GET, url).header("accept", "text/event-stream");
        if let Some(id) = after {
            request = request.header("last-event-id", id);
        }
        let silent = |_| server.unreachable("no answer in time");
        let response = tokio::time::timeout(super::SILENCE_MAX, server.send_once(request)).await.map_err(silent)??;
        Ok(Self { server, response, reader: Reader::default() })
    }

    /// The next event; `None` when the server ended the stream.
    pub async fn next(&mut self) -> Result<Option<Event>, RemoteError> {
        loop {
            if let Some(event) = self.reader.next()? {
                return Ok(Some(event));
            }
            match self.server.piece(&mut self.response).await? {
                Some(piece) => self.reader.unread.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }

    /// Where to go on after this stream.
    pub fn last_id(&self) -> Option<&str> {
        self.reader.last_id.as_deref()
    }
}

/// Lines become events (WHATWG HTML, 9.2.6); `retry` is left out, for who watches has its own patience.
#[derive(Debug, Default)]
struct Reader {
    unread: Vec<u8>,
    kind: String,
    data: String,
    id: Option<String>,
    last_id: Option<String>,
}

impl Reader {
    fn next(&mut self) -> Result<Option<Event>, RemoteError> {
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            if let Some(event) = self.line(&line) {
                return Ok(Some(event));
            }
        }
        if self.unread.len().max(self.data.len()) > LINE_BYTES_MAX {
            return Err(RemoteError::Failed("an event is longer than any of an Inkpool server".to_owned()));
        }
        Ok(None)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments, and what is not known.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        if let Some(id) = self.id.take() {
            self.last_id = Some(id);
        }
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        serde_json::from_str(&data).ok().map(|data| Event { kind, data })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(pieces: &[&str]) -> (Vec<Event>, Option<String>) {
        let mut reader = Reader::default();
        let mut events = Vec::new();
        for piece in pieces {
            reader.unread.extend_from_slice(piece.as_bytes());
            while let Some(event) = reader.next().unwrap() {
                events.push(event);
            }
        }
        (events, reader.last_id)
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": connected\nretry: 2000\n\nid: 7\nevent: job\ndata: {\"a\":\ndata: 1}\r\n\n: still here\n\n\
                    event: progress\ndata: {}\n\nid: 8\nevent: job\ndata: half";
        let whole = read(&[text]);
        let events = [("job", json!({"a": 1})), ("progress", json!({}))];
        let events = events.map(|(kind, data)| Event { kind: kind.to_owned(), data });
        assert_eq!(whole, (events.to_vec(), Some("7".to_owned())));
        let letters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(read(&letters.iter().map(String::as_str).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let mut reader = Reader { unread: vec![b'x'; LINE_BYTES_MAX + 1], ..Reader::default() };
        assert!(reader.next().is_err());
    }
}
