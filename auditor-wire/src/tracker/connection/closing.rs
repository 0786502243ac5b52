//! What is told of a connection when no more of it comes.

use crate::exchange::UnknownReason;
use crate::limits::Limits;
use crate::reassembly::Need;
use crate::segment::Direction;
use crate::tracker::connection::{Connection, exchanges, index};
use crate::tracker::view::View;

impl Connection {
    /// Tells of all calls that wait for their response.
    pub(super) fn flush(&mut self, reason: Option<UnknownReason>, views: &mut Vec<View>) {
        // In what was not copied of a body's segments the next response may have begun.
        let hidden = !self.complete
            && self
                .who
                .client
                .is_some_and(|client| self.streams[index(client.opposite())].parser.need() != Need::Bytes);
        let reason = reason.or(hidden.then_some(UnknownReason::Gap));
        self.pairing.flush(reason, &mut exchanges(views));
    }

    /// Ends all that is pending: `None` when the connection has ended, else why it is given up.
    pub(crate) fn close(&mut self, reason: Option<UnknownReason>, views: &mut Vec<View>) {
        self.flush(reason, views);
        self.tell_secure(views);
        self.end_multiplex(reason, views);
        self.report_other(views);
    }

    /// Gives up what waits, then ends all that is pending.
    pub(crate) fn finish(&mut self, reason: Option<UnknownReason>, limits: &Limits, views: &mut Vec<View>) {
        self.give_up_waiting(limits, views);
        for direction in [Direction::Egress, Direction::Ingress] {
            let event = self.streams[index(direction)].parser.give_up(UnknownReason::HeadTruncated);
            self.happens(event, direction, limits, views);
        }
        self.close(reason, views);
    }
}
