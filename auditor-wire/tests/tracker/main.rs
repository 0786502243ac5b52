//! The tracker from the outside: segments in, observations out.

mod conversations;
mod http2;
mod keepalive;
mod lasting;
mod live;
mod loss;
mod properties;
mod repeats;
mod secure;
mod smuggling;
mod talk;
mod unasked;
