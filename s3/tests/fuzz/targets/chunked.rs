//! Bodies in `aws-chunked`, signed and unsigned, with and without trailers, cut anywhere.
//!
//! Input: a byte of flags; what the header says of the length, as a difference from the truth (2 bytes,
//! signed); two sizes of pieces (2 bytes each, one after the other in turn); then what the body is made of,
//! an instruction each:
//! a fair chunk, the last chunk, a trailer, or bytes as they are.

use base64::Engine as _;

use super::support::client::{UNSIGNED_CHUNKS, plan};
use super::support::signing::Moment;
use super::{run as run_async, tell, with_object};

const SIGNED: u8 = 1;
const TRAILER: u8 = 2;
/// Of what a body may be made.
const INSTRUCTIONS_MAX: usize = 48;
const CHUNK_MAX: usize = 0x3_0000;
/// Most bytes of a body that are in memory at a time: a signed chunk that goes on as it is (128 KiB), what
/// the gateway grants (100,000), and pieces on their way.
const HELD_MAX: usize = (128 << 10) + 100_000 + 4 * PIECE_MAX;
const PIECE_MAX: usize = 48 << 10;

/// A body in the making, and whether it is fair so far.
struct Body {
    moment: Moment,
    signature: Option<String>,
    bytes: Vec<u8>,
    data: Vec<u8>,
    fair: bool,
    ended: bool,
}

