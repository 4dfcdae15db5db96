//! A small S3 client: one connection, requests signed by SigV4 in their headers.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// How long an answer may take. A server that is killed closes its connections at once.
const PATIENCE: Duration = Duration::from_secs(60);

const SIGNED_HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";

/// A client with a connection that it keeps.
pub(crate) struct Client {
    address: String,
    access: String,
    secret: String,
    connection: Option<BufReader<TcpStream>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// From the status line to the last header.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: &str, access: &str, secret: &str) -> Self {
        let [address, access, secret] = [address, access, secret].map(str::to_owned);
        Self { address, access, secret, connection: None }
    }

    /// Send a request and wait for all of its answer.
    ///
    /// `target` is a path of unreserved characters, with a query in canonical order if any.
    ///
    /// # Errors
    /// If there was no whole answer. The next request opens a new connection.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> io::Result<Response> {
        let head = self.head(method, target, body);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        connection.get_mut().write_all(&message)?;
        let response = read_response(&mut connection, method)?;
        self.connection = Some(connection);
        Ok(response)
    }

    /// The head of a signed request, up to the empty line.
    pub(crate) fn head(&self, method: &str, target: &str, body: &[u8]) -> String {
        let (date, time) = now();
        let hash = hex(&Sha256::digest(body));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{}\nx-amz-content-sha256:{hash}\nx-amz-date:{time}\n\n\
             {SIGNED_HEADERS}\n{hash}",
            self.address
        );
        let scope = format!("{date}/us-east-1/s3/aws4_request");
        let digest = hex(&Sha256::digest(canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let key = [&date, "us-east-1", "s3", "aws4_request"]
            .iter()
            .fold(format!("AWS4{}", self.secret).into_bytes(), |key, part| hmac(&key, part));
        let signature = hex(&hmac(&key, &to_sign));
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\
             x-amz-content-sha256: {hash}\r\nx-amz-date: {time}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, \
             SignedHeaders={SIGNED_HEADERS}, Signature={signature}\r\n\r\n",
            self.address,
            body.len(),
            self.access
        )
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(BufReader::with_capacity(64 << 10, stream))
    }
}

/// Read an answer whose length is told.
///
/// # Errors
/// If it breaks off, or is no HTTP.
pub(crate) fn read_response(from: &mut impl BufRead, method: &str) -> io::Result<Response> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status: u16 = status.ok_or_else(|| broken("the answer broke off"))?;
    let (mut length, mut head) = (0, String::new());
    loop {
        head.push_str(&line);
        line.clear();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| broken("content-length"))?;
        }
        assert!(!name.eq_ignore_ascii_case("transfer-encoding"), "answers tell their length");
    }
    let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
    from.read_exact(&mut body)?;
    Ok(Response { status, head, body })
}

impl Response {
    /// A header's value, without quotes.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim().trim_matches('"'))
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20260102` and `20260102T030405Z`.
fn now() -> (String, String) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // From days to a date by Hinnant's algorithm (<https://howardhinnant.github.io/date_algorithms.html>).
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let date = format!("{year:04}{month:02}{day:02}");
    let time = format!("{date}T{hour:02}{minute:02}{second:02}Z");
    (date, time)
}
