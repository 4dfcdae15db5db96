//! What others say to a store: each message is handed to the part that it concerns.

use super::chunks::Chunks;
use super::gate::{Gate, GatewayCall};
use super::hello::SetBack;
use super::serving::{Host, Serving};
use crate::cluster::ROOT_RANGE;
use crate::directory::Standing;
use crate::effects::{Effect, Effects, Now};
use crate::ids::{CallId, Endpoint, LogIndex, StoreId};
use crate::message::{
    BlobAnswer, ChunkAsk, ChunkError, ChunkPulled, Envelope, Hello, Message, RangeAnswer,
    RangeCall, Refusal,
};
use crate::storage::Look;
use crate::time::Instant;

impl Serving {
    pub(super) fn on_message(
        &mut self,
        now: Now,
        envelope: Envelope,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let from = envelope.from;
        if let Message::Hello(hello) = &envelope.message {
            return self.on_hello(now, from, hello, fx);
        }
        if let Err(error) = self.host.config.levels.understand(envelope.message.level()) {
            // A build of that time would not have known what this is.
            fx.push(Effect::Note(format!("a message of {from} is dropped: {error}")));
            return Ok(());
        }
        if !self.host.peers.admits(from) {
            // Its hello was lost, or is overtaken, or did not match. It asks again.
            if self.host.peers.repeat(now.instant, from, true) {
                self.greet(now, from, true, fx);
            }
            return Ok(());
        }
        match envelope.message {
            Message::Hello(_) => {}
            Message::Consensus { wall, messages } => {
                let Endpoint::Store(peer) = from else { return Ok(()) };
                if !self.knows(peer) {
                    return Ok(());
                }
                let clock = self.host.peer_clocks.entry(peer).or_default();
                *clock = (*clock).max(wall);
                for (range, message) in messages {
                    let addressed = message.from == peer && message.to == self.host.config.store;
                    if addressed && !self.replicas.contains_key(&range) {
                        self.replica_on_demand(now, range, &message, fx)?;
                    }
                    if let (true, Some(replica)) = (addressed, self.replicas.get_mut(&range)) {
                        replica.on_message(now, message, &mut self.host, fx)?;
                    }
                }
            }
            Message::RangeCall(call) => self.on_call(now, from, call, fx)?,
            Message::RangeAnswer(answer) => {
                // We passed the call on; the answer goes back the way it came.
                let origin = Endpoint::Gateway(answer.origin);
                self.host.send(origin, Message::RangeAnswer(answer), fx);
            }
            Message::SnapshotAsk(ask) => {
                let Endpoint::Store(peer) = from else { return Ok(()) };
                match self.replicas.get_mut(&ask.range) {
                    Some(replica) => {
                        replica.on_snapshot_ask(now, peer, ask, &mut self.host, fx);
                    }
                    None => {
                        if let Some(page) = super::snapshot::gone(&ask) {
                            self.host.send(from, Message::SnapshotPage(page), fx);
                        }
                    }
                }
            }
            Message::SnapshotPage(page) => {
                if let (Endpoint::Store(peer), Some(replica)) =
                    (from, self.replicas.get_mut(&page.range))
                {
                    replica.on_snapshot_page(now, peer, page, &mut self.host, fx)?;
                }
            }
            Message::ChunkWrite(write) => {
                let call = GatewayCall::Write(write);
                self.on_chunk_call(now, Gate::until(now.instant), from, call, fx);
            }
            Message::ChunkRead(read) => {
                let call = GatewayCall::Read(read);
                self.on_chunk_call(now, Gate::until(now.instant), from, call, fx);
            }
            message @ (Message::Ping(_) | Message::Pong(_)) => {
                self.on_pulse(now, from, message, fx)
            }
            // Replies go to gateways.
            Message::ChunkWritten(_) | Message::ChunkData(_) | Message::ChunkChecked(_) => {}
            Message::DirectoryAsk { have } => self.on_directory_ask(from, have, fx),
            Message::DirectoryAnswer(directory) => {
                if let (Endpoint::Store(_), Some(directory)) = (from, directory) {
                    self.take_directory(now, *directory, fx);
                }
            }
            Message::ChunkPull(ask) if self.reclaim.has_freed(ask.chunk.blob) => {
                let ChunkAsk { call, chunk } = ask;
                let (store, result) = (self.host.config.store, Err(ChunkError::Freed));
                let directory = self.host.directory.version();
                let pulled = ChunkPulled { call, chunk, store, directory, result };
                self.host.send(from, Message::ChunkPulled(pulled), fx);
            }
            Message::ChunkPull(ask) => {
                self.chunks.look(from, &ask, Look::Copy, &mut self.host, fx);
            }
            Message::ChunkCheck(ask) => {
                self.chunks.look(from, &ask, Look::Check, &mut self.host, fx);
            }
            message @ (Message::BlobAsk(_)
            | Message::BlobAnswer(_)
            | Message::BlobFree(_)
            | Message::BlobFreed(_)) => {
                if let Endpoint::Store(peer) = from {
                    self.on_blobs(now, peer, message, fx)?;
                }
            }
            Message::BlobsLeft(blobs) => self.reclaim.left(now, blobs),
            Message::ChunkRepair(repair) if repair.call == CallId(0) => {
                probe!(LateHint);
                self.repair.told(now, from, &repair, &self.host, fx);
            }
            Message::ChunkRepair(repair) => self.repair.told(now, from, &repair, &self.host, fx),
            Message::ChunkPulled(pulled) => self.repair.pulled(now, pulled, &mut self.host, fx),
            Message::InventoryAsk(ask) => {
                if let Endpoint::Store(peer) = from {
                    self.repair.asked(peer, ask, &mut self.host, fx);
                }
            }
            Message::MapProven { epoch } => {
                if let Endpoint::Store(peer) = from {
                    self.proofs.hear(peer, epoch, self.host.map());
                }
            }
            Message::InventoryAnswer(answer) => {
                if let Endpoint::Store(peer) = from {
                    self.repair.answered(now, peer, answer, &mut self.host);
                }
            }
        }
        Ok(())
    }