impl Body {
    /// A chunk; without data it is the last one.
    fn chunk(&mut self, data: &[u8]) {
        self.fair &= !self.ended;
        let mut line = format!("{:x}", data.len());
        if let Some(signature) = &mut self.signature {
            *signature = self.moment.sign_chunk(signature, data);
            line = format!("{line};chunk-signature={signature}");
        }
        self.bytes.extend_from_slice(line.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
        if data.is_empty() {
            self.ended = true;
        } else {
            self.data.extend_from_slice(data);
            self.bytes.extend_from_slice(data);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// The last chunk, the trailer if there shall be one, the end.
    fn end(&mut self, with_trailer: bool) {
        self.chunk(b"");
        if with_trailer {
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &self.data);
            let crc = u32::try_from(crc).unwrap().to_be_bytes();
            let value = base64::engine::general_purpose::STANDARD.encode(crc);
            self.bytes.extend_from_slice(format!("{NAME}:{value}\r\n").as_bytes());
            if let Some(signature) = &mut self.signature {
                *signature = self.moment.sign_trailers(signature, &format!("{NAME}:{value}\n"));
                let line = format!("x-amz-trailer-signature:{signature}\r\n");
                self.bytes.extend_from_slice(line.as_bytes());
            }
        }
        self.bytes.extend_from_slice(b"\r\n");
    }
}

const NAME: &str = "x-amz-checksum-crc32";

pub(crate) fn run(input: &[u8]) -> bool {
    let [flags, low, high, a, b, c, d, rest @ ..] = input else { return false };
    let (signed, with_trailer) = (flags & SIGNED != 0, flags & TRAILER != 0);
    let difference = i64::from(i16::from_le_bytes([*low, *high]));
    let sizes = [u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d])];
    let sizes = sizes.map(|size| usize::from(size).clamp(1, PIECE_MAX));
    // The length is under the signature, from which those of the chunks follow: first how much there is.
    let length = body(rest, with_trailer, Moment::now(), None).data.len();
    let declared = i64::try_from(length).unwrap() + difference;
    let mut put =
        plan("PUT", "/bucket/k", "").header("x-amz-decoded-content-length", &declared.to_string());
    if with_trailer {
        put = put.header("x-amz-trailer", NAME);
    }
    let put = put.payload(match (signed, with_trailer) {
        (true, true) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        (true, false) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        (false, _) => UNSIGNED_CHUNKS,
    });
    let mut request = put.sign();
    let header = |name: &str| {
        let found = request.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let moment = Moment { date: header("x-amz-date") };
    let authorization = header("authorization");
    let signature = authorization.rsplit_once('=').map(|(_, signature)| signature.to_owned());
    let body = body(rest, with_trailer, moment, signature.filter(|_| signed));
    request.headers.push(("content-length".to_owned(), body.bytes.len().to_string()));
    run_async(async {
        let mut pieces = Vec::new();
        let mut left = body.bytes.as_slice();
        for size in sizes.iter().cycle() {
            if left.is_empty() {
                break;
            }
            // Not more pieces than there is time for.
            let size = (*size).max(body.bytes.len() / 400);
            let (piece, behind) = left.split_at(size.min(left.len()).min(PIECE_MAX));
            pieces.push(piece.to_vec());
            left = behind;
        }
        let service = with_object().await;
        let cut = tell(&service, &request, pieces).await;
        let get = plan("GET", "/bucket/k", "").sign();
        let found = tell(&service, &get, None).await.bytes;
        let whole = body.bytes.chunks(PIECE_MAX).map(<[u8]>::to_vec);
        let whole = tell(&with_object().await, &request, whole).await;
        assert_eq!((cut.status, &cut.code), (whole.status, &whole.code), "cut and whole");
        assert!(cut.held < HELD_MAX, "{} bytes held", cut.held);
        match cut.status {
            200 => {
                assert_eq!(i64::try_from(found.len()).unwrap(), declared);
                assert!(!body.fair || found == body.data);
            }
            400 | 403 => assert_eq!(found, b"0123456789", "what was there stays"),
            other => panic!("{other}: {}", cut.text),
        }
        let must = body.fair && difference == 0 && (with_trailer || signed);
        assert!(!must || cut.status == 200, "a fair body is refused: {} {}", cut.status, cut.text);
        cut.status == 200
    })
}

/// What the instructions say.
fn body(program: &[u8], with_trailer: bool, moment: Moment, signature: Option<String>) -> Body {
    let (bytes, data) = (Vec::new(), Vec::new());
    let mut body = Body { moment, signature, bytes, data, fair: true, ended: false };
    let mut rest = program;
    for _ in 0..INSTRUCTIONS_MAX {
        let [instruction, low, high, behind @ ..] = rest else { break };
        rest = behind;
        let number = usize::from(u16::from_le_bytes([*low, *high]));
        match instruction % 4 {
            // Sizes up to three times that of the pieces that large chunks are cut into.
            0 => {
                let size = (number * 4).min(CHUNK_MAX - 1) + 1;
                if body.data.len() + size > 2 * CHUNK_MAX {
                    continue;
                }
                let data: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
                body.chunk(&data);
            }
            1 => {
                let size = number % 64 + 1;
                body.chunk(&vec![b'x'; size]);
            }
            2 => {
                let (raw, behind) = rest.split_at((number % 96).min(rest.len()));
                rest = behind;
                body.fair &= raw.is_empty();
                body.bytes.extend_from_slice(raw);
            }
            _ => {
                body.fair &= !body.ended;
                body.chunk(b"");
            }
        }
    }
    if body.ended {
        // An end without what belongs behind it.
        body.fair = false;
    } else {
        body.end(with_trailer);
    }
    body
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let raws: [&[u8]; 10] = [
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"\r",
        b"x-amz-checksum-crc32:NhCmhg==\r\n",
        b"5;chunk-signature=",
        b"ffffffffffffffff\r\n",
        b"00000000000000005\r\n",
        b"-1\r\n",
        b":\r\n",
        b"5 ;a=b\r\nhello\r\n",
    ];
    let mut seeds = Vec::new();
    for flags in 0..4 {
        let head = [flags, 0, 0, 7, 0, 0, 4];
        for program in [&[1, 4, 0][..], &[0, 0, 0x40, 1, 9, 0], &[0, 0xff, 0x9f, 0, 1, 0], &[]] {
            seeds.push([&head[..], program].concat());
        }
        for raw in raws {
            let len = u8::try_from(raw.len()).unwrap();
            seeds.push([&head[..], &[2, len, 0], raw].concat());
            seeds.push([&head[..], &[1, 4, 0, 3, 0, 0, 2, len, 0], raw].concat());
        }
        seeds.push([&[flags, 1, 0, 7, 0, 0, 4][..], &[1, 4, 0]].concat());
        seeds.push([&[flags, 0xff, 0xff, 1, 0, 1, 0][..], &[1, 4, 0]].concat());
    }
    seeds
}
