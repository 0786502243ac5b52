//! Calls that the source passed over because they repeat, and which it may pass over.

use crate::exchange::UnknownReason;
use crate::segment::{Class, PassedOver, Segment};
use crate::tracker::connection::{Connection, index};
use crate::tracker::view::View;

impl Connection {
    /// Goes on behind what was passed over before a segment.
    pub(super) fn resume(&mut self, segment: &Segment<'_>, views: &mut Vec<View>) {
        let Some(passed) = segment.passed_over else { return };
        let more = passed.calls.wrapping_sub(self.told_over);
        self.told_over = passed.calls;
        self.passed_over = self.passed_over.saturating_add(more);
        let plain = self.secure.is_none() && self.multiplex.is_none();
        let (Some(client), true) = (self.who.client, plain) else { return };
        let own = segment.direction;
        let certain = !segment.gap && !passed.doubtful && self.is_between_calls();
        for (direction, next) in [(own, segment.sequence), (own.opposite(), passed.next_other)] {
            let stream = &mut self.streams[index(direction)];
            stream.reassembly.jump(next);
            if certain {
                stream.parser.resume();
            } else if !stream.parser.is_deaf() {
                stream.parser.stray();
            }
        }
        if !certain {
            self.doubt(passed, views);
        } else if passed.request && own != client {
            self.pairing.passed_over(segment.time, std::mem::take(&mut self.passed_over));
        }
    }

    /// What was passed over is not known to be whole calls. Where they did not follow each other, no later response can be told to
    /// answer one request and not another.
    fn doubt(&mut self, passed: PassedOver, views: &mut Vec<View>) {
        let Some(client) = self.who.client else { return };
        if passed.doubtful {
            self.pairing.pipelines();
        }
        self.lost(UnknownReason::Gap, client, views);
    }

    /// Whether all that was read before is answered: no call is under way. Where a response ended may not be known.
    fn is_between_calls(&self) -> bool {
        let Some(client) = self.who.client else { return false };
        let requests = &self.streams[index(client)].parser;
        let responses = &self.streams[index(client.opposite())].parser;
        !self.pairing.is_waiting() && requests.is_idle() && (responses.is_idle() || responses.is_astray())
    }

    /// What a segment is known by that begins at the begin of a request, all of it copied, while no call is under way.
    pub(super) fn begins_alone(&self, segment: &Segment<'_>) -> Option<u64> {
        let repeat = segment.repeat?;
        let stream = &self.streams[index(segment.direction)];
        let whole = u32::try_from(segment.payload.len()) == Ok(segment.length) && !segment.fin && !segment.rst;
        let begins = stream.parser.is_idle() && stream.reassembly.next().is_none_or(|next| next == segment.sequence);
        (segment.class == Class::Request && whole && begins && !self.pairing.is_waiting()).then_some(repeat)
    }
}
