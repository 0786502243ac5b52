//! Just enough HTTP/1 to read one answer after the other from a connection.

use std::io::{self, Read};

/// A buffered reader of responses.
#[derive(Debug)]
pub struct Responses<R> {
    reader: R,
    buffer: Vec<u8>,
}

/// A response's status and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body, without its framing.
    pub body: Vec<u8>,
    /// Nothing follows on this connection.
    pub last: bool,
}

impl<R: Read> Responses<R> {
    /// Reads from `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new() }
    }

    /// The connection, to write to.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The next response to a request of this method; 100 and 103 are passed over unless `interim` is set.
    ///
    /// # Errors
    /// When the connection ends or what comes is no response.
    pub fn next(&mut self, method: &str, interim: bool) -> io::Result<Response> {
        loop {
            let head = self.head()?;
            let status = status(&head)?;
            if matches!(status, 100 | 103) {
                if interim {
                    return Ok(Response { status, body: Vec::new(), last: false });
                }
                continue;
            }
            let (body, until_end) = self.body(&head, status, method)?;
            let last =
                until_end || header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            return Ok(Response { status, body, last });
        }
    }

    /// Exactly `length` bytes that are no response.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.more()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.more()?;
        }
    }

    fn body(&mut self, head: &str, status: u16, method: &str) -> io::Result<(Vec<u8>, bool)> {
        if method == "HEAD" || matches!(status, 101 | 204 | 304) {
            return Ok((Vec::new(), false));
        }
        if header(head, "transfer-encoding").is_some() {
            return Ok((self.chunks()?, false));
        }
        if let Some(length) = header(head, "content-length").and_then(|value| value.parse().ok()) {
            return Ok((self.exactly(length)?, false));
        }
        self.reader.read_to_end(&mut self.buffer)?;
        Ok((std::mem::take(&mut self.buffer), true))
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.ok_or_else(|| io::Error::other(format!("not a chunk size: {line:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.line()?;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16_384];
        match self.reader.read(&mut bytes)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended")),
            length => {
                self.buffer.extend(&bytes[..length]);
                Ok(())
            }
        }
    }
}

fn status(head: &str) -> io::Result<u16> {
    let status = head.split(' ').nth(1).and_then(|word| word.get(..3)?.parse().ok());
    status.ok_or_else(|| io::Error::other(format!("not a response: {:?}", head.lines().next())))
}

/// The value of a header in a head.
#[must_use]
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name, value.trim()))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_on_one_connection() {
        let wire = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 204 No Content\r\n\r\n\
                    HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\nX: y\r\n\r\n\
                    HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.0 401 No\r\n\r\nthe end";
        let mut responses = Responses::new(wire.as_bytes());
        let mut all = Vec::new();
        for method in ["GET", "GET", "GET", "HEAD", "GET"] {
            let response = responses.next(method, false).unwrap();
            all.push((response.status, String::from_utf8(response.body).unwrap(), response.last));
        }
        let expected =
            [(200, "one", false), (204, "", false), (200, "two", false), (200, "", false), (401, "the end", true)];
        assert_eq!(all, expected.map(|(status, body, last)| (status, body.to_owned(), last)));
    }
}
