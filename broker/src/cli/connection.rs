//! One connection of a tool to one broker: a request at a time, in the newest version both know.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange,
};

use super::admin::ClientConfig;

/// Longest a tool waits for a connection or an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Larger answers than this are refused before memory is taken for them.
const MAX_RESPONSE_BYTES: usize = 1 << 30;

pub(crate) struct Connection {
    stream: TcpStream,
    client_id: StrBytes,
    correlation_id: i32,
    /// What the broker offers, by API key.
    offered: HashMap<i16, VersionRange>,
}

impl Connection {
    pub(crate) fn open(host: &str, port: u16, config: &ClientConfig) -> Result<Self> {
        let addresses: Vec<_> = (host, port)
            .to_socket_addrs()
            .with_context(|| format!("{host}: the name has no address"))?
            .collect();
        let mut failure = None;
        for address in &addresses {
            match TcpStream::connect_timeout(address, TIMEOUT) {
                Ok(stream) => return Self::start(stream, &config.client_id),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error).with_context(|| format!("{host}:{port}")),
            None => bail!("{host}: the name has no address"),
        }
    }

    fn start(stream: TcpStream, client_id: &str) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut connection = Self {
            stream,
            client_id: StrBytes::from_string(client_id.to_owned()),
            correlation_id: 0,
            offered: HashMap::new(),
        };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("ottla"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let response = connection.send_version(&request, 3)?;
        for api in &response.api_keys {
            connection.offered.insert(
                api.api_key,
                VersionRange {
                    min: api.min_version,
                    max: api.max_version,
                },
            );
        }
        Ok(connection)
    }

    /// What the broker offers, by API key.
    pub(crate) fn offered(&self) -> &HashMap<i16, VersionRange> {
        &self.offered
    }

    /// The newest version that the broker and our codec both know.
    pub(crate) fn version<R: Request>(&self) -> Result<i16> {
        let Some(offered) = self.offered.get(&R::KEY) else {
            bail!("the broker does not offer API {}", R::KEY);
        };
        let version = offered.max.min(R::VERSIONS.max);
        if version < offered.min || version < R::VERSIONS.min {
            bail!(
                "the broker offers no version of API {} that we know",
                R::KEY
            );
        }
        Ok(version)
    }

    pub(crate) fn send<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        let version = self.version::<R>()?;
        self.send_version(request, version)
    }

    pub(crate) fn send_version<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response> {
        self.write(request, version)?;
        self.read::<R>(version)
    }

    /// Sends without waiting for an answer: Produce with acks=0.
    pub(crate) fn write<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&[0; 4]);
        header.encode(&mut frame, R::header_version(version))?;
        request.encode(&mut frame, version)?;
        let length = i32::try_from(frame.len() - 4)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)?;
        Ok(())
    }

    fn read<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        if length > MAX_RESPONSE_BYTES {
            bail!("the broker announced a response of {length} bytes");
        }
        let mut frame = Vec::new();
        (&mut self.stream)
            .take(length as u64)
            .read_to_end(&mut frame)?;
        let mut frame = Bytes::from(frame);
        if frame.len() < length {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the broker closed the connection in the middle of a response",
            )
            .into());
        }
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version))?;
        if header.correlation_id != self.correlation_id {
            bail!(
                "the broker answered request {} instead of {}",
                header.correlation_id,
                self.correlation_id
            );
        }
        let response = R::Response::decode(&mut frame, version)?;
        debug_assert!(!frame.has_remaining());
        Ok(response)
    }
}
