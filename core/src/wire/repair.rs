//! The bytes of what stores say to each other about chunks, inventories and the directory.

use bytes::Bytes;

use super::message::{
    BLOCKS_MAX, CHUNK_CHECK, CHUNK_CHECKED, CHUNK_PULL, CHUNK_PULLED, CHUNK_REPAIR,
    DIRECTORY_ANSWER, DIRECTORY_ASK, INVENTORY_ANSWER, INVENTORY_ASK, MAP_PROVEN,
    decode_chunk_result, encode_chunk_result,
};
use crate::cluster::FOUNDERS_MAX;
use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::directory::Directory;
use crate::ids::ChunkId;
use crate::message::{
    Beginning, ChunkAsk, ChunkChecked, ChunkCopy, ChunkPulled, ChunkRepair, ChunkSummary,
    INVENTORY_IDS_MAX, InventoryAnswer, InventoryAsk, InventoryDigest, InventoryResult, Life,
    Message, REPAIR_SOURCES_MAX, StoreMark,
};

/// Everything of a message of these kinds but its bulk; nothing for any other kind.
pub(super) fn encode(message: &Message, out: &mut Encoder) {
    match message {
        Message::DirectoryAsk { have } => have.encode(out),
        Message::DirectoryAnswer(directory) => match directory {
            None => out.u8(0),
            Some(directory) => {
                out.u8(1);
                directory.encode(out);
            }
        },
        Message::ChunkPull(ask) | Message::ChunkCheck(ask) => {
            ask.call.encode(out);
            ask.chunk.encode(out);
        }
        Message::ChunkPulled(pulled) => {
            pulled.call.encode(out);
            pulled.chunk.encode(out);
            pulled.store.encode(out);
            pulled.directory.encode(out);
            let result = pulled.result.as_ref();
            encode_chunk_result(&result.map(|_| ()).map_err(|error| *error), out);
            if let Ok(copy) = result {
                copy.owner.encode(out);
                copy.epoch.encode(out);
                copy.block_size.encode(out);
                out.list(&copy.checksums);
            }
        }
        Message::ChunkRepair(repair) => {
            repair.call.encode(out);
            repair.chunk.encode(out);
            repair.existed.encode(out);
            out.list(&repair.sources);
        }
        Message::ChunkChecked(checked) => {
            checked.call.encode(out);
            checked.chunk.encode(out);
            checked.store.encode(out);
            encode_chunk_result(&checked.result.map(|_| ()), out);
            if let Ok(summary) = checked.result {
                summary.length.encode(out);
                summary.digest.encode(out);
            }
        }
        Message::MapProven { epoch } => epoch.encode(out),
        Message::InventoryAsk(ask) => {
            ask.call.encode(out);
            ask.epoch.encode(out);
            ask.from.encode(out);
            ask.to.encode(out);
            ask.count.encode(out);
            out.u128(ask.digest.0);
        }
        Message::InventoryAnswer(answer) => {
            answer.call.encode(out);
            answer.epoch.encode(out);
            match &answer.result {
                InventoryResult::Same => out.u8(0),
                InventoryResult::Differs { to, chunks } => {
                    out.u8(1);
                    to.encode(out);
                    out.list(chunks);
                }
                InventoryResult::NotNow => out.u8(2),
            }
        }
        _ => {}
    }
}

