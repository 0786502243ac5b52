//! What the packet programs are told of calls that they may pass over, and what they count of them.

use auditor_abi::{
    names,
    repeat::{self, Approval, Key},
};
use auditor_wire::segment::{Class, Segment, SocketId};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray},
};

use super::loader::{LoadError, map_error, take_map};

/// What is said of the programs' map of approvals when nothing may ever be passed over: the least that the kernel makes.
const NO_APPROVALS: u32 = 1;

/// The maps, and the key by which requests are told apart: random, so that nobody can make two that are taken for one.
pub(super) struct Sampling {
    key: Key,
    depth: Array<MapData, u64>,
    approved: HashMap<MapData, u64, Approval>,
    passed_over: PerCpuArray<MapData, u64>,
    one_of: u32,
    withdrawals: u32,
}

/// What the programs are loaded with.
pub(super) struct Loaded {
    key: Key,
    samples: u32,
}

impl Loaded {
    /// `samples`: calls may ever be passed over.
    pub(super) fn new(samples: bool) -> Result<Self, LoadError> {
        let mut key = [[0; 4]; 4];
        getrandom::fill(key.as_flattened_mut())
            .map_err(|error| LoadError::Object { message: format!("no random key for its hash: {error}") })?;
        Ok(Self { key: key.map(u32::from_ne_bytes), samples: u32::from(samples) })
    }

    pub(super) fn tell<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global(names::GLOBAL_SAMPLES, &self.samples, true);
        for (name, word) in names::GLOBALS_REPEAT_KEY.into_iter().zip(&self.key) {
            loader.override_global(name, word, true);
        }
        if self.samples == 0 {
            loader.map_max_entries(names::MAP_APPROVED, NO_APPROVALS);
        }
    }

    /// The maps; `None` where nothing may ever be passed over.
    pub(super) fn maps(self, ebpf: &mut Ebpf) -> Result<Option<Sampling>, LoadError> {
        if self.samples == 0 {
            return Ok(None);
        }
        Ok(Some(Sampling {
            key: self.key,
            depth: Array::try_from(take_map(ebpf, names::MAP_SAMPLING)?).map_err(map_error)?,
            approved: HashMap::try_from(take_map(ebpf, names::MAP_APPROVED)?).map_err(map_error)?,
            passed_over: PerCpuArray::try_from(take_map(ebpf, names::MAP_PASSED_OVER)?).map_err(map_error)?,
            one_of: 1,
            withdrawals: 0,
        }))
    }
}

impl Sampling {
    /// Of calls that repeat, one of so many is copied from now on. Whether that could be said.
    pub(super) fn sample(&mut self, one_of: u32) -> bool {
        self.one_of = one_of;
        self.tell()
    }

    /// No approval holds any more.
    pub(super) fn withdraw(&mut self) {
        self.withdrawals = self.withdrawals.wrapping_add(1);
        self.tell();
    }

    fn tell(&mut self) -> bool {
        let set = self.depth.set(0, repeat::sampling_word(self.one_of, self.withdrawals), 0);
        if let Err(error) = &set {
            tracing::error!(%error, "how deep calls are sampled cannot be set: it stays as it is");
        }
        set.is_ok()
    }

    /// What the programs know a request by that a segment carries alone; `None` where it cannot be passed over.
    pub(super) fn repeat(&self, segment: &Segment<'_>) -> Option<u64> {
        let whole = u32::try_from(segment.payload.len()) == Ok(segment.length) && !segment.fin && !segment.rst;
        if self.one_of <= 1 || segment.class != Class::Request || !whole {
            return None;
        }
        repeat::of_request(self.key, segment.socket.0, segment.payload)
    }

    /// Requests of a socket that are this one may be passed over until then, `CLOCK_MONOTONIC`, nanoseconds, where they are answered
    /// with this status.
    pub(super) fn approve(&mut self, socket: SocketId, request: u64, status: u16, until_ns: u64) {
        let seal = repeat::seal(self.key, request, repeat::status(status), until_ns, self.withdrawals);
        if let Err(error) = self.approved.insert(socket.0, [until_ns, seal], 0) {
            tracing::debug!(%error, "calls of a socket that may be passed over are not");
        }
    }

    /// None of a socket's calls may be passed over any more.
    pub(super) fn forbid(&mut self, socket: SocketId) {
        match self.approved.remove(&socket.0) {
            // The kernel has forgotten it for others.
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => {
                tracing::warn!(%error, "what was said of one socket cannot be taken back, so all is");
                self.withdraw();
            }
        }
    }

    /// Calls that were passed over since the programs were loaded.
    pub(super) fn passed_over(&self) -> u64 {
        self.passed_over.get(&0, 0).map_or(0, |counts| counts.iter().sum())
    }
}