    /// A gateway's chunk call, if its session may make it.
    pub(super) fn on_chunk_call(
        &mut self,
        now: Now,
        until: Instant,
        from: Endpoint,
        call: GatewayCall,
        fx: &mut Effects,
    ) {
        let standing = self.host.directory.standing(call.session());
        match standing {
            Standing::Live if self.gate.has_room(&call) && buggify!(LiveCallHeld, hot) => {
                self.gate.hold(until, from, call);
            }
            Standing::Live => {
                let replace = match &call {
                    GatewayCall::Write(write) => {
                        self.reclaim.writes(write.chunk.blob, &write.owner);
                        self.repair.is_damaged(write.chunk)
                    }
                    GatewayCall::Read(_) => false,
                };
                self.chunks.call(from, call, replace, &mut self.host, fx);
            }
            Standing::Fenced => Chunks::refuse(from, &call, ChunkError::Fenced, &self.host, fx),
            Standing::Unknown if !self.gate.has_room(&call) => {
                Chunks::refuse(from, &call, ChunkError::Overloaded, &self.host, fx);
            }
            Standing::Unknown => {
                probe!(CallHeld);
                self.gate.hold(until, from, call);
                if until > now.instant {
                    self.host.directory.want_newer();
                }
            }
        }
    }

    /// What is said about blobs that may be freed.
    pub(super) fn on_blobs(
        &mut self,
        now: Now,
        from: StoreId,
        message: Message,
        fx: &mut Effects,
    ) -> Result<(), String> {
        match message {
            Message::BlobAsk(ask) => match self.replicas.get_mut(&ROOT_RANGE) {
                Some(replica) => replica.ask_blobs(now, from, ask, &mut self.host, fx)?,
                None => {
                    let answer = BlobAnswer { call: ask.call, result: Err(None) };
                    self.host.tell(from, Message::BlobAnswer(answer), fx);
                }
            },
            Message::BlobAnswer(answer) => {
                let Self { reclaim, repair, host, .. } = self;
                reclaim.answered(now, from, answer, repair, host, fx);
            }
            Message::BlobFree(free) => self.reclaim.free(now, from, free, &mut self.host, fx),
            Message::BlobFreed(freed) => {
                if let Some(replica) = self.replicas.get_mut(&ROOT_RANGE) {
                    replica.blobs_freed(from, &freed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Any voter's applied state is good enough.
    fn on_directory_ask(&self, from: Endpoint, have: LogIndex, fx: &mut Effects) {
        let newer = self.host.directory.held().filter(|held| held.version > have);
        let answer = newer.map(|directory| Box::new(directory.clone()));
        self.host.send(from, Message::DirectoryAnswer(answer), fx);
    }

    fn on_hello(
        &mut self,
        now: Now,
        from: Endpoint,
        hello: &Hello,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let is_member = matches!(from, Endpoint::Store(peer)
            if self.replicas.values().any(|replica| replica.members().any(|member| member == peer)));
        let blank = self.founding.is_blank();
        let Host { config, peers, directory, .. } = &mut self.host;
        let map = directory.map();
        let heard = peers.on_hello(now.instant, from, hello, config, map, is_member, blank);
        if let Some(note) = heard.note {
            fx.push(Effect::Note(note));
        }
        if heard.reply {
            self.greet(now, from, false, fx);
        }
        if let Some(reason) = heard.foreign {
            return Err(reason);
        }
        if let Some(SetBack { above, reason }) = heard.set_back {
            probe!(SetBackHeard);
            let ticket = self.host.storage.distrust(above);
            self.distrust = Some((ticket, reason));
            return Ok(());
        }
        // What two blank disks remember of each other is of no account.
        let Host { peers, directory, storage, .. } = &mut self.host;
        if heard.accepted
            && !blank
            && let Some(marks) = peers.marks_due(now.instant, directory.map())
        {
            storage.remember_peers(marks);
        }
        if let (true, Endpoint::Store(peer)) = (heard.accepted, from) {
            self.founding.hear(peer, &hello.beginning);
            self.look_for_cluster(now, fx)?;
        }
        Ok(())
    }

    fn on_call(
        &mut self,
        now: Now,
        from: Endpoint,
        call: RangeCall,
        fx: &mut Effects,
    ) -> Result<(), String> {
        match self.replicas.get_mut(&call.range) {
            Some(replica) => replica.on_call(now, from, call, &mut self.host, fx),
            None => {
                let answer = RangeAnswer {
                    call: call.call,
                    origin: call.origin,
                    range: call.range,
                    by: self.host.config.store,
                    result: Err(Refusal::NotLeader { leader: None }),
                };
                self.host.send(from, Message::RangeAnswer(answer), fx);
                Ok(())
            }
        }
    }
}