/// A message of one of these kinds.
pub(super) fn decode(
    kind: u8,
    input: &mut Decoder<'_>,
    bulk: Bytes,
) -> Result<Message, DecodeError> {
    Ok(match kind {
        DIRECTORY_ASK => Message::DirectoryAsk { have: Wire::decode(input)? },
        DIRECTORY_ANSWER => Message::DirectoryAnswer(match input.u8()? {
            0 => None,
            1 => Some(Box::new(Directory::decode(input)?)),
            tag => return Err(DecodeError::Tag { what: "directory answer", tag }),
        }),
        MAP_PROVEN => Message::MapProven { epoch: Wire::decode(input)? },
        CHUNK_PULL => Message::ChunkPull(decode_ask(input)?),
        CHUNK_CHECK => Message::ChunkCheck(decode_ask(input)?),
        CHUNK_PULLED => {
            let (call, chunk) = (Wire::decode(input)?, Wire::decode(input)?);
            let (store, directory) = (Wire::decode(input)?, Wire::decode(input)?);
            let result = match decode_chunk_result(input)? {
                Ok(()) => Ok(ChunkCopy {
                    owner: Wire::decode(input)?,
                    epoch: Wire::decode(input)?,
                    block_size: Wire::decode(input)?,
                    checksums: input.list("block checksums", BLOCKS_MAX)?,
                    data: bulk,
                }),
                Err(_) if !bulk.is_empty() => {
                    return Err(DecodeError::Invalid { what: "bulk of a failed pull" });
                }
                Err(error) => Err(error),
            };
            Message::ChunkPulled(ChunkPulled { call, chunk, store, directory, result })
        }
        CHUNK_REPAIR => Message::ChunkRepair(ChunkRepair {
            call: Wire::decode(input)?,
            chunk: Wire::decode(input)?,
            existed: Wire::decode(input)?,
            sources: input.list("sources of a repair", REPAIR_SOURCES_MAX)?,
        }),
        CHUNK_CHECKED => Message::ChunkChecked(ChunkChecked {
            call: Wire::decode(input)?,
            chunk: Wire::decode(input)?,
            store: Wire::decode(input)?,
            result: match decode_chunk_result(input)? {
                Ok(()) => {
                    Ok(ChunkSummary { length: Wire::decode(input)?, digest: Wire::decode(input)? })
                }
                Err(error) => Err(error),
            },
        }),
        INVENTORY_ASK => Message::InventoryAsk(InventoryAsk {
            call: Wire::decode(input)?,
            epoch: Wire::decode(input)?,
            from: Wire::decode(input)?,
            to: Wire::decode(input)?,
            count: Wire::decode(input)?,
            digest: InventoryDigest(input.u128()?),
        }),
        INVENTORY_ANSWER => Message::InventoryAnswer(InventoryAnswer {
            call: Wire::decode(input)?,
            epoch: Wire::decode(input)?,
            result: match input.u8()? {
                0 => InventoryResult::Same,
                1 => {
                    let to = Wire::decode(input)?;
                    let chunks: Vec<ChunkId> = input.list("inventory", INVENTORY_IDS_MAX)?;
                    if !chunks.is_sorted_by(|a, b| a < b) {
                        return Err(DecodeError::Invalid { what: "order of an inventory" });
                    }
                    InventoryResult::Differs { to, chunks }
                }
                2 => InventoryResult::NotNow,
                tag => return Err(DecodeError::Tag { what: "inventory answer", tag }),
            },
        }),
        tag => return Err(DecodeError::Tag { what: "message kind", tag }),
    })
}

fn decode_ask(input: &mut Decoder<'_>) -> Result<ChunkAsk, DecodeError> {
    Ok(ChunkAsk { call: Wire::decode(input)?, chunk: Wire::decode(input)? })
}

impl Wire for Beginning {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Unknown => out.u8(0),
            Self::Blank(births) => {
                out.u8(1);
                out.list(births);
            }
            Self::Begun(births) => {
                out.u8(2);
                out.list(births);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            0 => Ok(Self::Unknown),
            1 => Ok(Self::Blank(input.list("births", FOUNDERS_MAX)?)),
            2 => Ok(Self::Begun(input.list("births", FOUNDERS_MAX)?)),
            tag => Err(DecodeError::Tag { what: "beginning", tag }),
        }
    }
}

impl Wire for Life {
    fn encode(&self, out: &mut Encoder) {
        self.incarnation.encode(out);
        self.nonce.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { incarnation: Wire::decode(input)?, nonce: Wire::decode(input)? })
    }
}

impl Wire for StoreMark {
    fn encode(&self, out: &mut Encoder) {
        self.incarnation.encode(out);
        self.nonce.encode(out);
        self.synced.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            incarnation: Wire::decode(input)?,
            nonce: Wire::decode(input)?,
            synced: Wire::decode(input)?,
        })
    }
}
