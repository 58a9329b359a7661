//! A connection to one broker, and what came back on it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Buf as _, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes,
};

use super::report::NO_ANSWER;
use super::tree::{Names, flatten};

const CLIENT_ID: &str = "differential";
/// No case makes a broker wait longer.
const SILENCE: Duration = Duration::from_secs(10);

/// Opened when it is first used, and again after the broker has closed it.
pub(super) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    correlation_id: i32,
}

/// What a broker did about a request.
pub(super) enum Outcome<T> {
    Answer(T),
    Closed,
    Silent,
    /// An answer that is not one.
    Unreadable(String),
}

impl<T: Default> Outcome<T> {
    pub(super) fn answer(self) -> T {
        match self {
            Self::Answer(answer) => answer,
            _ => T::default(),
        }
    }
}

impl<T> Outcome<T> {
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Silent)
    }

    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Answer(_) => None,
            Self::Closed => Some("the connection is closed".to_owned()),
            Self::Silent => Some("no answer".to_owned()),
            Self::Unreadable(what) => Some(what.clone()),
        }
    }
}

impl<T: Debug> Outcome<T> {
    pub(super) fn lines(&self, names: &mut Names) -> BTreeMap<String, String> {
        match (self, self.text()) {
            (Self::Answer(answer), _) => flatten(answer, names),
            (_, text) => BTreeMap::from([(NO_ANSWER.to_owned(), text.unwrap_or_default())]),
        }
    }
}

impl Connection {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            correlation_id: 0,
        }
    }

    fn stream(&mut self) -> Result<&mut TcpStream> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE))?;
            self.stream = Some(stream);
        }
        self.stream.as_mut().context("opened above")
    }

    pub(super) fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<()> {
        let mut body = BytesMut::new();
        request
            .encode(&mut body, version)
            .with_context(|| format!("API {} v{version}", R::KEY))?;
        self.send_body::<R>(version, &body)
    }

    pub(super) fn send_body<R: Request>(&mut self, version: i16, body: &[u8]) -> Result<()> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version))?;
        frame.extend_from_slice(body);
        self.send_frame(&frame)
    }

    pub(super) fn send_frame(&mut self, frame: &[u8]) -> Result<()> {
        let mut bytes = i32::try_from(frame.len())?.to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        // A broker may close before it has taken all; the answer tells.
        let _ = self.stream()?.write_all(&bytes);
        Ok(())
    }

    pub(super) fn receive_bytes(&mut self) -> Outcome<Bytes> {
        let read = |stream: &mut TcpStream| -> std::io::Result<Bytes> {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
            let mut body = vec![0; length];
            stream.read_exact(&mut body)?;
            Ok(body.into())
        };
        let done = match &mut self.stream {
            Some(stream) => read(stream),
            None => Err(ErrorKind::NotConnected.into()),
        };
        match done {
            Ok(bytes) => Outcome::Answer(bytes),
            Err(error) => {
                self.stream = None;
                match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Silent,
                    _ => Outcome::Closed,
                }
            }
        }
    }

    pub(super) fn receive<R: Request>(&mut self, version: i16) -> Outcome<R::Response> {
        let mut body = match self.receive_bytes() {
            Outcome::Answer(bytes) => bytes,
            Outcome::Closed => return Outcome::Closed,
            Outcome::Silent => return Outcome::Silent,
            Outcome::Unreadable(what) => return Outcome::Unreadable(what),
        };
        let whole = body.clone();
        let decoded = ResponseHeader::decode(&mut body, R::Response::header_version(version))
            .and_then(|_| R::Response::decode(&mut body, version));
        match decoded {
            Ok(answer) if !body.has_remaining() => Outcome::Answer(answer),
            Ok(_) => Outcome::Unreadable(format!("{} bytes too many", body.remaining())),
            Err(error) => Outcome::Unreadable(format!("not readable, {error}: {whole:02x?}")),
        }
    }
}
